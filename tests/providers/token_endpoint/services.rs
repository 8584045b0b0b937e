//! Any tower service as the HTTP client, in any runtime, or without one.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::{Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _, service_fn};
use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{
    ClientCredentials, Clock as _, ErrorKind, FetchContext, IssuedToken, SystemClock, TokenProvider as _, TokenSource,
    from_fn, replay,
};

use super::access_psp::settings;
use super::wire::{GOOD, Wire, client, http_response};

type Sent = Request<Full<Bytes>>;

const URL: &str = "https://issuer.test/token";

#[tokio::test]
async fn a_service_function_can_be_the_http_client() {
    let provider = client(URL)
        .http_client(TokenClient::new(service_fn(|request: Sent| async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            assert!(body.starts_with(b"grant_type=client_credentials&"));
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(GOOD)))
        })))
        .build()
        .unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
}

/// Becomes ready at the second poll, and fails a call before that.
struct Strict {
    polls: u32,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { polls: 0 }
    }
}

impl Service<Sent> for Strict {
    type Response = Response<String>;
    type Error = &'static str;
    type Future = Ready<Result<Response<String>, &'static str>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.polls += 1;
        if self.polls > 1 {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, _: Sent) -> Self::Future {
        let ready_now = std::mem::take(&mut self.polls) > 1;
        ready(if ready_now { Ok(Response::new(GOOD.to_owned())) } else { Err("called before it was ready") })
    }
}

#[tokio::test]
async fn the_service_is_driven_to_readiness_before_every_call() {
    let provider = client(URL).http_client(TokenClient::new(Strict { polls: 0 })).build().unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_never_ready_ends_in_the_timeout() {
    let never = ServiceBuilder::new()
        .concurrency_limit(0)
        .service(service_fn(|_: Sent| ready(Ok::<_, Infallible>(Response::new(String::new())))));
    let provider = client(URL).http_client(TokenClient::new(never)).timeout(Duration::from_millis(20)).build().unwrap();
    let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

/// A body that never arrives.
struct Stalled;

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

// A status is enough for an error. A success needs its body.
#[tokio::test(start_paused = true)]
async fn a_body_that_never_arrives_ends_in_the_timeout() {
    for (status, kind) in [
        (200, ErrorKind::Timeout),
        (307, ErrorKind::Config),
        (401, ErrorKind::InvalidCredentials),
        (408, ErrorKind::Timeout),
        (503, ErrorKind::Unavailable),
    ] {
        let provider = client(URL)
            .http_client(TokenClient::new(service_fn(move |_: Sent| {
                let response = Response::builder().status(status).header("retry-after", "9").body(Stalled);
                ready(Ok::<_, Infallible>(response.unwrap()))
            })))
            .build()
            .unwrap();
        let start = SystemClock.now().mono;
        let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(error.status().unwrap().as_u16(), status);
        assert_eq!(error.retry_after().is_some(), matches!(status, 408 | 503), "{status}");
        // The default timeout of 10 seconds, in virtual time.
        let elapsed = SystemClock.now().mono - start;
        assert!(elapsed >= Duration::from_secs(10) && elapsed < Duration::from_secs(11), "{elapsed:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_client_is_the_source_unless_the_url_may_hold_a_key() {
    let failing = || {
        service_fn(|request: Sent| {
            let shown = format!("error sending request for url ({})", request.uri());
            ready(Err::<Response<String>, _>(std::io::Error::other(shown)))
        })
    };
    let provider = client(URL).http_client(TokenClient::new(failing())).build().unwrap();
    let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.source().unwrap().to_string().contains(URL));

    let secret = format!("{URL}?code=CANARY");
    let provider = client(&secret).http_client(TokenClient::new(failing())).build().unwrap();
    let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.source().is_none());
    assert!(!format!("{error} {error:?}").contains("CANARY"));
}

#[tokio::test]
async fn a_timeout_of_the_client_is_a_timeout() {
    let provider = client(URL)
        .http_client(TokenClient::new(service_fn(|_: Sent| {
            ready(Err::<Response<String>, _>(std::io::Error::from(std::io::ErrorKind::TimedOut)))
        })))
        .build()
        .unwrap();
    assert_eq!(provider.fetch(&(), &FetchContext::default()).await.unwrap_err().kind(), ErrorKind::Timeout);
}

/// A body of endless empty frames. Each takes some time.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        (0..500).for_each(|n| {
            std::hint::black_box(n);
        });
        Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
    }
}

// R41: the size limit and the timeout both apply.
#[test]
fn a_body_of_endless_empty_frames_is_an_error() {
    for (timeout, expected) in
        [(Duration::from_secs(120), ErrorKind::MalformedResponse), (Duration::from_millis(1), ErrorKind::Timeout)]
    {
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let client = TokenClient::new(service_fn(|_: Sent| ready(Ok::<_, Infallible>(Response::new(Endless)))));
            let endpoint = TokenEndpoint::new(URL, client).unwrap().timeout(timeout);
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let _ = done.send(runtime.block_on(endpoint.call(TokenRequest::form(&[]))).unwrap_err());
        });
        let error = ended.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(error.kind(), expected, "{error}");
    }
}

