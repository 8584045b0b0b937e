//! Two processes with one credential, at an issuer that revokes the older token when it issues a new one.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower::{Layer as _, Service, ServiceExt as _};
use tower_bearer_auth::{BoxError, TokenSource};

use crate::rejections::{layer, request};
use crate::support::api::Api;
use crate::support::responses::{INVALID_TOKEN, bearer, rejection, response};
use crate::support::telemetry::Capture;
use crate::support::time::Paused;
use crate::users::{Issuer, issuer};

const HOUR: Duration = Duration::from_secs(60 * 60);
const PROCESSES: [&str; 2] = ["one", "two"];

/// An API that accepts the newest token alone, behind a network that takes a random time.
#[derive(Clone)]
struct RemoteApi {
    api: Api,
    /// The mean time of one direction.
    delay: Duration,
    rng: Arc<Mutex<fastrand::Rng>>,
}

impl RemoteApi {
    fn new(issuer: &Issuer, delay: Duration) -> Self {
        let issuer = issuer.clone();
        let api = Api::new(move |request| {
            let newest = format!("token-{}", issuer.minted());
            if bearer(request) == newest { response(StatusCode::OK) } else { rejection(INVALID_TOKEN) }
        });
        Self { api, delay, rng: Arc::new(Mutex::new(fastrand::Rng::with_seed(1))) }
    }
}

impl<B> Service<Request<B>> for RemoteApi
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut api = self.api.clone();
        let [there, back] = [(); 2].map(|()| self.delay.mul_f64(2.0 * self.rng.lock().f64()));
        Box::pin(async move {
            sleep(there).await;
            let response = api.call(request).await;
            sleep(back).await;
            response
        })
    }
}

/// An hour of one process, with requests at random times. Returns how many succeeded, and how many there were.
async fn process(
    source: TokenSource<Issuer>,
    api: RemoteApi,
    clock: Paused,
    step: Duration,
    seed: u64,
) -> (usize, usize) {
    let client = layer(&source).layer(api);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut requests = JoinSet::new();
    while clock.passed() < HOUR {
        sleep(step.mul_f64(-(1.0 - rng.f64()).ln())).await;
        requests.spawn(client.clone().oneshot(request("GET", "https://api.example.com")));
    }
    let responses = requests.join_all().await;
    let served = responses.iter().filter(|response| response.as_ref().unwrap().status() == 200).count();
    (served, responses.len())
}

/// Runs both processes for an hour, and compares the figures of each.
async fn compete(step: Duration) {
    let (capture, clock) = (Capture::start(), Paused::start());
    let issuer = issuer();
    issuer.set_latency(Duration::from_millis(200));
    let api = RemoteApi::new(&issuer, Duration::from_millis(5));
    let [one, two] =
        PROCESSES.map(|name| TokenSource::builder(issuer.clone().with_label(name)).clock(clock).jitter_seed(1).build());
    let served =
        tokio::join!(process(one.clone(), api.clone(), clock, step, 1), process(two.clone(), api, clock, step, 2));
    for (name, (served, source)) in PROCESSES.into_iter().zip([(served.0, one), (served.1, two)]) {
        let stats = source.stats();
        println!(
            "a request every {step:?}, process {name}: {} tokens an hour, {} of them rejected early, {} of {} requests served",
            stats.fetches, stats.tokens_rejected_early, served.0, served.1
        );
        // Every token but the last one was accepted and then rejected, and the figure shows each of them once.
        assert!(stats.fetches > 20, "the processes did not compete: {stats:?}");
        assert!((stats.fetches - 1..=stats.fetches).contains(&stats.tokens_rejected_early), "{stats:?}");
        assert_eq!(stats.rejections_of_unaccepted, 0, "{stats:?}");
        // A budget of 6, and one more every 10 s.
        assert!(stats.fetches <= 72, "{stats:?}");

        let labels = [("provider", name), ("token", "accepted")];
        assert_eq!(capture.count("tokens_rejected_total", &labels), stats.tokens_rejected_early);
        let rejected = capture.named("token_rejected").into_iter().filter(|seen| seen.field("provider") == Some(name));
        let left = rejected
            .filter(|seen| seen.level == tracing::Level::WARN)
            .map(|seen| seen.fields["expires_in_seconds"].clone());
        let left: Vec<f64> = left.map(|left| left.parse().unwrap()).collect();
        assert_eq!(left.len() as u64, stats.tokens_rejected_early);
        assert!(left.iter().all(|left| *left > 1000.0), "of 1 800 s: {left:?}");
    }
}

// R51, R100: the figure increases in both processes, whoever wins.
#[tokio::test(start_paused = true)]
async fn two_processes_that_fight_for_one_credential_both_count_tokens_that_are_rejected_early() {
    for step in [Duration::from_secs(1), Duration::from_secs(60)] {
        compete(step).await;
    }
}
