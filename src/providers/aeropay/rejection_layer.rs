//! The layer below that finds rejections in response bodies, and marks them for the layer above.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::{Layer, Stack};
use tower_service::Service;

use super::error_codes::Envelope;
use super::key::Identity;
use super::rejection_body::{ReadAhead, RejectionBody};
use super::version::ApiVersion;
use crate::layer::BearerAuthLayer;
use crate::message::Rejection;
use crate::provider::TokenProvider;

/// Large enough for every error that Aeropay documents.
const DEFAULT_LIMIT: usize = 64 * 1024;

/// Adds a [`RejectionLayer`] below `layer`, so that `layer` also handles rejections in response bodies.
///
/// The provider is [`Aeropay`](super::Aeropay), or any provider with its key, for example a
/// [`DynProvider`](crate::DynProvider).
///
/// There is no parameter for the API version. The codes are the same in both versions. The versions differ in the
/// header that carries the token, and the provider's [`header`](TokenProvider::header) returns it. So the two layers
/// cannot have different versions.
///
/// ```
/// # use tower_bearer_auth::aeropay::Identity;
/// # use tower_bearer_auth::{Aeropay, BearerAuthLayer, DynProvider, aeropay};
/// # fn client(provider: Aeropay) {
/// let layer = aeropay::layer(BearerAuthLayer::new(provider));
/// # drop(layer);
/// # }
/// # fn dynamic(provider: DynProvider<Identity>) {
/// # let layer = aeropay::layer(BearerAuthLayer::new(provider));
/// # drop(layer);
/// # }
/// ```
pub fn layer<P, R>(layer: BearerAuthLayer<P, R>) -> Stack<RejectionLayer, BearerAuthLayer<P, R>>
where
    P: TokenProvider<Key = Identity>,
{
    let header = layer.source().provider().header();
    Stack::new(RejectionLayer::for_header(header), layer)
}

/// Reads Aeropay's responses, and [`mark`](Rejection::mark)s those that reject the token.
///
/// [`layer()`] adds it to a [`BearerAuthLayer`]. In a stack of your own, put it below that layer.
///
/// It reads the body of a response if
///
/// - the request has the header that carries the token,
/// - the status is 200, 401 or 403, and
/// - the body is JSON without a content encoding, and its `Content-Length` is within the [`limit`](Self::limit).
///
/// It returns the response when it has read the body, so a body that stalls delays the response. The frames of the body
/// are passed on without a change.
///
/// | code | mark |
/// | --- | --- |
/// | `AP007` token has expired, `AP008` invalid token | [`InvalidToken`](Rejection::InvalidToken) |
/// | `AP101` no authenticated user, `AP005` session does not match | [`Unspecified`](Rejection::Unspecified) |
/// | `AP002` with a 401 | [`Unspecified`](Rejection::Unspecified) |
/// | `AP003`, `AP004`, `AP006`, `AP009` to `AP011`, and the other codes for credentials and parameters | `None`, even with a 401 |
/// | none of these | no mark: the status and its challenge decide |
///
/// A code counts if the response is an error: its status is not 2xx, or `success` is false or 0, or `error` is present
/// and not null.
#[derive(Clone, Debug)]
#[must_use]
pub struct RejectionLayer {
    header: HeaderName,
    limit: usize,
}

impl RejectionLayer {
    /// A layer for one version of the API. The version decides which header carries the token.
    pub fn new(version: ApiVersion) -> Self {
        Self::for_header(HeaderName::from_static(version.wire().token_header))
    }

    fn for_header(header: HeaderName) -> Self {
        Self { header, limit: DEFAULT_LIMIT }
    }

    /// Sets the largest body that is read, in bytes. The default is 64 KiB.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }
}

impl<S> Layer<S> for RejectionLayer {
    type Service = RejectionService<S>;

    fn layer(&self, inner: S) -> RejectionService<S> {
        RejectionService { inner, settings: self.clone() }
    }
}

/// The service of a [`RejectionLayer`].
#[derive(Clone)]
#[must_use]
pub struct RejectionService<S> {
    inner: S,
    settings: RejectionLayer,
}

impl<S, B, T> Service<Request<B>> for RejectionService<S>
where
    S: Service<Request<B>, Response = Response<T>>,
    T: Body,
{
    type Response = Response<RejectionBody<T>>;
    type Error = S::Error;
    type Future = RejectionFuture<S::Future, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = request.headers().contains_key(&self.settings.header).then_some(self.settings.limit);
        RejectionFuture { limit, state: State::Calling { response: self.inner.call(request) } }
    }
}

impl<S: fmt::Debug> fmt::Debug for RejectionService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectionService").field("inner", &self.inner).field("limit", &self.settings.limit).finish()
    }
}

pin_project! {
    /// The response future of a [`RejectionService`]. It panics if it is polled again after it has completed.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct RejectionFuture<F, T>
    where
        T: Body,
    {
        // `None` if the request did not have the token's header.
        limit: Option<usize>,
        #[pin]
        state: State<F, T>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, T>
    where
        T: Body,
    {
        Calling { #[pin] response: F },
        // `None` after the future has completed.
        Reading { response: Option<(response::Parts, ReadAhead<T>)> },
    }
}

impl<F, T, E> Future for RejectionFuture<F, T>
where
    F: Future<Output = Result<Response<T>, E>>,
    T: Body,
{
    type Output = Result<Response<RejectionBody<T>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling { response } => {
                    let outcome = ready!(response.poll(cx));
                    this.state.set(State::Reading { response: None });
                    let response = outcome?;
                    let Some(length) = this.limit.and_then(|limit| length_to_read(&response, limit)) else {
                        return Poll::Ready(Ok(response.map(RejectionBody::unread)));
                    };
                    let (head, body) = response.into_parts();
                    this.state.set(State::Reading { response: Some((head, ReadAhead::new(body, length))) });
                }
                StateProj::Reading { response } => {
                    if let Some((_, body)) = response {
                        ready!(body.poll(cx));
                    }
                    let Some((head, body)) = response.take() else {
                        panic!("RejectionFuture polled after completion");
                    };
                    let mark = body.complete().and_then(|json| mark_for(head.status, json));
                    let mut response = Response::from_parts(head, body.into_body());
                    if let Some(rejection) = mark {
                        Rejection::mark(&mut response, rejection);
                    }
                    return Poll::Ready(Ok(response));
                }
            }
        }
    }
}

impl<F, T: Body> fmt::Debug for RejectionFuture<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectionFuture").finish_non_exhaustive()
    }
}

/// The length of the body, if the response may contain a rejection.
fn length_to_read<T: Body>(response: &Response<T>, limit: usize) -> Option<usize> {
    let may_reject = matches!(response.status(), StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let headers = response.headers();
    if !may_reject || headers.contains_key(CONTENT_ENCODING) || !is_json(headers) {
        return None;
    }
    let length = single_value(headers, CONTENT_LENGTH)?;
    // `parse` accepts a plus sign, which is not allowed in a length.
    let length = length.bytes().all(|b| b.is_ascii_digit()).then(|| length.parse::<usize>().ok())??;
    (1..=limit).contains(&length).then_some(length)
}

fn is_json(headers: &HeaderMap) -> bool {
    single_value(headers, CONTENT_TYPE).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase();
        essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json")
    })
}

fn single_value(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(value)
}

/// The mark for a response with this body. The outer `None` means no mark.
fn mark_for(status: StatusCode, json: &[u8]) -> Option<Option<Rejection>> {
    let envelope = Envelope::read(json)?;
    let known = envelope.is_error(status).then(|| envelope.code())??;
    Some(known.rejection(status))
}
