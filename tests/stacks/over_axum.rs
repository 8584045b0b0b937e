//! The gateway of the example. It receives plain HTTP on loopback, and sends requests over TLS with a token.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::ServiceExt as _;
use tower_bearer_auth::{BearerAuthLayer, Error, FetchContext, IssuedToken, TokenProvider};
use tower_bearer_auth_sandbox::Fault;

use super::support::time::{Paused, settle};
use super::upstream::{Upstream, acceptor};
use super::*;

type Body = BoxBody<Bytes, std::convert::Infallible>;

const NIGHT: Duration = Duration::from_secs(8 * 3_600);

/// A client of a gateway, on the same machine.
#[derive(Clone)]
struct Local {
    http: Client<HttpConnector, Body>,
    address: String,
}

impl Local {
    /// Starts a gateway for `upstream`.
    async fn start<P: TokenProvider<Key = ()>>(
        sandbox: &AccessPspSandbox,
        upstream: &str,
        layer: BearerAuthLayer<P>,
        (inbound, outbound): (Http, Http),
    ) -> Self {
        let router = gateway::router(upstream.parse().unwrap(), layer, https::client(sandbox, outbound));
        is_shared(&router);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let http = Client::builder(TokioExecutor::new()).http2_only(inbound == Http::Two).build_http();
        Self { http, address }
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("{}{path}", self.address))
    }

    async fn send(&self, request: Request<Body>) -> Response<Incoming> {
        within("a response of the gateway", self.http.request(request)).await.unwrap()
    }

    async fn get(&self, path: &str) -> Response<Incoming> {
        self.send(self.request(Method::GET, path).body(Empty::new().boxed()).unwrap()).await
    }

    async fn readyz(&self) -> u16 {
        self.get("/readyz").await.status().as_u16()
    }
}

const BOTH_WAYS: [(Http, Http); 4] =
    [(Http::One, Http::One), (Http::One, Http::Two), (Http::Two, Http::One), (Http::Two, Http::Two)];

/// A gateway in front of the sandbox's API.
async fn in_front_of_the_api(stage: &Stage, versions: (Http, Http)) -> Local {
    Local::start(&stage.sandbox, &stage.sandbox.api_origin(), stage.source.layer(), versions).await
}

// R4, R19, R20, R22
#[tokio::test]
async fn a_gateway_survives_expired_and_revoked_tokens() {
    for versions in BOTH_WAYS {
        let stage = Stage::set().await;
        let local = in_front_of_the_api(&stage, versions).await;
        let (inbound, outbound) = versions;
        through_expiries_and_a_revocation(&stage, outbound, || {
            let request = local.request(Method::PUT, "/echo?a=b").header("authorization", "Basic inbound");
            let request = request.body(Full::from("the same body twice").boxed()).unwrap();
            let local = local.clone();
            async move {
                let response = local.send(request).await;
                assert_eq!(response.version(), version_of(inbound));
                response.status()
            }
        })
        .await;
        for request in stage.sandbox.api_requests() {
            assert_eq!((&*request.path, &*request.body), ("/echo?a=b", &b"the same body twice"[..]));
        }
    }
}

// The gateway passes both bodies on while they arrive.
#[tokio::test]
async fn a_body_is_streamed_in_both_directions() {
    for versions in BOTH_WAYS {
        let stage = Stage::set().await;
        let mut upstream = Upstream::start(&stage.sandbox, versions.1).await;
        let layer = stage.source.layer().allow_origin(&upstream.origin).unwrap();
        let local = Local::start(&stage.sandbox, &upstream.origin, layer, versions).await;

        let (pieces, receiver) = mpsc::channel(1);
        let stream = futures::stream::unfold(receiver, async |mut receiver: mpsc::Receiver<Bytes>| {
            receiver.recv().await.map(|piece| (Ok(Frame::data(piece)), receiver))
        });
        let request = local.request(Method::POST, "/stream").body(BodyExt::boxed(StreamBody::new(stream))).unwrap();
        let call = tokio::spawn(async move { local.send(request).await });

        pieces.send(Bytes::from("first")).await.unwrap();
        let mut exchange = upstream.next().await;
        assert_eq!(exchange.head.version, version_of(versions.1));
        assert_eq!(exchange.piece().await.unwrap(), "first", "it arrives before the end of the request");
        // More than the gateway keeps for a replay.
        let long = Bytes::from(vec![b'x'; 256 * 1024]);
        pieces.send(long.clone()).await.unwrap();
        drop(pieces);
        let mut arrived = 0;
        while let Some(piece) = exchange.piece().await {
            arrived += piece.len();
        }
        assert_eq!(arrived, long.len());

        let (frames, _) = exchange.begin(Response::new(()));
        frames.send(Bytes::from("one")).await.unwrap();
        let mut body = within("the head of the response", call).await.unwrap().into_body();
        let piece = within("a piece of the response", body.frame()).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece, "one", "it arrives before the end of the response");
        frames.send(Bytes::from("two")).await.unwrap();
        drop(frames);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "two");
    }
}

