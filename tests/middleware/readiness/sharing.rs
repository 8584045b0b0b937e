//! Permits that must be released, and providers that use the client which waits for them.

use std::sync::OnceLock;

use tower::limit::ConcurrencyLimit;
use tower::util::BoxCloneSyncService;
use tower_bearer_auth::{ExtensionKey, FetchContext, FixedToken};

use super::*;

type Client = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// A provider that needs a key, and has a token only for key 1.
struct ForOne;

impl TokenProvider for ForOne {
    type Key = ExtensionKey<u32>;

    async fn fetch(&self, key: &Self::Key, _: &FetchContext) -> Result<IssuedToken, Error> {
        match key.0 {
            1 => token(1),
            _ => Err(Error::permanent("unknown user").with_kind(ErrorKind::InvalidCredentials)),
        }
    }
}

// If a failed call kept its permit, all other calls would wait for it.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_sent_releases_its_permit() {
    let permits = Arc::new(Semaphore::new(1));
    let api = Api::new(|_| response(StatusCode::OK));
    let limit = ConcurrencyLimit::with_semaphore(Strict::new(api.clone()), Arc::clone(&permits));
    let mut client = layer(ForOne).layer(limit);
    let with_key = |key: u32| {
        let mut request = get();
        request.extensions_mut().insert(key);
        request
    };
    let clear_text = || Request::get("http://api.example.com").body(Body::default()).unwrap();
    let failing = [
        ("no key", get(), ErrorKind::MissingKey),
        ("clear text", clear_text(), ErrorKind::InsecureUrl),
        ("the issuer rejects the user", with_key(2), ErrorKind::InvalidCredentials),
        ("backoff after the failure", with_key(2), ErrorKind::InvalidCredentials),
    ];
    for (name, request, kind) in failing {
        let error = client.ready().await.unwrap().call(request).await.unwrap_err();
        assert_eq!(Error::find(&*error).unwrap().kind(), kind, "{name}");
        assert_eq!(permits.available_permits(), 1, "{name}");
        let other = timeout(FOREVER, client.clone().oneshot(with_key(1))).await.expect("other calls do not hang");
        assert_eq!(other.unwrap().status(), 200);
    }
    assert_eq!(api.sends().len(), 4);
}

/// A provider that sends its token requests through a client that other requests use too.
struct Through(Arc<OnceLock<Client>>);

impl TokenProvider for Through {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let client = self.0.get().unwrap().clone();
        match client.oneshot(get()).await {
            Ok(_) => token(1),
            Err(error) => Err(match Error::find(&*error) {
                Some(found) => found.clone(),
                None => Error::transient(error),
            }),
        }
    }
}

// R13: the request that waits for the token holds the permit that the token request needs.
#[tokio::test(start_paused = true)]
async fn a_provider_that_needs_the_permit_of_the_waiting_request_fails_with_a_timeout() {
    let permits = Arc::new(Semaphore::new(1));
    let api = Api::new(|_| response(StatusCode::OK));
    let limit = ConcurrencyLimit::with_semaphore(Strict::new(api.clone()), Arc::clone(&permits));
    let shared = Arc::new(OnceLock::new());
    assert!(shared.set(Client::new(limit.clone())).is_ok());
    let client = layer(Through(shared)).layer(limit);
    let begin = sleep(Duration::ZERO).deadline();
    let error = timeout(FOREVER, client.clone().oneshot(get())).await.expect("it does not hang").unwrap_err();
    let took = sleep(Duration::ZERO).deadline() - begin;
    let found = Error::find(&*error).unwrap();
    assert_eq!((found.kind(), found.is_transient()), (ErrorKind::Timeout, true));
    assert!(found.hint().unwrap().contains("concurrency limit"), "{found}");
    assert_eq!(took.as_secs(), 12);
    assert_eq!((api.sends().len(), permits.available_permits()), (0, 1));
    // With two permits it succeeds.
    permits.add_permits(1);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(client.oneshot(get()).await.unwrap().status(), 200);
}

// R13: the call fails within a second.
#[tokio::test(start_paused = true)]
async fn a_provider_with_a_client_in_its_own_layer_fails_at_once() {
    let api = Api::new(|_| response(StatusCode::OK));
    let shared = Arc::new(OnceLock::new());
    let client = layer(Through(Arc::clone(&shared))).layer(Strict::new(api.clone()));
    assert!(shared.set(Client::new(client.clone())).is_ok());
    let outcome = timeout(Duration::from_secs(1), client.oneshot(get())).await.expect("within a second");
    let error = outcome.unwrap_err();
    assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::Reentrant);
    assert!(Error::find(&*error).unwrap().hint().unwrap().contains("client"));
    assert!(api.sends().is_empty());
}

// A request to a foreign origin, and one that has the header already. The layer calls the ready service itself.
#[tokio::test(start_paused = true)]
async fn a_request_without_a_token_needs_only_one_permit_and_no_clone() {
    let permits = Arc::new(Semaphore::new(1));
    let strict = Strict::new(Api::new(|_| response(StatusCode::OK)));
    let instances = Arc::clone(&strict.instances);
    let limit = ConcurrencyLimit::with_semaphore(strict, Arc::clone(&permits));
    let mut client = layer(FixedToken::new("of-the-layer").unwrap()).if_not_present().layer(limit);
    for _ in 0..3 {
        let foreign = Request::get("https://elsewhere.test").body(Body::default()).unwrap();
        assert_eq!(client.ready().await.unwrap().call(foreign).await.unwrap().status(), 200);
        let mut own = get();
        own.headers_mut().insert("authorization", "Basic of-the-caller".parse().unwrap());
        assert_eq!(client.ready().await.unwrap().call(own).await.unwrap().status(), 200);
        assert_eq!(permits.available_permits(), 1);
    }
    assert_eq!(instances.load(Ordering::SeqCst), 1, "no clone was made");
}
