//! The layer.

use std::fmt;
use std::time::Duration;

use tower_layer::Layer;

use super::service::GrpcService;
use super::watch::WatchService;
use crate::layer::BearerAuthLayer;
use crate::layer::replay::Empty;
use crate::provider::TokenProvider;

/// Adds a layer below `layer` that watches the trailers of gRPC responses, and the time that requests take.
///
/// Set all settings of `layer` before. If you need its token source later, for example for `warm_up` or `status`, clone
/// [`BearerAuthLayer::source`] before, or make the layer with [`TokenSource::layer`](crate::TokenSource::layer).
pub fn layer<P: TokenProvider, R>(layer: BearerAuthLayer<P, R>) -> GrpcLayer<P, R> {
    GrpcLayer { layer, hold_head: None }
}

/// A [`BearerAuthLayer`] for gRPC. [`layer()`] makes one.
///
/// The requirements on the inner service are those of [`BearerAuthLayer`]. A stamped call takes one allocation more: the response
/// body is boxed, because it is polled before it is returned.
#[must_use = "layers do nothing unless you add them to a service"]
pub struct GrpcLayer<P: TokenProvider, R = Empty> {
    layer: BearerAuthLayer<P, R>,
    hold_head: Option<Duration>,
}

impl<P: TokenProvider, R> GrpcLayer<P, R> {
    /// Holds the head of a response for this time, if no message and no trailers are there with it. By default, and if the
    /// tokio runtime has no timers, the head is not held.
    ///
    /// Use this for a server that sends trailers shortly after the head, so that more calls that end with status 16 are
    /// replayed: 5 ms find 298 of 300 trailers that come 1 ms late. The price is that every bidirectional call opens 5 ms
    /// later, because its server has nothing to send yet. The head is passed on at once when a message comes.
    ///
    /// There is no setting to wait without a limit. A bidirectional caller may send its first message only after the head,
    /// and would wait forever.
    pub fn hold_head(mut self, time: Duration) -> Self {
        self.hold_head = Some(time);
        self
    }
}

impl<S, P: TokenProvider, R: Clone> Layer<S> for GrpcLayer<P, R> {
    type Service = GrpcService<S, P, R>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcService { auth: self.layer.layer(WatchService::new(inner, self.hold_head)) }
    }
}

impl<P: TokenProvider, R: Clone> Clone for GrpcLayer<P, R> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), hold_head: self.hold_head }
    }
}

impl<P: TokenProvider, R: fmt::Debug> fmt::Debug for GrpcLayer<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcLayer").field("layer", &self.layer).field("hold_head", &self.hold_head).finish()
    }
}