fn headers<const N: usize>(pairs: [(&'static str, &'static str); N]) -> HeaderMap {
    let header = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    pairs.into_iter().map(header).collect()
}

// RFC 9110 section 7.6.1, for requests and responses.
#[tokio::test]
async fn headers_for_one_connection_are_not_passed_on() {
    let stage = Stage::set().await;
    let mut upstream = Upstream::start(&stage.sandbox, Http::One).await;
    let layer = stage.source.layer().allow_origin(&upstream.origin).unwrap();
    let local = Local::start(&stage.sandbox, &upstream.origin, layer, (Http::One, Http::One)).await;
    let mut request = local.request(Method::GET, "/x").body(Empty::new().boxed()).unwrap();
    *request.headers_mut() = headers([
        ("connection", "close, X-Named"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic proxy"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("trailer", "x-sum"),
        ("upgrade", "websocket"),
        ("x-named", "only for the gateway"),
        ("x-kept", "for the upstream"),
    ]);
    request.headers_mut().append("connection", HeaderValue::from_static(" x-named-too ,"));
    request.headers_mut().append("x-named-too", HeaderValue::from_static("only for the gateway"));
    let sent = headers([
        ("connection", "X-Named"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("x-named", "only for the gateway"),
        ("x-kept", "for the caller"),
    ]);
    let (seen, response) = tokio::join!(upstream.respond(sent), local.send(request));
    let mut names: Vec<_> = seen.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["authorization", "host", "x-kept"]);
    assert_eq!(seen.headers["host"], upstream.origin.trim_start_matches("https://"), "the name of the upstream");
    let mut names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    // Each server sets its own date and framing.
    names.retain(|name| !["date", "transfer-encoding", "content-length"].contains(name));
    names.sort_unstable();
    // The gateway sends `connection` itself, because the caller sent `connection: close`.
    assert_eq!(names, ["connection", "x-kept"]);
    assert_eq!(response.headers()["connection"], "close");
}

/// A provider with its own token header. The layer does not replace `Authorization` then.
struct OwnHeader;

impl TokenProvider for OwnHeader {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        IssuedToken::bearer("of-the-layer")
    }

    fn header(&self) -> HeaderName {
        HeaderName::from_static("authorizationtoken")
    }
}

// R27: whether the layer stamps that header, another one, or none.
#[tokio::test]
async fn an_incoming_authorization_header_is_never_passed_on() {
    let stage = Stage::set().await;
    let mut upstream = Upstream::start(&stage.sandbox, Http::Two).await;
    let origin = upstream.origin.clone();
    let versions = (Http::One, Http::Two);
    let allowed = stage.source.layer().allow_origin(&origin).unwrap();
    let own = BearerAuthLayer::new(OwnHeader).allow_origin(&origin).unwrap();
    let gateways = [
        ("stamped", Local::start(&stage.sandbox, &origin, allowed, versions).await, 1),
        ("another header", Local::start(&stage.sandbox, &origin, own, versions).await, 0),
        ("not stamped", Local::start(&stage.sandbox, &origin, stage.source.layer(), versions).await, 0),
    ];
    for (what, local, expected) in gateways {
        let mut request = local.request(Method::GET, "/x").body(Empty::new().boxed()).unwrap();
        for inbound in ["Basic inbound", "Bearer inbound"] {
            request.headers_mut().append("authorization", HeaderValue::from_static(inbound));
        }
        let (seen, _) = tokio::join!(upstream.respond(HeaderMap::new()), local.send(request));
        let values: Vec<_> = seen.headers.get_all("authorization").iter().collect();
        assert_eq!(values.len(), expected, "{what}");
        assert!(values.iter().all(|value| !value.to_str().unwrap().contains("inbound")), "{what}");
        assert_eq!(seen.headers.contains_key("authorizationtoken"), what == "another header");
    }
}

// The response to a TRACE would contain the token. The gateway cannot check what goes through a tunnel.
#[tokio::test]
async fn trace_and_connect_are_not_passed_on() {
    let stage = Stage::set().await;
    let local = in_front_of_the_api(&stage, (Http::One, Http::Two)).await;
    let trace = local.request(Method::TRACE, "/echo").body(Empty::new().boxed()).unwrap();
    assert_eq!(local.send(trace).await.status(), 405);
    let connect = local.request(Method::CONNECT, "").body(Empty::new().boxed()).unwrap();
    assert_eq!(local.send(connect).await.status(), 405);
    assert_eq!((stage.sandbox.token_request_count(), stage.sandbox.api_request_count()), (0, 0));
}