// R13: a token request to a stamped origin passes through its own layer without a token. It does not wait for itself.
#[tokio::test]
async fn a_client_inside_its_own_layer_passes_token_requests_through() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    let own = Arc::new(OnceLock::<TokenSource<ClientCredentials>>::new());
    let found = Arc::clone(&own);
    let provider = client(&wire.token_url())
        .api_origin(wire.origin())
        .http_client(TokenClient::new(service_fn(move |request: Request<Bytes>| {
            let layer = found.get().unwrap().layer().bodies(replay::Cloned);
            layer.layer(HttpClient::new().unwrap()).oneshot(request)
        })))
        .build()
        .unwrap();
    let source = own.get_or_init(|| TokenSource::new(provider));
    assert_eq!(source.token().await.unwrap().expose_secret(), "abc");
    let requests = wire.requests();
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].to_ascii_lowercase().contains("authorization"));
    // The same stack stamps any other request.
    let request = Request::get(wire.origin()).body(Bytes::new()).unwrap();
    let stack = source.layer().bodies(replay::Cloned).layer(HttpClient::new().unwrap());
    stack.oneshot(request).await.unwrap();
    assert!(wire.requests()[1].to_ascii_lowercase().contains("authorization: bearer abc"));
}

#[tokio::test]
async fn the_client_sends_clear_text_only_to_loopback() {
    let mut client = HttpClient::new().unwrap();
    for uri in ["http://192.0.2.1/", "http://issuer.test/", "/relative", "ftp://127.0.0.2.evil.test/"] {
        let request = Request::post(uri).body(Bytes::from("CANARY")).unwrap();
        let error = client.call(request).await.unwrap_err();
        let error = tower_bearer_auth::Error::find(&*error).unwrap();
        assert_eq!(error.kind(), ErrorKind::InsecureUrl, "{uri}");
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

// R14: built outside of a runtime, used in one that shuts down, and then in another.
#[test]
fn a_client_outlives_the_runtimes_that_use_it() {
    let servers = runtime();
    let sandbox = servers.block_on(tower_bearer_auth_sandbox::AccessPspSandbox::start()).unwrap();
    let provider = settings(&sandbox).build().unwrap();
    for _ in 0..3 {
        let short = runtime();
        short.block_on(provider.fetch(&(), &FetchContext::default())).unwrap();
        short.block_on(provider.fetch(&(), &FetchContext::default())).unwrap();
    }
    assert_eq!(sandbox.token_request_count(), 6);
    // Each runtime opened its own connection.
    assert!(sandbox.issuer_connections() >= 3);
}

#[test]
fn a_missing_runtime_or_timer_is_an_error_and_not_a_panic() {
    let provider = client("http://127.0.0.1:1/token").build().unwrap();
    let outside = catch_unwind(AssertUnwindSafe(|| provider.fetch(&(), &FetchContext::default()).now_or_never()));
    let error = outside.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
    assert!(!error.is_transient());

    let without_timers = Builder::new_current_thread().build().unwrap();
    let error = without_timers.block_on(provider.fetch(&(), &FetchContext::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
    assert!(error.hint().unwrap().contains("enable_time"));
}

// Issue 13: tokio has no other check for timers than a panic, and each panic reaches every panic hook.
#[test]
fn a_runtime_without_timers_causes_one_panic_and_not_one_per_rejection() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let (others, this) = (std::panic::take_hook(), std::thread::current().id());
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == this {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        others(info);
    }));
    let source = TokenSource::new(from_fn(|| ready(IssuedToken::bearer("abc"))));
    let token = runtime().block_on(source.token()).unwrap();
    let mut rejected = source.layer().layer(service_fn(|_: Sent| {
        let response = Response::builder().status(401).body(Full::<Bytes>::default());
        ready(Ok::<_, Infallible>(response.unwrap()))
    }));
    let without_timers = Builder::new_current_thread().build().unwrap();
    without_timers.block_on(async {
        for _ in 0..50 {
            let response = rejected.ready().await.unwrap().call(Sent::default()).await.unwrap();
            assert_eq!(response.status(), 401);
            assert!(!source.reject(&(), &token));
        }
        source.invalidate();
        for _ in 0..50 {
            assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::NoRuntime);
            let endpoint = TokenEndpoint::new(URL, HttpClient::new().unwrap()).unwrap();
            let error = endpoint.call(TokenRequest::form(&[])).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoRuntime);
        }
    });
    assert_eq!(PANICS.load(Ordering::SeqCst), 1);
}

// The parts that a provider outside of this crate uses.
#[tokio::test]
async fn an_endpoint_sends_json_and_returns_the_response() {
    let body = r#"{"token":"abc","TTL":1800}"#;
    let wire = Wire::responding(http_response(200, &[("X-Kind", "own")], body)).await;
    let http = TokenClient::new(HttpClient::new().unwrap());
    let endpoint = TokenEndpoint::new(&wire.token_url(), http).unwrap();
    assert_eq!(endpoint.origin(), wire.origin());
    let request =
        TokenRequest::json(br#"{"apiKey":"k"}"#.to_vec()).header(http::header::ACCEPT, "text/plain".parse().unwrap());
    let response = endpoint.call(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-kind"], "own");
    assert_eq!(response.body(), body.as_bytes());
    assert_eq!(response.retry_after(), None);
    let error = response.bearer_token().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
    let sent = wire.requests().remove(0).to_ascii_lowercase();
    assert!(sent.contains("\r\ncontent-type: application/json\r\n"));
    assert!(sent.contains("\r\naccept: text/plain\r\n"));
    assert!(sent.ends_with(r#"{"apikey":"k"}"#));
}
