//! The client: hyper-util, `BearerAuthLayer` over it, and a timer above and below the layer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tower::{Service, ServiceBuilder};
use tower_bearer_auth::{AccessPsp, BearerAuthLayer, BoxError, replay};

type Body = Full<Bytes>;

/// A client that trusts one certificate authority, or the public ones.
pub(crate) fn https_client(ca_pem: Option<&str>) -> Result<Client<HttpsConnector<HttpConnector>, Body>, BoxError> {
    let mut roots = rustls::RootCertStore::empty();
    match ca_pem {
        Some(pem) => roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?,
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_all_versions().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// Stamps the requests to `client`. The bodies are `Full<Bytes>`, so the layer can keep clones for a replay.
pub(crate) fn with_token<S>(
    client: S,
    layer: &BearerAuthLayer<AccessPsp>,
    added: &Added,
) -> impl Service<Request<Body>, Response = Response<Incoming>, Error = BoxError, Future: Send> + Clone + Send + use<S>
where
    S: Service<Request<Body>, Response = Response<Incoming>, Error: Into<BoxError>, Future: Send>,
    S: Clone + Send + 'static,
{
    let added = added.clone();
    ServiceBuilder::new()
        .map_request(Added::start)
        .layer(layer.clone().bodies(replay::Cloned))
        .map_request(move |request| added.stop(request))
        .service(client)
}

/// The time that requests spend in the layer, from its `call` to the `call` of the service below.
#[derive(Clone, Default)]
pub(crate) struct Added(Arc<Mutex<Vec<Duration>>>);

#[derive(Clone)]
struct Started(Instant, Arc<std::sync::Once>);

impl Added {
    #[expect(clippy::disallowed_methods, reason = "a measurement outside of the crate")]
    fn start(mut request: Request<Body>) -> Request<Body> {
        request.extensions_mut().insert(Started(Instant::now(), Arc::new(std::sync::Once::new())));
        request
    }

    /// Only the first send counts. A replay comes after a response.
    #[expect(clippy::disallowed_methods, reason = "a measurement outside of the crate")]
    fn stop(&self, request: Request<Body>) -> Request<Body> {
        if let Some(Started(at, once)) = request.extensions().get() {
            once.call_once(|| self.0.lock().push(at.elapsed()));
        }
        request
    }

    /// The median and the 99th percentile.
    pub(crate) fn percentiles(&self) -> (Duration, Duration) {
        let mut all = self.0.lock().clone();
        all.sort_unstable();
        let at = |share: f64| {
            let rank = (all.len() as f64 * share) as usize;
            all.get(rank.min(all.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        (at(0.5), at(0.99))
    }
}