// A path that looks like an authority is still a path.
#[tokio::test]
async fn no_path_selects_another_host() {
    let stage = Stage::set().await;
    let local = in_front_of_the_api(&stage, (Http::One, Http::Two)).await;
    for path in ["//evil.test/x", "/@evil.test/x", "/%2f%2fevil.test"] {
        assert_eq!(local.get(path).await.status(), 404, "the API has no such path");
        assert_eq!(stage.sandbox.api_requests().last().unwrap().path, path);
    }
}

// The gateway is ready while it has a usable token, also during an outage of the issuer.
#[tokio::test]
async fn readiness_depends_on_the_token_and_not_on_the_issuer() {
    let stage = Stage::set().await;
    let (sandbox, source) = (&stage.sandbox, &stage.source);
    let local = in_front_of_the_api(&stage, (Http::One, Http::One)).await;
    // Sends probes, and no other requests, until one returns this status.
    let becomes = async |expected: u16| {
        within("the probe", async { while local.readyz().await != expected {} }).await;
    };

    sandbox.hold_issuer();
    assert_eq!(local.readyz().await, 503, "no token yet");
    within("the probe starts a fetch", sandbox.wait_issuer_held(1)).await;
    assert_eq!(local.readyz().await, 503);
    assert_eq!(local.get("/livez").await.status(), 200, "a gateway without a token is alive");
    sandbox.release_issuer();
    becomes(200).await;
    assert_eq!(sandbox.token_request_count(), 1, "however many probes");

    sandbox.script_always(Fault::retry_after(StatusCode::SERVICE_UNAVAILABLE, HeaderValue::from_static("20")));
    // Early in the refresh window, and then half a minute before `usable_until`, which is after 1 770 s.
    for by in [1100, 640].map(Duration::from_secs) {
        stage.age(by);
        let fetches = sandbox.token_request_count();
        assert_eq!(local.readyz().await, 200, "an outage of the issuer does not change readiness");
        within("the probe refreshes", sandbox.wait_token_requests(fetches + 1)).await;
        let settled = || source.stats().fetches_failed as usize == sandbox.token_request_count() - 1;
        eventually("the fetch fails", settled).await;
        assert_eq!(local.get("/echo").await.status(), 200);
    }
    stage.age(Duration::from_secs(40));
    assert_eq!(local.readyz().await, 503, "the token has expired");
    eventually("the fetch fails", || source.status().next_try.is_some()).await;
    let api_requests = sandbox.api_request_count();
    let response = local.get("/echo").await;
    assert_eq!((response.status().as_u16(), sandbox.api_request_count()), (503, api_requests), "nothing is sent");
    let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=23).contains(&seconds), "the issuer's 20 s, a tenth of jitter, rounded up: {seconds}");

    sandbox.clear_script();
    // After every backoff.
    stage.age(Duration::from_secs(60));
    becomes(200).await;
    assert_eq!(local.get("/echo").await.status(), 200);
    assert_eq!(local.get("/livez").await.status(), 200);
}

// R101: the first probe starts the first fetch.
#[tokio::test]
async fn a_gateway_that_gets_only_probes_is_ready_one_token_request_after_its_start() {
    let stage = Stage::set().await;
    let (sandbox, source) = (&stage.sandbox, &stage.source);
    let local = in_front_of_the_api(&stage, (Http::One, Http::One)).await;
    sandbox.hold_issuer();
    for _ in 0..3 {
        assert_eq!(local.readyz().await, 503, "a probe does not wait for the issuer");
    }
    within("the probe starts a fetch", sandbox.wait_issuer_held(1)).await;
    sandbox.release_issuer();
    eventually("the fetch ends", || source.stats().fetches_succeeded == 1).await;
    assert_eq!(local.readyz().await, 200, "the first probe after the response of the issuer");
    assert_eq!((sandbox.token_request_count(), sandbox.api_request_count()), (1, 0));
}

