//! A tonic client for the four kinds of calls, with the layers of this crate.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::Uri;
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tower::ServiceBuilder;
use tower_bearer_auth::grpc::tonic_0_14::{StatusLayer, StatusService};
use tower_bearer_auth::grpc::{self, GrpcService};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{BearerAuthLayer, TokenProvider};

use super::server::{Method, Raw};

/// How tonic's bodies are kept for a replay: it copies what has been sent, up to a limit.
type Bodies = Buffered<fn(ReplayBody<Body>) -> Body>;

/// The types can be named, so a client can be a field of a struct.
pub(crate) type Stack<P> = StatusService<GrpcService<Channel, P, Bodies>>;

pub(crate) struct CallClient<P: TokenProvider> {
    pub(crate) grpc: tonic::client::Grpc<Stack<P>>,
}

impl<P: TokenProvider<Key = ()>> CallClient<P> {
    /// `origin` makes the URI of each call absolute. The layer needs it to check the origin.
    pub(crate) fn new(layer: BearerAuthLayer<P>, channel: Channel, origin: Uri, hold_head: Option<Duration>) -> Self {
        let layer = grpc::layer(layer.bodies(Buffered::new(64 * 1024, Body::new as fn(ReplayBody<Body>) -> Body)));
        let layer = hold_head.into_iter().fold(layer, |layer, time| layer.hold_head(time));
        let stack = ServiceBuilder::new().layer(StatusLayer::new()).layer(layer).service(channel);
        Self { grpc: tonic::client::Grpc::with_origin(stack, origin) }
    }

    /// Makes a call with two messages, or with one if its kind allows one only. Returns the messages of the response.
    pub(crate) async fn call(&mut self, method: Method) -> Result<Vec<Bytes>, Status> {
        self.grpc.ready().await.map_err(Status::from_error)?;
        let (path, one) = (PathAndQuery::from_static(method.path()), Bytes::from_static(b"only"));
        let two = || Request::new(stream::iter([Bytes::from_static(b"first"), Bytes::from_static(b"last")]));
        let mut responses = match method {
            Method::Unary => return Ok(vec![self.grpc.unary(Request::new(one), path, Raw).await?.into_inner()]),
            Method::ClientStream => {
                return Ok(vec![self.grpc.client_streaming(two(), path, Raw).await?.into_inner()]);
            }
            Method::ServerStream => self.grpc.server_streaming(Request::new(one), path, Raw).await?.into_inner(),
            Method::Bidirectional => self.grpc.streaming(two(), path, Raw).await?.into_inner(),
        };
        let mut messages = Vec::new();
        while let Some(message) = responses.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }
}
