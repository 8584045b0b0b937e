//! Any tower service for the HTTP client, and any runtime, or none.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::{Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
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
use tower_bearer_auth::{ClientCredentials, Clock as _, ErrorKind, SystemClock, TokenProvider as _, TokenSource};

use crate::access_psp::settings;
use crate::wire::{GOOD, Wire, answer, client};

type Sent = Request<Full<Bytes>>;

const URL: &str = "https://issuer.test/token";

#[tokio::test]
async fn a_service_function_serves_as_the_http_client() {
    let provider = client(URL)
        .http_client(service_fn(|request: Sent| async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            assert!(body.starts_with(b"grant_type=client_credentials&"));
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(GOOD)))
        }))
        .build()
        .unwrap();
    provider.fetch(&()).await.unwrap();
}

/// Fails a call that was not preceded by readiness, and is ready at the second question only.
struct Strict {
    asked: u32,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { asked: 0 }
    }
}

impl Service<Sent> for Strict {
    type Response = Response<String>;
    type Error = &'static str;
    type Future = Ready<Result<Response<String>, &'static str>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.asked += 1;
        if self.asked > 1 {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, _: Sent) -> Self::Future {
        let ready_now = std::mem::take(&mut self.asked) > 1;
        ready(if ready_now { Ok(Response::new(GOOD.to_owned())) } else { Err("called before it was ready") })
    }
}

#[tokio::test]
async fn the_service_is_driven_to_readiness_before_every_call() {
    let provider = client(URL).http_client(Strict { asked: 0 }).build().unwrap();
    provider.fetch(&()).await.unwrap();
    provider.fetch(&()).await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_never_ready_meets_the_timeout() {
    let never = ServiceBuilder::new()
        .concurrency_limit(0)
        .service(service_fn(|_: Sent| ready(Ok::<_, Infallible>(Response::new(String::new())))));
    let provider = client(URL).http_client(never).timeout(Duration::from_millis(20)).build().unwrap();
    let error = provider.fetch(&()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

/// A body that never comes.
struct Late;

impl Body for Late {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

// A status that has come is worth more than a body that has not; a success is worth nothing without one.
#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_waited_for_until_the_timeout() {
    for (status, kind) in [
        (200, ErrorKind::Timeout),
        (307, ErrorKind::Config),
        (401, ErrorKind::InvalidCredentials),
        (408, ErrorKind::Timeout),
        (503, ErrorKind::Unavailable),
    ] {
        let provider = client(URL)
            .http_client(service_fn(move |_: Sent| {
                let answer = Response::builder().status(status).header("retry-after", "9").body(Late);
                ready(Ok::<_, Infallible>(answer.unwrap()))
            }))
            .build()
            .unwrap();
        let began = SystemClock.now().mono;
        let error = provider.fetch(&()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(error.status().unwrap().as_u16(), status);
        assert_eq!(error.retry_after().is_some(), matches!(status, 408 | 503), "{status}");
        // The default of 10 seconds, in virtual time.
        let took = SystemClock.now().mono - began;
        assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(11), "{took:?}");
    }
}

#[tokio::test]
async fn a_client_s_error_is_kept_as_the_cause_but_not_with_the_url_s_query() {
    let failing = || {
        service_fn(|request: Sent| {
            let shown = format!("error sending request for url ({})", request.uri());
            ready(Err::<Response<String>, _>(std::io::Error::other(shown)))
        })
    };
    let provider = client(URL).http_client(failing()).build().unwrap();
    let error = provider.fetch(&()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.source().unwrap().to_string().contains(URL));

    let secret = format!("{URL}?code=CANARY");
    let provider = client(&secret).http_client(failing()).build().unwrap();
    let error = provider.fetch(&()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.source().is_none());
    assert!(!format!("{error} {error:?}").contains("CANARY"));
}

#[tokio::test]
async fn a_timeout_of_the_client_s_own_is_a_timeout() {
    let provider = client(URL)
        .http_client(service_fn(|_: Sent| {
            ready(Err::<Response<String>, _>(std::io::Error::from(std::io::ErrorKind::TimedOut)))
        }))
        .build()
        .unwrap();
    assert_eq!(provider.fetch(&()).await.unwrap_err().kind(), ErrorKind::Timeout);
}

/// An answer that is an endless row of empty frames, each of which takes some work.
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

// R41: neither the cap nor the timeout is kept from its turn.
#[test]
fn an_answer_of_endless_empty_frames_comes_to_an_end() {
    for (timeout, expected) in
        [(Duration::from_secs(120), ErrorKind::MalformedResponse), (Duration::from_millis(1), ErrorKind::Timeout)]
    {
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let client = TokenClient::new(service_fn(|_| ready(Ok::<_, Infallible>(Response::new(Endless)))));
            let endpoint = TokenEndpoint::new(URL, client).unwrap().timeout(timeout).unwrap();
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let _ = done.send(runtime.block_on(endpoint.call(TokenRequest::form(&[]))).unwrap_err());
        });
        let error = ended.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(error.kind(), expected, "{error}");
    }
}

// R13: the token call passes its own layer unstamped instead of waiting for itself, to an origin that is stamped.
#[tokio::test]
async fn a_client_wrapped_in_its_own_layer_passes_the_token_call_on() {
    let wire = Wire::answering(answer(200, &[], GOOD)).await;
    let own = Arc::new(OnceLock::<TokenSource<ClientCredentials>>::new());
    let found = Arc::clone(&own);
    let provider = client(&wire.token_url())
        .api_origin(wire.origin())
        .http_client(service_fn(move |request: Sent| {
            let layer = found.get().unwrap().layer();
            layer.layer(HttpClient::new().unwrap()).oneshot(request)
        }))
        .build()
        .unwrap();
    let source = own.get_or_init(|| TokenSource::new(provider));
    assert_eq!(source.token().await.unwrap().expose_secret(), "abc");
    let requests = wire.requests();
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].to_ascii_lowercase().contains("authorization"));
    // The same stack stamps what is no token call.
    let request = Request::get(wire.origin()).body(Full::default()).unwrap();
    let stack = source.layer().layer(HttpClient::new().unwrap());
    stack.oneshot(request).await.unwrap();
    assert!(wire.requests()[1].to_ascii_lowercase().contains("authorization: bearer abc"));
}

