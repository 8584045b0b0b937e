//! kube-client: its auth layer with a token file, as inside of a cluster. It reads the file once a minute, and makes no token
//! request. The file has a token of the issuer.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use kube_client::client::ConfigExt as _;
use kube_client::client::middleware::AuthLayer;
use kube_client::config::{AuthInfo, Config};
use tokio::sync::OnceCell;
use tower::{BoxError as TowerError, Layer as _, Service as _, ServiceExt as _};

use crate::batch::{Way, now};
use crate::issuer::Issuer;
use crate::peer::{Cached, Peer};
use crate::sink::Sink;
use crate::wire::{self, BoxError, Http};

struct Kube {
    layer: OnceCell<Arc<AuthLayer>>,
    http: Http,
    token_url: String,
    api_origin: String,
}

pub fn build(issuer: &Issuer) -> Arc<dyn Peer> {
    let (token_url, api_origin) = (issuer.token_url(), issuer.api_origin());
    Arc::new(Kube { layer: OnceCell::new(), http: wire::http(), token_url, api_origin })
}

impl Kube {
    async fn layer(&self) -> Result<&Arc<AuthLayer>, BoxError> {
        let made = self.layer.get_or_try_init(|| async {
            let file = std::env::temp_dir().join(format!("peers-token-{}", std::process::id()));
            std::fs::write(&file, wire::fetch(&self.http, &self.token_url).await?.token)?;
            let mut config = Config::new(self.api_origin.parse()?);
            config.auth_info = AuthInfo { token_file: file.to_str().map(str::to_owned), ..AuthInfo::default() };
            let layer = config.auth_layer()?.ok_or("no layer")?;
            // The layer keeps the last token if the file is gone.
            std::fs::remove_file(&file)?;
            Ok::<_, BoxError>(Arc::new(layer))
        });
        made.await
    }
}

/// The header that arrives.
fn stamp(layer: &AuthLayer, request: Request<Full<Bytes>>) -> String {
    let header = Arc::new(Mutex::new(String::new()));
    now(layer.layer(Sink::<TowerError>::recording(&header)).oneshot(request)).expect("a response");
    header.lock().expect("no panic").clone()
}

#[async_trait]
impl Peer for Kube {
    /// The layer does not return the token, so it is read from a request.
    async fn token(&self) -> Result<String, BoxError> {
        let stamped = stamp(self.layer().await?, wire::things(&self.api_origin, 0));
        Ok(stamped.strip_prefix("Bearer ").ok_or("another scheme")?.to_owned())
    }

    async fn send(&self) -> Result<StatusCode, BoxError> {
        Err("only the costs of a cached token are measured".into())
    }

    fn cached(&self, headers: usize) -> Cached {
        let layer = self.layer.get().expect("a token was read");
        let service = RefCell::new(layer.layer(Sink::<TowerError>::silent()));
        let (shown, origin, shown_origin) = (Arc::clone(layer), self.api_origin.clone(), self.api_origin.clone());
        let stamped = Way::new(
            "layer",
            move || wire::things(&origin, headers),
            move |request| {
                let mut service = service.borrow_mut();
                now(async { service.ready().await.expect("ready").call(request).await.expect("a response") })
            },
            move || stamp(&shown, wire::things(&shown_origin, headers)),
        );
        Cached { read: None, stamped: vec![stamped] }
    }
}
