//! A replay has the extensions of the request, also if the layer did not copy them because one of them is the key.

use http::Extensions;
use tower_bearer_auth::{ExtensionKey, FetchContext, IssuedToken, RequestHead};

use super::*;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tenant(String);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Trace(u32);

/// Reads the tenant, and returns its name in lower case.
struct Tenants(AtomicUsize);

impl TokenProvider for Tenants {
    type Key = ExtensionKey<Tenant>;

    fn key(&self, request: &RequestHead<'_>) -> Result<Self::Key, Error> {
        let ExtensionKey(Tenant(name)) = tower_bearer_auth::RequestKey::from_request(request)?;
        Ok(ExtensionKey(Tenant(name.to_lowercase())))
    }

    async fn fetch(&self, _: &Self::Key, _: &FetchContext) -> Result<IssuedToken, Error> {
        token(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// The tenant and the trace in the extensions of a request.
fn seen(extensions: &Extensions) -> (Option<Tenant>, Option<Trace>) {
    (extensions.get().cloned(), extensions.get().cloned())
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_the_extensions_of_the_request() {
    let cases = [
        ("the key", Tenant("orders".to_owned()), None),
        ("the key in another spelling than the provider's", Tenant("ORDERS".to_owned()), None),
        ("the key and another extension", Tenant("orders".to_owned()), Some(Trace(7))),
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
            request.extensions_mut().insert(tenant.clone());
            if let Some(trace) = &trace {
                request.extensions_mut().insert(trace.clone());
            }
            let response = client.ready().await.unwrap().call(request).await.unwrap();
            assert_eq!(response.status(), 200, "{name}");
            advance(Duration::from_secs(30)).await;
        }
        let sent = sent.lock();
        assert_eq!(sent.len(), 7, "{name}: three of the four requests are replayed");
        assert!(sent.iter().all(|extensions| *extensions == (Some(tenant.clone()), trace.clone())), "{name}: {sent:?}");
    }
}
