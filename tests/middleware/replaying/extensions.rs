//! A replay has the extensions of the request, also if the layer did not copy them because one of them is the key.

use http::Extensions;
use tower_bearer_auth::{ExtensionKey, FetchContext, IssuedToken, RequestHead};

use super::*;

/// The number is not part of the identity.
#[derive(Clone, Debug)]
struct Tenant(String, usize);

impl PartialEq for Tenant {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Tenant {}

impl std::hash::Hash for Tenant {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Trace(u32);

/// Reads the tenant, and returns its name in lower case.
struct Tenants(AtomicUsize);

impl TokenProvider for Tenants {
    type Key = ExtensionKey<Tenant>;

    fn key(&self, request: &RequestHead<'_>) -> Result<Self::Key, Error> {
        let ExtensionKey(Tenant(name, number)) = tower_bearer_auth::RequestKey::from_request(request)?;
        Ok(ExtensionKey(Tenant(name.to_lowercase(), number)))
    }

    async fn fetch(&self, _: &Self::Key, _: &FetchContext) -> Result<IssuedToken, Error> {
        token(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// The tenant and the trace in the extensions of a request.
fn seen(extensions: &Extensions) -> (String, usize, Option<Trace>) {
    let Tenant(name, number) = extensions.get().cloned().unwrap();
    (name, number, extensions.get().cloned())
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_the_extensions_of_the_request() {
    let cases = [
        ("the key", "orders", None),
        ("the key in another spelling than the provider's", "ORDERS", None),
        ("the key and another extension", "orders", Some(Trace(7))),
    ];
    for (name, tenant, trace) in cases {
        let (api, revoked) = revocable(INVALID_TOKEN);
        let sent = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let below = {
            let (api, sent) = (api.clone(), Arc::clone(&sent));
            service_fn(move |request: Request<Body>| {
                sent.lock().push(seen(request.extensions()));
                api.clone().oneshot(request)
            })
        };
        let mut client = layer(Tenants(AtomicUsize::new(0))).layer(below);
        for rejected in 0..4 {
            revoked.up_to(rejected);
            let mut request = get();
            request.extensions_mut().insert(Tenant(tenant.to_owned(), rejected));
            if let Some(trace) = &trace {
                request.extensions_mut().insert(trace.clone());
            }
            let response = client.ready().await.unwrap().call(request).await.unwrap();
            assert_eq!(response.status(), 200, "{name}");
            advance(Duration::from_secs(30)).await;
        }
        let sent = sent.lock();
        assert_eq!(sent.len(), 7, "{name}: three of the four requests are replayed");
        let expected = [0, 1, 1, 2, 2, 3, 3].map(|request| (tenant.to_owned(), request, trace.clone()));
        assert_eq!(*sent, expected, "{name}");
    }
}
