//! One call: the deadline, the cap, and which answers are errors whoever the issuer is.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{CONTENT_LENGTH, LOCATION};
use http::{HeaderMap, Request, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::Sleep;
use zeroize::Zeroizing;

use super::endpoint::{TokenEndpoint, origin_of};
use super::request::TokenRequest;
use super::response::EndpointResponse;
use super::service::ResponseBody;
use crate::error::{BoxError, Error, ErrorKind};
use crate::rt;

/// No token response is larger.
const MAX_ANSWER: usize = 64 * 1024;

/// One for each byte, and some that are empty.
const MAX_FRAMES: usize = 2 * MAX_ANSWER;
const FRAMES_IN_A_ROW: usize = 64;

/// A host name has at most 253 characters (RFC 1035 section 2.3.4); scheme and port come on top.
const MAX_ORIGIN: usize = 270;

impl TokenEndpoint {
    /// Sends `request` as a `POST` and reads the answer.
    ///
    /// An answer with a status of 2xx or 4xx is returned for the provider to judge, but for those below.
    ///
    /// # Errors
    ///
    /// Transient: [`ErrorKind::Timeout`] for a call that takes too long and for HTTP 408, [`ErrorKind::Throttled`] for 429,
    /// [`ErrorKind::Unavailable`] for 5xx and failures of I/O, [`ErrorKind::MalformedResponse`] for a 2xx whose body is
    /// larger than 64 KiB and for an answer that is none. Permanent: [`ErrorKind::Config`] for a redirect,
    /// [`ErrorKind::NoRuntime`] outside of a tokio runtime and in one whose timers are off.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the HTTP request. The issuer may have handed out a token that nobody gets to see.
    pub async fn call(&self, request: TokenRequest) -> Result<EndpointResponse, Error> {
        self.exchange(request.into_http(self.url.clone())).await
    }

    /// The same by `GET`: a document that the issuer keeps there.
    #[cfg(feature = "client-credentials")]
    pub(super) async fn get(&self) -> Result<EndpointResponse, Error> {
        self.exchange(super::request::get(self.url.clone())).await
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<EndpointResponse, Error> {
        let mut deadline = rt::timer(self.timeout)?;
        let response = match within(deadline.as_mut(), self.client.send(request)).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => return Err(self.broken("could not be reached", error)),
            None => return Err(self.too_slow()),
        };
        let (parts, body) = response.into_parts();
        let read = within(deadline.as_mut(), read(&parts.headers, body)).await;
        let mut answer = EndpointResponse {
            origin: self.origin.clone(),
            status: parts.status,
            headers: parts.headers,
            body: Zeroizing::default(),
        };
        if answer.status.is_redirection() {
            return Err(redirected(&answer));
        }
        // A status that is an error says more than a body that is late, torn or too long.
        match read {
            Some(Ok(body)) => answer.body = body,
            _ if !answer.status.is_success() => {}
            Some(Err(Unread::TooLong)) => {
                return Err(answer
                    .error(ErrorKind::MalformedResponse, "answered with more than 64 KiB")
                    .with_status(answer.status));
            }
            Some(Err(Unread::Broken(error))) => {
                return Err(self.broken("broke off its answer", error).with_status(answer.status));
            }
            None => return Err(self.too_slow().with_status(answer.status)),
        }
        answer.transient().map_or(Ok(answer), Err)
    }

    fn too_slow(&self) -> Error {
        let Self { origin, timeout, .. } = self;
        Error::new(ErrorKind::Timeout, format!("the issuer at {origin} did not answer within {timeout:?}"))
    }

    fn broken(&self, what: &str, error: BoxError) -> Error {
        // A client that refuses or fails in this crate's own terms has said it all.
        if let Some(error) = Error::find(&*error) {
            return error.clone();
        }
        let kind = if timed_out(&*error) { ErrorKind::Timeout } else { ErrorKind::Unavailable };
        let outcome = Error::new(kind, format!("the issuer at {} {what}", self.origin));
        if self.shows_query(&*error) {
            return outcome;
        }
        outcome.with_source(error)
    }

    /// Some HTTP clients put the whole URL into their errors, and its query may hold a key.
    fn shows_query(&self, error: &(dyn StdError + 'static)) -> bool {
        let Some(query) = self.url.query().filter(|query| !query.is_empty()) else {
            return false;
        };
        chain(error).any(|cause| format!("{cause} {cause:?}").contains(query))
    }
}

pub(super) fn timed_out(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut))
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

async fn within<F: Future>(deadline: Pin<&mut Sleep>, work: F) -> Option<F::Output> {
    match select(pin!(work), deadline).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

enum Unread {
    TooLong,
    Broken(BoxError),
}

async fn read(headers: &HeaderMap, mut body: ResponseBody) -> Result<Zeroizing<Vec<u8>>, Unread> {
    if declared_length(headers).max(body.size_hint().lower()) > MAX_ANSWER as u64 {
        return Err(Unread::TooLong);
    }
    // Allocated once: a buffer that grows leaves unwiped copies behind.
    let room = match usize::try_from(declared_length(headers)) {
        Ok(declared) if (1..=MAX_ANSWER).contains(&declared) => declared,
        _ => MAX_ANSWER,
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let mut frames = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Unread::Broken)?;
        // Frames may be empty, and an endless row of them keeps every timer from its turn.
        frames += 1;
        if frames > MAX_FRAMES {
            return Err(Unread::TooLong);
        }
        if frames % FRAMES_IN_A_ROW == 0 {
            tokio::task::yield_now().await;
        }
        if let Some(data) = frame.data_ref() {
            if data.len() > MAX_ANSWER - bytes.len() {
                return Err(Unread::TooLong);
            }
            // More than was declared, from a service that does not mind.
            if data.len() > bytes.capacity() - bytes.len() {
                let mut larger = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
                larger.extend_from_slice(&bytes);
                bytes = larger;
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}

fn declared_length(headers: &HeaderMap) -> u64 {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok()).unwrap_or_default()
}

/// Following a redirect would hand the client's secret to whoever is named in it (RFC 9700 section 4.11).
fn redirected(answer: &EndpointResponse) -> Error {
    let target = answer
        .headers
        .get(LOCATION)
        .and_then(|location| location.to_str().ok()?.parse::<Uri>().ok())
        .and_then(|location| origin_of(&location))
        .filter(|origin| origin.len() <= MAX_ORIGIN);
    let what = target.map_or_else(
        || String::from("answered with a redirect, which is not followed"),
        |target| format!("redirects to {target}, which is not followed"),
    );
    answer.error(ErrorKind::Config, &what).with_hint("set the token URL that the issuer documents")
}
