//! Rejections inside of bodies: read below the layer that stamps, and told to it by an extension.

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

use super::Aeropay;
use super::codes::Envelope;
use super::rejection_body::{Peek, RejectionBody};
use super::version::ApiVersion;
use crate::layer::BearerAuthLayer;
use crate::message::Rejection;

/// Enough for every error that Aeropay documents.
const LIMIT: usize = 64 * 1024;

/// `layer` with a [`RejectionLayer`] of its provider's version below it.
///
/// ```
/// # use tower_bearer_auth::{Aeropay, BearerAuthLayer, Error, aeropay};
/// # fn client(provider: Aeropay) {
/// let layer = aeropay::layer(BearerAuthLayer::new(provider));
/// # drop(layer);
/// # }
/// ```
pub fn layer<R>(layer: BearerAuthLayer<Aeropay, R>) -> Stack<RejectionLayer, BearerAuthLayer<Aeropay, R>> {
    let version = layer.source().provider().version();
    Stack::new(RejectionLayer::new(version), layer)
}

/// Reads Aeropay's answers for refusals of the token, and marks them with a [`Rejection`](crate::Rejection) extension, which
/// the layer above asks first.
///
/// Read is an answer with status 200, 401 or 403 to a request that carried the token's header, if it is JSON, has no
/// content encoding, and a `Content-Length` within the limit. It is passed on byte for byte, frame by frame, with its
/// headers; every other answer is passed on unread.
///
/// | code | marked |
/// | --- | --- |
/// | `AP007` token has expired, `AP008` invalid token | [`Explicit`](crate::Rejection::InvalidToken) |
/// | `AP101` no authenticated user, `AP005` session does not match | [`Bare`](crate::Rejection::Unspecified) |
/// | `AP002` with a 401 | [`Bare`](crate::Rejection::Unspecified) |
/// | `AP003`, `AP004`, `AP006`, `AP009` to `AP011`, and the other codes about credentials and parameters | [`NotRefused`](crate::Rejection::None__), even with a 401 |
/// | none of these | not marked: the status and its challenge decide |
///
/// A code counts where the answer is an error: its status is one, or `success` is false or 0, or it has an `error` that is
/// not null. A response's head is passed on when its body has been read, so a body that stalls holds it up.
#[derive(Clone, Debug)]
#[must_use]
pub struct RejectionLayer {
    header: HeaderName,
    limit: usize,
}

impl RejectionLayer {
    /// A layer for one version of the API: it says which header carries the token.
    pub fn new(version: ApiVersion) -> Self {
        Self { header: HeaderName::from_static(version.wire().token_header), limit: LIMIT }
    }

    /// Sets how large a body may be to be read, in bytes; 64 KiB by default.
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

/// The service that a [`RejectionLayer`] makes.
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
    /// The future of a [`RejectionService`] call.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct RejectionFuture<F, T>
    where
        T: Body,
    {
        // None where the answer says nothing of our token.
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
        Reading { reading: Option<(response::Parts, Peek<T>)> },
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
                    let response = ready!(response.poll(cx))?;
                    let Some(length) = this.limit.and_then(|limit| worth_reading(&response, limit)) else {
                        return Poll::Ready(Ok(response.map(RejectionBody::untouched)));
                    };
                    let (head, body) = response.into_parts();
                    this.state.set(State::Reading { reading: Some((head, Peek::new(body, length))) });
                }
                StateProj::Reading { reading } => {
                    let Some((_, peek)) = reading else {
                        return Poll::Pending;
                    };
                    ready!(peek.poll(cx));
                    let Some((head, peek)) = reading.take() else {
                        return Poll::Pending;
                    };
                    let rejection = peek.whole().and_then(|json| judge(head.status, json));
                    let mut response = Response::from_parts(head, peek.into_body());
                    if let Some(rejection) = rejection {
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

/// How long the body is, where it may hold a refusal.
fn worth_reading<T: Body>(response: &Response<T>, limit: usize) -> Option<usize> {
    let readable = matches!(response.status(), StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let headers = response.headers();
    if !readable || headers.contains_key(CONTENT_ENCODING) || !is_json(headers) {
        return None;
    }
    let length = only(headers, CONTENT_LENGTH)?;
    // `parse` takes a plus sign, which a length may not have.
    let length = length.bytes().all(|b| b.is_ascii_digit()).then(|| length.parse::<usize>().ok())??;
    (1..=limit).contains(&length).then_some(length)
}

fn is_json(headers: &HeaderMap) -> bool {
    only(headers, CONTENT_TYPE).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase();
        essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json")
    })
}

fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(value)
}

fn judge(status: StatusCode, json: &[u8]) -> Option<Option<Rejection>> {
    let envelope = Envelope::read(json)?;
    let known = envelope.is_error(status).then(|| envelope.code())??;
    Some(known.rejection(status))
}
