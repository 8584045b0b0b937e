//! The layer that gives errors a status code.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Request;
use pin_project_lite::pin_project;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{BoxError, Error, NotReplayed};

/// Turns errors of this crate into a boxed `tonic::Status`. Put it above the main layer.
///
/// | error | code |
/// | --- | --- |
/// | [`NotSent`](crate::NotSent), because the deadline of the request passed | `DEADLINE_EXCEEDED` |
/// | [`NotSent`](crate::NotSent), transient | `UNAVAILABLE` |
/// | [`NotSent`](crate::NotSent), permanent | `INTERNAL` |
/// | [`NotReplayed`](crate::NotReplayed) | `UNAUTHENTICATED`, which is what the server sent |
/// | any other | unchanged |
///
/// A permanent error is not `UNAUTHENTICATED`. If your server passed that code on, its caller would refresh *its* token.
///
/// The error is the source of the status, so [`Error::find`] finds the reason. The message of the status has only its kind,
/// because a server may pass the status on to its caller.
/// [The guide](crate::guide::errors) has the code of each kind.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_bearer_auth::grpc::{self, tonic_0_14::StatusLayer};
/// use tower_bearer_auth::{BearerAuthLayer, FixedToken};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let channel = tonic::transport::Channel::from_static("https://api.example.com").connect_lazy();
/// let layer = BearerAuthLayer::new(FixedToken::new("opaque-token")?).allow_origin("https://api.example.com")?;
/// let layer = layer.bodies(tower_bearer_auth::replay::Off);
/// let stack = ServiceBuilder::new().layer(StatusLayer::new()).layer(grpc::layer(layer)).service(channel);
/// let client = tonic::client::Grpc::with_origin(stack, "https://api.example.com".parse()?);
/// # let _ = client;
/// # Ok(()) })}
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "layers do nothing unless you add them to a service"]
pub struct StatusLayer(());

impl StatusLayer {
    /// The layer. It has no settings.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for StatusLayer {
    type Service = StatusService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        StatusService { inner }
    }
}

/// The service of a [`StatusLayer`].
#[derive(Clone)]
#[must_use = "services do nothing unless you call them"]
pub struct StatusService<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for StatusService<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = StatusFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(with_status)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        StatusFuture { response: self.inner.call(request) }
    }
}

impl<S: fmt::Debug> fmt::Debug for StatusService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StatusService").field(&self.inner).finish()
    }
}

pin_project! {
    /// The response future of a [`StatusService`].
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct StatusFuture<F> {
        #[pin]
        response: F,
    }
}

impl<F, T, E> Future for StatusFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.project().response.poll(cx)).map_err(with_status))
    }
}

impl<F> fmt::Debug for StatusFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusFuture").finish_non_exhaustive()
    }
}

fn with_status(error: impl Into<BoxError>) -> BoxError {
    let error = error.into();
    if error.is::<Status>() {
        return error;
    }
    let Some((code, message)) = code_of(&*error) else { return error };
    let mut status = Status::new(code, message);
    status.set_source(Arc::from(error));
    status.into()
}

/// The code and the message of an error of this crate.
fn code_of(error: &(dyn StdError + 'static)) -> Option<(Code, String)> {
    if error.is::<NotReplayed>() {
        return Some((Code::Unauthenticated, error.to_string()));
    }
    let found = Error::find(error)?;
    let code = match found.is_transient() {
        _ if found.is_at_deadline() => Code::DeadlineExceeded,
        true => Code::Unavailable,
        false => Code::Internal,
    };
    // A server may pass a status on, so the message has no details of the issuer.
    Some((code, format!("request not sent: {}", found.kind())))
}