// R101: while it is not ready, a gateway gets no requests that could start a fetch.
#[tokio::test]
async fn a_gateway_is_ready_again_after_a_night_without_requests_and_probes() {
    let stage = Stage::set().await;
    let (sandbox, source) = (&stage.sandbox, &stage.source);
    let local = in_front_of_the_api(&stage, (Http::One, Http::One)).await;
    source.warm_up().await.unwrap();
    assert_eq!(local.readyz().await, 200);
    stage.age(NIGHT);
    assert_eq!(local.readyz().await, 503, "the token has expired");
    eventually("the probe starts a fetch", || source.stats().fetches_succeeded == 2).await;
    assert_eq!(local.readyz().await, 200, "a later probe finds the new token");
    assert_eq!((sandbox.token_request_count(), sandbox.api_request_count()), (2, 0));
    assert_eq!(local.get("/echo").await.status(), 200);
}

/// An issuer in this process that takes [`ROUND_TRIP`]. It counts the token requests.
#[derive(Clone, Default)]
struct SlowIssuer(Arc<AtomicUsize>);

const ROUND_TRIP: Duration = Duration::from_millis(200);

impl TokenProvider for SlowIssuer {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        tokio::time::sleep(ROUND_TRIP).await;
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(IssuedToken::bearer(format!("token-{number}"))?.expires_in(LIFETIME))
    }
}

// R101: in virtual time, so that no probe of the night is left out.
#[tokio::test(start_paused = true)]
async fn probes_make_a_gateway_ready_within_a_round_trip_and_keep_it_ready_through_a_night_without_requests() {
    let (clock, issuer) = (Paused::start(), SlowIssuer::default());
    let source = TokenSource::builder(issuer.clone()).clock(clock).jitter_seed(1).build();
    let roots = rustls::RootCertStore::empty();
    let router =
        gateway::router("https://api.test".parse().unwrap(), source.layer(), https::client_with(roots, Http::One));
    let probe = async || {
        let probe = axum::extract::Request::get("/readyz").body(AxumBody::empty()).unwrap();
        router.clone().oneshot(probe).await.unwrap().status().as_u16()
    };
    assert_eq!((probe().await, clock.passed()), (503, Duration::ZERO), "a probe does not wait");
    tokio::time::sleep(ROUND_TRIP).await;
    settle().await;
    assert_eq!(probe().await, 200, "one round trip of the issuer after the start");

    while clock.passed() < NIGHT {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(probe().await, 200, "after {:?}", clock.passed());
    }
    // The window of a token of 30 min begins after 15 min.
    let most = 1 + NIGHT.as_secs().div_ceil(900) as usize;
    let fetches = issuer.0.load(Ordering::Relaxed);
    assert!((most / 2..=most).contains(&fetches), "{fetches} token requests in a night");

    // No probes either: nothing starts a fetch.
    tokio::time::sleep(NIGHT).await;
    assert_eq!(issuer.0.load(Ordering::Relaxed), fetches);
    assert_eq!(probe().await, 503, "the token has expired");
    tokio::time::sleep(ROUND_TRIP).await;
    settle().await;
    assert_eq!((probe().await, issuer.0.load(Ordering::Relaxed)), (200, fetches + 1));
}

// As the table of docs/errors.md says. The caller gets no text of the issuer.
#[tokio::test]
async fn a_permanent_error_is_a_500_and_a_transient_error_a_503_without_a_body() {
    use tower_bearer_auth::ErrorKind::{Config, InvalidCredentials, MalformedResponse, Throttled, Unavailable};
    let elsewhere = HeaderValue::from_static("https://elsewhere.test/token");
    for (fault, kind, expected) in [
        (Fault::disabled_client(), InvalidCredentials, 500),
        (Fault::status(StatusCode::UNAUTHORIZED), InvalidCredentials, 500),
        (Fault::redirect(StatusCode::FOUND, elsewhere), Config, 500),
        (Fault::retry_after(StatusCode::TOO_MANY_REQUESTS, HeaderValue::from_static("7")), Throttled, 503),
        (Fault::status(StatusCode::BAD_GATEWAY), Unavailable, 503),
        (Fault::body(HeaderValue::from_static("text/html"), "<p>log in</p>"), MalformedResponse, 503),
    ] {
        let stage = Stage::set().await;
        let local = in_front_of_the_api(&stage, (Http::One, Http::One)).await;
        stage.sandbox.script_always(fault);
        let (head, body) = local.get("/echo").await.into_parts();
        assert_eq!(stage.source.status().last_error, Some(kind));
        assert_eq!((head.status.as_u16(), stage.sandbox.api_request_count()), (expected, 0), "{kind:?}");
        assert_eq!(head.headers.contains_key("retry-after"), expected == 503, "{kind:?}");
        assert_eq!(body.collect().await.unwrap().to_bytes(), "", "{kind:?}");
    }
}

