//! API keys that go with the token, from a file or a function that changes while the program runs.

use std::fs;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use parking_lot::Mutex;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{AccessPsp, BoxError, ClientCredentials, Error, Secret, SecretValue, TokenSource, replay};

use super::wire::{GOOD, Wire, client, http_response};
use crate::support::wait::eventually;

type Body = Empty<Bytes>;

/// An API that records the `x-api-key` of each request, and rejects what `rejects` says.
#[derive(Clone, Default)]
struct Api {
    keys: Arc<Mutex<Vec<String>>>,
    rejects: Arc<Mutex<String>>,
    busy_after_a_rejection: Arc<AtomicBool>,
    rejected: Arc<AtomicBool>,
    /// Whether a request waits until the API is ready.
    waits: Arc<AtomicBool>,
}

impl Service<Request<Body>> for Api {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.rejected.load(Ordering::SeqCst) && self.busy_after_a_rejection.load(Ordering::SeqCst) {
            self.waits.store(true, Ordering::SeqCst);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(self.respond(&request)))
    }
}

impl Api {
    fn respond(&self, request: &Request<Body>) -> Response<Body> {
        let key = request.headers().get_all("x-api-key").iter().map(|key| key.to_str().unwrap()).collect::<String>();
        let mut response = Response::new(Body::new());
        if key == *self.rejects.lock() {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            self.rejected.store(true, Ordering::SeqCst);
        }
        self.keys.lock().push(key);
        response
    }

    fn keys(&self) -> Vec<String> {
        std::mem::take(&mut self.keys.lock())
    }
}

fn request() -> Request<Body> {
    Request::get("https://api.test/orders").body(Body::new()).unwrap()
}

// R99: a key in a file follows `rotate()`, in every service of the layer.
#[tokio::test]
async fn an_api_key_in_a_file_is_used_after_a_rotation() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    let path = std::env::temp_dir().join(format!("tower-bearer-auth-api-key-{}", std::process::id()));
    fs::write(&path, "key-1\n").unwrap();
    let general = client(&wire.token_url()).api_header("x-api-key", Secret::from_file(&path).unwrap());
    let psp = AccessPsp::builder()
        .client_id("id")
        .client_secret("secret")
        .environment("test")
        .token_url(wire.token_url())
        .api_origin("https://api.test")
        .api_key(Secret::from_file(&path).unwrap());
    let (general, psp) = (TokenSource::new(general.build().unwrap()), TokenSource::new(psp.build().unwrap()));
    let api = Api::default();
    macro_rules! follows {
        ($source:expr) => {
            fs::write(&path, "key-1\n").unwrap();
            let layer = $source.layer().bodies(replay::Cloned);
            let (one, other) = (layer.layer(api.clone()), layer.layer(api.clone()));
            one.clone().oneshot(request()).await.unwrap();
            fs::write(&path, "key-2\n").unwrap();
            // Neither a request nor a token from the cache reads the file.
            one.clone().oneshot(request()).await.unwrap();
            $source.rotate();
            one.oneshot(request()).await.unwrap();
            other.oneshot(request()).await.unwrap();
            assert_eq!(api.keys(), ["key-1", "key-1", "key-2", "key-2"]);
        };
    }
    follows!(general);
    follows!(psp);
    fs::remove_file(&path).unwrap();
}

/// A source whose n-th fetch loads the key n and returns the token n. The builder loads the key 0.
fn numbered() -> TokenSource<ClientCredentials> {
    let loads = AtomicUsize::new(0);
    let key = Secret::from_fn(move || Ok(SecretValue::from(format!("key-{}", loads.fetch_add(1, Ordering::SeqCst)))));
    let fetches = Arc::new(AtomicUsize::new(0));
    let issuer = service_fn(move |_: Request<Full<Bytes>>| {
        let number = fetches.fetch_add(1, Ordering::SeqCst) + 1;
        let token = format!(r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":1800}}"#);
        ready(Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(token))))
    });
    let provider =
        client("https://issuer.test/token").api_header("x-api-key", key).http_client(TokenClient::new(issuer));
    TokenSource::new(provider.build().unwrap())
}

// R99: the API has revoked the key together with the token.
#[tokio::test]
async fn the_replay_of_a_rejected_request_has_the_new_api_key() {
    let (source, api) = (numbered(), Api::default());
    "key-1".clone_into(&mut api.rejects.lock());
    let client = source.layer().bodies(replay::Cloned).layer(api.clone());
    assert_eq!(client.oneshot(request()).await.unwrap().status(), StatusCode::OK);
    assert_eq!(api.keys(), ["key-1", "key-2"]);
}

// R99: the replay waits until the API is ready, and the credentials are rotated meanwhile.
#[tokio::test]
async fn a_replay_after_a_rotation_has_the_api_key_of_the_newest_fetch() {
    let (source, api) = (numbered(), Api::default());
    "key-1".clone_into(&mut api.rejects.lock());
    api.busy_after_a_rejection.store(true, Ordering::SeqCst);
    let client = source.layer().bodies(replay::Cloned).layer(api.clone());
    let call = tokio::spawn(client.oneshot(request()));
    eventually("the replay waits", || api.waits.load(Ordering::SeqCst)).await;
    assert_eq!(source.stats().fetches_succeeded, 2);
    source.rotate();
    api.busy_after_a_rejection.store(false, Ordering::SeqCst);
    assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(api.keys(), ["key-1", "key-3"]);
}

#[tokio::test]
async fn a_new_api_key_that_is_invalid_is_an_error_of_the_fetch_and_never_printed() {
    let value = Arc::new(Mutex::new("key-1"));
    let current = Arc::clone(&value);
    let key = Secret::from_fn(move || Ok(SecretValue::from(*current.lock())));
    let source = TokenSource::new(client("http://127.0.0.1:1/token").api_header("x-api-key", key).build().unwrap());
    *value.lock() = "CANARY\n";
    let error: Error = source.token().await.unwrap_err();
    assert!(error.to_string().starts_with("api_header: it contains a control character"), "{error}");
    assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
}
