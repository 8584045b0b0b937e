//! cf-gears-toolkit-auth: `TokenProvider` for the client credentials grant, and its two tower layers. The one that
//! refreshes on a 401 corresponds to this crate's layer.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use toolkit_auth::oauth2::{
    BearerAuthAutoRefreshLayer, BearerAuthLayer, OAuthClientConfig, SecretString, TokenProvider,
};
use toolkit_http::HttpError;
use tower::util::{BoxCloneSyncService, MapErrLayer};
use tower::{Layer, Service, ServiceBuilder, ServiceExt as _};

use crate::batch::{Way, now};
use crate::issuer::Issuer;
use crate::peer::{Cached, Peer};
use crate::sink::Sink;
use crate::wire::{self, BoxError, CLIENT_ID, CLIENT_SECRET};

struct CfGears {
    provider: TokenProvider,
    client: BoxCloneSyncService<Request<Full<Bytes>>, Response<hyper::body::Incoming>, HttpError>,
    api_origin: String,
}

pub fn build(issuer: &Issuer) -> Arc<dyn Peer> {
    let config = OAuthClientConfig {
        token_endpoint: Some(issuer.token_url().parse().expect("a URL")),
        client_id: CLIENT_ID.to_owned(),
        client_secret: SecretString::new(CLIENT_SECRET),
        ..OAuthClientConfig::default()
    };
    let provider = TokenProvider::new(config).expect("good settings");
    // The layer needs an inner service with its own error type.
    let client = ServiceBuilder::new()
        .layer(BearerAuthAutoRefreshLayer::new(provider.clone()))
        .layer(MapErrLayer::new(|error| HttpError::Transport(Box::new(error))))
        .service(wire::http());
    Arc::new(CfGears { provider, client: BoxCloneSyncService::new(client), api_origin: issuer.api_origin() })
}

#[async_trait]
impl Peer for CfGears {
    async fn token(&self) -> Result<String, BoxError> {
        Ok(self.provider.get().await?.expose().to_owned())
    }

    async fn send(&self) -> Result<StatusCode, BoxError> {
        let client = self.client.clone();
        let (head, body) = client.oneshot(wire::things(&self.api_origin, wire::FEW_HEADERS)).await?.into_parts();
        body.collect().await?;
        Ok(head.status)
    }

    fn cached(&self, headers: usize) -> Cached {
        let (provider, shown) = (self.provider.clone(), self.provider.clone());
        let read = Way::new(
            "get()",
            || (),
            move |()| now(provider.get()).expect("a token"),
            move || now(shown.get()).expect("a token").expose().to_owned(),
        );
        let refreshing = BearerAuthAutoRefreshLayer::new(self.provider.clone());
        let plain = BearerAuthLayer::new(self.provider.clone());
        Cached {
            read: Some(read),
            stamped: vec![
                stamped("refreshing layer", refreshing, self.api_origin.clone(), headers),
                stamped("plain layer", plain, self.api_origin.clone(), headers),
            ],
        }
    }
}

fn stamped<L>(label: &'static str, layer: L, origin: String, headers: usize) -> Way
where
    L: Layer<Sink<HttpError>> + 'static,
    L::Service: Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = HttpError>,
{
    let service = RefCell::new(layer.layer(Sink::silent()));
    let make = {
        let origin = origin.clone();
        move || wire::things(&origin, headers)
    };
    Way::new(
        label,
        make,
        move |request| {
            let mut service = service.borrow_mut();
            now(async { service.ready().await.expect("ready").call(request).await.expect("a response") })
        },
        move || {
            let header = Arc::new(Mutex::new(String::new()));
            now(layer.layer(Sink::recording(&header)).oneshot(wire::things(&origin, headers))).expect("a response");
            header.lock().expect("no panic").clone()
        },
    )
}
