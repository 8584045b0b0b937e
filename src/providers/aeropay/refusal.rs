//! Refusals inside of bodies: read below the layer that stamps, and told to it by an extension.

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
use super::refusal_body::{Peek, RefusalBody};
use super::version::ApiVersion;
use crate::layer::BearerAuthLayer;

/// Enough for every error that Aeropay documents.
const LIMIT: usize = 64 * 1024;

/// `layer` with a [`RefusalLayer`] of its provider's version below it.
///
/// ```
/// # use tower_bearer_auth::{Aeropay, BearerAuthLayer, Error, aeropay};
/// # fn client(provider: Aeropay) {
/// let layer = aeropay::layer(BearerAuthLayer::new(provider));
/// # drop(layer);
/// # }
/// ```
pub fn layer<R>(layer: BearerAuthLayer<Aeropay, R>) -> Stack<RefusalLayer, BearerAuthLayer<Aeropay, R>> {
    let version = layer.source().provider().version();
    Stack::new(RefusalLayer::new(version), layer)
}

/// Reads Aeropay's answers for refusals of the token, and marks them with a [`Refusal`](crate::Refusal) extension, which
/// the layer above asks first.
///
/// Read is an answer with status 200, 401 or 403 to a request that carried the token's header, if it is JSON, has no
/// content encoding, and a `Content-Length` within the limit. It is passed on byte for byte, frame by frame, with its
/// headers; every other answer is passed on unread.
///
/// | code | marked |
/// | --- | --- |
/// | `AP007` token has expired, `AP008` invalid token | [`Explicit`](crate::Refusal::Explicit) |
/// | `AP101` no authenticated user, `AP005` session does not match | [`Bare`](crate::Refusal::Bare) |
/// | `AP002` with a 401 | [`Bare`](crate::Refusal::Bare) |
/// | `AP003`, `AP004`, `AP006`, `AP009` to `AP011`, and the other codes about credentials and parameters | [`NotRefused`](crate::Refusal::NotRefused), even with a 401 |
/// | none of these | not marked: the status and its challenge decide |
///
/// A code counts where the answer is an error: its status is one, or `success` is false or 0, or it has an `error` that is
/// not null. A response's head is passed on when its body has been read, so a body that stalls holds it up.
#[derive(Clone, Debug)]
#[must_use]
pub struct RefusalLayer {
    header: HeaderName,
    limit: usize,
}

impl RefusalLayer {
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

impl<S> Layer<S> for RefusalLayer {
    type Service = RefusalService<S>;

    fn layer(&self, inner: S) -> RefusalService<S> {
        RefusalService { inner, settings: self.clone() }
    }
}

/// The service that a [`RefusalLayer`] makes.
#[derive(Clone)]
#[must_use]
pub struct RefusalService<S> {
    inner: S,
    settings: RefusalLayer,
}

impl<S, B, T> Service<Request<B>> for RefusalService<S>
where
    S: Service<Request<B>, Response = Response<T>>,
    T: Body,
{
    type Response = Response<RefusalBody<T>>;
    type Error = S::Error;
    type Future = RefusalFuture<S::Future, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = request.headers().contains_key(&self.settings.header).then_some(self.settings.limit);
        RefusalFuture { limit, state: State::Calling { response: self.inner.call(request) } }
    }
}

impl<S: fmt::Debug> fmt::Debug for RefusalService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusalService").field("inner", &self.inner).field("limit", &self.settings.limit).finish()
    }
}

pin_project! {
    /// The future of a [`RefusalService`] call.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct RefusalFuture<F, T>
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

impl<F, T, E> Future for RefusalFuture<F, T>
where
    F: Future<Output = Result<Response<T>, E>>,
    T: Body,
{
    type Output = Result<Response<RefusalBody<T>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling { response } => {
                    let response = ready!(response.poll(cx))?;
                    let Some(length) = this.limit.and_then(|limit| worth_reading(&response, limit)) else {
                        return Poll::Ready(Ok(response.map(RefusalBody::untouched)));
                    };
                    let (head, body) = response.into_parts();
                    this.state.set(State::Reading { reading: Some((head, Peek::new(body, length))) });
                }
                StateProj::Reading { reading } => {
                    let Some((_, peek)) = reading else {
                        return Poll::Pending;
                    };
                    ready!(peek.poll(cx));
                    let Some((mut head, peek)) = reading.take() else {
                        return Poll::Pending;
                    };
                    if let Some(refusal) = peek.whole().and_then(|json| judge(head.status, json)) {
                        head.extensions.insert(refusal);
                    }
                    return Poll::Ready(Ok(Response::from_parts(head, peek.into_body())));
                }
            }
        }
    }
}

impl<F, T: Body> fmt::Debug for RefusalFuture<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusalFuture").finish_non_exhaustive()
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

fn judge(status: StatusCode, json: &[u8]) -> Option<crate::api::Refusal> {
    let envelope = Envelope::read(json)?;
    let known = envelope.is_error(status).then(|| envelope.code())??;
    Some(known.refusal(status))
}
