//! API keys that go with the token, from a file or a function that changes while the program runs.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use parking_lot::Mutex;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_bearer_auth::{AccessPsp, BoxError, Error, Secret, SecretValue, TokenSource, replay};

use super::wire::{GOOD, Wire, client, http_response};

type Body = Empty<bytes::Bytes>;

/// An API that records the `x-api-key` of each request, and rejects what `rejects` says.
#[derive(Clone, Default)]
struct Api {
    keys: Arc<Mutex<Vec<String>>>,
    rejects: Arc<Mutex<String>>,
}

impl Api {
    fn respond(&self, request: &Request<Body>) -> Response<Body> {
        let key = request.headers().get_all("x-api-key").iter().map(|key| key.to_str().unwrap()).collect::<String>();
        let mut response = Response::new(Body::new());
        if key == *self.rejects.lock() {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
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
            let inner = api.clone();
            let service = service_fn(move |request| std::future::ready(Ok::<_, BoxError>(inner.respond(&request))));
            let layer = $source.layer().bodies(replay::Cloned);
            let (one, other) = (layer.layer(service.clone()), layer.layer(service));
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

// R99: the API has revoked the key together with the token. The fetch after the 401 loads the new key.
#[tokio::test]
async fn the_replay_of_a_rejected_request_has_the_new_api_key() {
    let issued = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&issued);
    let key = Secret::from_fn(move || {
        // The builder loads it once, and the first fetch too.
        let number = if count.load(Ordering::SeqCst) < 2 { 1 } else { 2 };
        Ok(SecretValue::from(format!("key-{number}")))
    });
    let issuer = {
        let issued = Arc::clone(&issued);
        service_fn(move |_: Request<http_body_util::Full<bytes::Bytes>>| {
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            let token = format!(r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":1800}}"#);
            std::future::ready(Ok::<_, BoxError>(Response::new(http_body_util::Full::<bytes::Bytes>::from(token))))
        })
    };
    let provider = client("https://issuer.test/token").api_header("x-api-key", key);
    let provider = provider.http_client(tower_bearer_auth::token_endpoint::TokenClient::new(issuer)).build().unwrap();
    let source = TokenSource::new(provider);
    let api = Api::default();
    let inner = api.clone();
    let service = service_fn(move |request| std::future::ready(Ok::<_, BoxError>(inner.respond(&request))));
    let client = source.layer().bodies(replay::Cloned).layer(service);
    client.clone().oneshot(request()).await.unwrap();
    issued.store(5, Ordering::SeqCst);
    "key-1".clone_into(&mut api.rejects.lock());
    assert_eq!(client.oneshot(request()).await.unwrap().status(), StatusCode::OK);
    assert_eq!(api.keys(), ["key-1", "key-1", "key-2"]);
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
