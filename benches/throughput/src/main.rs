//! The same client over loopback with a static header and with this layer, in turn: requests per second, p99 and CPU, as ratios
//! to the static header.
//!
//!     throughput [ROUNDS]
//!
//! The server and the client have one thread each. A round is one slice of 1 024 requests for each way, in a new random order, so
//! that other load on the machine affects all ways. Ratios are computed within a round, and medians over the rounds. All ways
//! share one hyper-util client and its connections. The static header runs twice in each round. The difference of its second row
//! from 1 is the error of the figures.

mod server;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustix::time::{ClockId, clock_gettime};
use tower_bearer_auth::{FixedToken, TokenSource, replay};
use tower_http::auth::AddAuthorizationLayer;
use tower_layer::Layer;
use tower_service::Service;

const TOKEN: &str = "opaque-token-of-43-characters-0123456789abc";
const STAMP: &str = "Bearer opaque-token-of-43-characters-0123456789abc";
const SLICE: usize = 1_024;
const IN_FLIGHT: usize = 32;
const WARM_UP: usize = 50;
const MARK: f64 = 0.97;

type Http = Client<HttpConnector, Full<Bytes>>;
type Body = Full<Bytes>;

#[derive(Clone, Copy)]
struct Slice {
    took: Duration,
    p99: Duration,
    cpu: Duration,
}

fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).expect("forward"), u32::try_from(spent.tv_nsec).expect("below a second"))
}

fn request(address: SocketAddr) -> Request<Body> {
    Request::get(format!("http://{address}/things?page=2"))
        .header("accept", "application/json")
        .body(Full::default())
        .expect("a request")
}

/// Sends one slice of requests, 32 of them in flight. The requests are created before.
async fn slice<S>(service: &S, address: SocketAddr) -> Slice
where
    S: Service<Request<Body>, Response = Response<Incoming>> + Clone,
    S::Error: std::fmt::Debug,
{
    let lanes: Vec<Vec<_>> =
        (0..IN_FLIGHT).map(|_| (0..SLICE / IN_FLIGHT).map(|_| request(address)).collect()).collect();
    let (start, spent) = (Instant::now(), cpu());
    let lanes = lanes.into_iter().map(|requests| {
        let mut service = service.clone();
        async move {
            let mut times = Vec::with_capacity(requests.len());
            for request in requests {
                let start = Instant::now();
                std::future::poll_fn(|cx| service.poll_ready(cx)).await.expect("a client");
                let response = service.call(request).await.expect("a response");
                assert_eq!(response.status(), 200);
                let body = response.into_body().collect().await.expect("a body").to_bytes();
                assert!(!body.is_empty());
                times.push(start.elapsed());
            }
            times
        }
    });
    let mut times: Vec<_> = join_all(lanes).await.into_iter().flatten().collect();
    let (took, cpu) = (start.elapsed(), cpu() - spent);
    times.sort_unstable();
    Slice { took, p99: times[times.len() * 99 / 100], cpu }
}

/// The lower quartile, the median and the upper quartile.
fn quartiles(mut numbers: Vec<f64>) -> [f64; 3] {
    numbers.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|part| numbers[numbers.len() * part / 4])
}

fn format_ratio([low, median, high]: [f64; 3]) -> String {
    format!("{median:.3} ({low:.3} to {high:.3})")
}

/// Prints the rows of a protocol and returns whether the mark is met.
async fn compare(name: &str, version: Version, rounds: usize) -> bool {
    let (address, counts) = server::start(version, STAMP);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let mut builder = Client::builder(TokioExecutor::new());
    let client: Http = builder.http2_only(version == Version::HTTP_2).build(connector);

    let source = TokenSource::new(FixedToken::new(TOKEN).expect("a token"));
    source.token().await.expect("a token");
    // HTTP without TLS is allowed to loopback.
    let layer = source.layer().allow_origin(&format!("http://{address}")).expect("an origin");
    let fixed = AddAuthorizationLayer::bearer(TOKEN).layer(client.clone());
    let off = layer.clone().bodies(replay::Off).layer(client.clone());
    let empty = layer.layer(client);

    let mut slices: [Vec<Slice>; 4] = Default::default();
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..WARM_UP + rounds {
        let mut order = [0, 1, 2, 3];
        rng.shuffle(&mut order);
        for way in order {
            let slice = match way {
                0 | 1 => slice(&fixed, address).await,
                2 => slice(&off, address).await,
                _ => slice(&empty, address).await,
            };
            if round >= WARM_UP {
                slices[way].push(slice);
            }
        }
    }
    assert_eq!(counts.bad(), 0, "requests with another protocol or header arrived");
    assert_eq!(counts.good(), (4 * SLICE * (WARM_UP + rounds)) as u64, "requests that arrived");

    let mut met = true;
    let median = |way: usize, of: fn(&Slice) -> Duration| {
        quartiles(slices[way].iter().map(|s| of(s).as_secs_f64()).collect())[1]
    };
    for (way, called) in
        ["static header", "the same again", "layer, replay off", "layer, empty"].into_iter().enumerate()
    {
        let ratio = |of: fn(&Slice) -> Duration| {
            let pairs = slices[0].iter().zip(&slices[way]);
            quartiles(pairs.map(|(fixed, ours)| of(ours).as_secs_f64() / of(fixed).as_secs_f64()).collect())
        };
        let [low, middle, high] = ratio(|slice| slice.took).map(|longer| 1.0 / longer);
        let (each, p99) = (SLICE as f64 / median(way, |slice| slice.took), median(way, |slice| slice.p99) * 1e6);
        let cpu = median(way, |slice| slice.cpu) * 1e6 / SLICE as f64;
        print!("| {name} | {called} | {each:.0} | {p99:.0} µs | {cpu:.1} µs |");
        if way == 0 {
            println!(" | | |");
            continue;
        }
        println!(
            " {} | {} | {} |",
            format_ratio([high, middle, low]),
            format_ratio(ratio(|slice| slice.p99)),
            format_ratio(ratio(|slice| slice.cpu))
        );
        met &= way == 1 || middle >= MARK;
    }
    met
}

fn main() {
    let rounds = std::env::args().nth(1).map_or(500, |rounds| rounds.parse().expect("throughput [ROUNDS]"));
    println!(
        "| protocol | way | requests per second | p99 | CPU per request | requests per second: ratio | p99: ratio | CPU: ratio |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut verdicts = Vec::new();
    for (name, version) in [("HTTP/1.1", Version::HTTP_11), ("HTTP/2", Version::HTTP_2)] {
        let met = runtime.block_on(compare(name, version, rounds));
        verdicts.push(format!("{name} {}", if met { "met" } else { "MISSED" }));
    }
    println!();
    println!(
        "{rounds} rounds of {SLICE} requests for each way, {IN_FLIGHT} in flight; ratios to the static header within a round,"
    );
    println!("median and (lower to upper quartile); CPU is client and server together");
    println!("mark: at least {MARK} of the static header's requests per second: {}", verdicts.join(", "));
}