// The error names no time, because the token request continues. Some callers retry a 503 without `Retry-After` at once.
#[tokio::test]
async fn a_caller_for_whom_no_token_arrives_in_time_gets_a_retry_after() {
    let stage = Stage::set().await;
    stage.sandbox.hold_issuer();
    let provider = https::provider(&stage.sandbox).build().unwrap();
    let layer = TokenSource::builder(provider).max_wait(Duration::from_millis(1)).build().layer();
    let local = Local::start(&stage.sandbox, &stage.sandbox.api_origin(), layer, (Http::One, Http::One)).await;
    let response = local.get("/echo").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(stage.sandbox.api_request_count(), 0);
}

// 502 is a failure of the upstream, and 503 one of the issuer.
#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_502() {
    let stage = Stage::set().await;
    let unbound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let origin = format!("https://{}", unbound.local_addr().unwrap());
    drop(unbound);
    let layer = stage.source.layer().allow_origin(&origin).unwrap();
    let local = Local::start(&stage.sandbox, &origin, layer, (Http::One, Http::One)).await;
    assert_eq!(local.get("/x").await.status(), 502);
    let body: AxumBody = AxumBody::new(local.get("/x").await.into_body());
    assert_eq!(body.collect().await.unwrap().to_bytes(), "", "the caller gets no text");
}

// hyper sends the body of a GET only if a header gives its framing.
#[tokio::test]
async fn a_get_keeps_a_body_of_unknown_length() {
    for versions in BOTH_WAYS {
        let stage = Stage::set().await;
        let local = in_front_of_the_api(&stage, versions).await;
        let body = StreamBody::new(futures::stream::iter([Ok(Frame::data(Bytes::from("query")))]));
        let request = local.request(Method::GET, "/echo").header("transfer-encoding", "chunked");
        let request = request.body(BodyExt::boxed(body)).unwrap();
        assert_eq!(local.send(request).await.status(), 200);
        assert_eq!(&*stage.sandbox.api_requests()[0].body, b"query", "{versions:?}");
    }
}

// RFC 9112 section 6.3: a length with chunks is an error or an attack, and the chunks decide.
#[tokio::test]
async fn a_response_with_a_length_and_chunks_arrives_complete() {
    let stage = Stage::set().await;
    let (tls, listener) =
        (acceptor(&stage.sandbox, Http::One), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    let origin = format!("https://{}", listener.local_addr().unwrap());
    let upstream = tokio::spawn(async move {
        let mut stream = tls.accept(listener.accept().await.unwrap().0).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let response =
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        stream.write_all(response).await.unwrap();
        stream
    });
    let layer = stage.source.layer().allow_origin(&origin).unwrap();
    let local = Local::start(&stage.sandbox, &origin, layer, (Http::One, Http::One)).await;
    let response = local.get("/x").await;
    assert_eq!(response.headers().get("content-length"), None);
    assert_eq!(response.collect().await.unwrap().to_bytes(), "hello");
    drop(upstream.await.unwrap());
}

// RFC 9113 section 8.2.3
#[tokio::test]
async fn the_parts_of_an_http_2_cookie_are_joined() {
    let stage = Stage::set().await;
    let mut upstream = Upstream::start(&stage.sandbox, Http::One).await;
    let layer = stage.source.layer().allow_origin(&upstream.origin).unwrap();
    let local = Local::start(&stage.sandbox, &upstream.origin, layer, (Http::Two, Http::One)).await;
    let request = local.request(Method::GET, "/x").header("cookie", "a=1").header("cookie", "b=2; c=3");
    let request = request.body(Empty::new().boxed()).unwrap();
    let (seen, _) = tokio::join!(upstream.respond(HeaderMap::new()), local.send(request));
    let cookies: Vec<_> = seen.headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2; c=3"]);
}

// It is about the gateway's credentials. The caller would blame its own.
#[tokio::test]
async fn a_401_of_the_api_is_a_502_without_its_challenge() {
    let stage = Stage::set().await;
    let mut upstream = Upstream::start(&stage.sandbox, Http::Two).await;
    let layer = stage.source.layer().allow_origin(&upstream.origin).unwrap();
    let local = Local::start(&stage.sandbox, &upstream.origin, layer, (Http::One, Http::Two)).await;
    let reject = async {
        // The second token too.
        for _ in 0..2 {
            let rejection = Response::builder().status(401).header("www-authenticate", "Bearer").body(()).unwrap();
            drop(upstream.next().await.begin(rejection));
        }
    };
    let request = local.request(Method::GET, "/x").body(Empty::new().boxed()).unwrap();
    let (response, ()) = tokio::join!(local.send(request), reject);
    assert_eq!((response.status().as_u16(), response.headers().get("www-authenticate")), (502, None));
}