#[tokio::test]
async fn the_client_itself_speaks_clear_text_to_loopback_alone() {
    let mut client = HttpClient::new().unwrap();
    for uri in ["http://192.0.2.1/", "http://issuer.test/", "/relative", "ftp://127.0.0.2.evil.test/"] {
        let request = Request::post(uri).body(Full::<Bytes>::from("CANARY")).unwrap();
        let error = client.call(request).await.unwrap_err();
        let error = tower_bearer_auth::Error::find(&*error).unwrap();
        assert_eq!(error.kind(), ErrorKind::InsecureUrl, "{uri}");
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

// R14: built outside of a runtime, used in one that ends, then in the next.
#[test]
fn a_client_outlives_the_runtimes_that_it_was_used_in() {
    let servers = runtime();
    let sandbox = servers.block_on(tower_bearer_auth_sandbox::AccessPspSandbox::start()).unwrap();
    let provider = settings(&sandbox).build().unwrap();
    for _ in 0..3 {
        let short = runtime();
        short.block_on(provider.fetch(&())).unwrap();
        short.block_on(provider.fetch(&())).unwrap();
    }
    assert_eq!(sandbox.token_request_count(), 6);
    // None of a runtime's connections outlives it.
    assert!(sandbox.issuer_connections() >= 3);
}

#[test]
fn without_a_runtime_or_its_timers_there_is_an_error_and_no_panic() {
    let provider = client("http://127.0.0.1:1/token").build().unwrap();
    let outside = catch_unwind(AssertUnwindSafe(|| provider.fetch(&()).now_or_never()));
    let error = outside.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
    assert!(!error.is_transient());

    let timeless = Builder::new_current_thread().build().unwrap();
    let error = timeless.block_on(provider.fetch(&())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
    assert!(error.hint().unwrap().contains("enable_time"));
}

// The parts alone, as a provider of one's own uses them.
#[tokio::test]
async fn an_endpoint_sends_json_and_hands_the_answer_over() {
    let body = r#"{"token":"abc","TTL":1800}"#;
    let wire = Wire::answering(answer(200, &[("X-Kind", "own")], body)).await;
    let http = TokenClient::new(HttpClient::new().unwrap());
    let endpoint = TokenEndpoint::new(&wire.token_url(), http).unwrap();
    assert_eq!(endpoint.origin(), wire.origin());
    let request =
        TokenRequest::json(br#"{"apiKey":"k"}"#.to_vec()).header(http::header::ACCEPT, "text/plain".parse().unwrap());
    let answer = endpoint.call(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-kind"], "own");
    assert_eq!(answer.body(), body.as_bytes());
    assert_eq!(answer.retry_after(), None);
    let error = answer.bearer_token().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
    let sent = wire.requests().remove(0).to_ascii_lowercase();
    assert!(sent.contains("\r\ncontent-type: application/json\r\n"));
    assert!(sent.contains("\r\naccept: text/plain\r\n"));
    assert!(sent.ends_with(r#"{"apikey":"k"}"#));
}
