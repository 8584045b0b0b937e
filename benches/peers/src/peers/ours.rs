//! This crate: the layer over `ClientCredentials`, with default settings.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::StatusCode;
use http_body_util::BodyExt as _;
use tower::{Layer as _, Service as _, ServiceExt as _};
use tower_bearer_auth::{BearerAuth, BearerAuthLayer, ClientCredentials, TokenSource, replay};

use crate::batch::{Way, now};
use crate::issuer::Issuer;
use crate::peer::{Cached, Peer};
use crate::sink::Sink;
use crate::wire::{self, BoxError, CLIENT_ID, CLIENT_SECRET, Http};

struct Ours {
    source: TokenSource<ClientCredentials>,
    client: BearerAuth<Http, ClientCredentials>,
    api_origin: String,
}

pub fn build(issuer: &Issuer) -> Arc<dyn Peer> {
    let provider = ClientCredentials::builder()
        .client_id(CLIENT_ID)
        .client_secret(CLIENT_SECRET)
        .token_url(issuer.token_url())
        .api_origin(issuer.api_origin())
        .build()
        .expect("good settings");
    let source = TokenSource::new(provider);
    let client = source.layer().layer(wire::http());
    Arc::new(Ours { source, client, api_origin: issuer.api_origin() })
}

#[async_trait]
impl Peer for Ours {
    async fn token(&self) -> Result<String, BoxError> {
        Ok(self.source.token().await?.expose_secret().to_owned())
    }

    async fn send(&self) -> Result<StatusCode, BoxError> {
        let mut client = self.client.clone();
        let (head, body) =
            client.ready().await?.call(wire::things(&self.api_origin, wire::FEW_HEADERS)).await?.into_parts();
        body.collect().await?;
        Ok(head.status)
    }

    fn cached(&self, headers: usize) -> Cached {
        let (source, shown) = (self.source.clone(), self.source.clone());
        let read = Way::new(
            "token()",
            || (),
            move |()| now(source.token()).expect("a token"),
            move || now(shown.token()).expect("a token").expose_secret().to_owned(),
        );
        let off = self.source.layer().bodies(replay::Off);
        Cached {
            read: Some(read),
            stamped: vec![
                stamped("layer", self.source.layer(), self.api_origin.clone(), headers),
                stamped("replay off", off, self.api_origin.clone(), headers),
            ],
        }
    }
}

fn stamped<R>(label: &'static str, layer: BearerAuthLayer<ClientCredentials, R>, origin: String, headers: usize) -> Way
where
    R: Clone + 'static,
    BearerAuth<Sink<Infallible>, ClientCredentials, R>: tower::Service<
            http::Request<http_body_util::Full<bytes::Bytes>>,
            Response = http::Response<http_body_util::Full<bytes::Bytes>>,
            Error = BoxError,
        > + Clone
        + 'static,
{
    let service = std::cell::RefCell::new(layer.layer(Sink::silent()));
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
