//! [`TokenEndpoint::call`]: one HTTP exchange, within a deadline and a size limit.

use std::error::Error as StdError;
use std::io;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, LOCATION};
use http::{HeaderMap, Request, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use zeroize::Zeroizing;

use super::causes::{causes, in_one_line, timed_out};
use super::endpoint::{TokenEndpoint, check_timeout, origin_of};
use super::error_response;
use super::request::TokenRequest;
use super::response::EndpointResponse;
use super::response_body::ResponseBody;
use super::sent_request::SentRequest;
#[cfg(feature = "http-client")]
use super::tls_failure::tls_failure;
use crate::error::{BoxError, Error, ErrorKind};
use crate::rt;

/// The size limit of a response body. No token response is larger.
const MAX_BODY: usize = 64 * 1024;

/// Enough for one frame per byte, and some empty frames.
const MAX_FRAMES: usize = 2 * MAX_BODY;

/// How many frames are read before the task yields.
const FRAMES_PER_TURN: usize = 64;

const UNREACHABLE: &str = "check the token URL, the network, the proxy and the root certificates";
const NO_RESPONSE: &str = "closed the connection, or sent something that is not an HTTP/1.1 response";
const NOT_HTTP: &str = "check the scheme and the port of the token URL, and any proxy or gateway before the issuer; an issuer \
                        with HTTP/2 only needs another http_client";
const INCOMPLETE: &str = "check the network, and any proxy or gateway before the issuer";

const COMPRESSED: &str = "turn off compression of token responses at the issuer, or at the proxy before it";

/// The content codings of RFC 9110 section 8.4.1, and two newer ones. No other text of a response is shown.
const ENCODINGS: [&str; 7] = ["br", "compress", "deflate", "gzip", "x-compress", "x-gzip", "zstd"];

/// A host name has at most 253 characters (RFC 1035 section 2.3.4), and an origin also has a scheme and a port.
const MAX_ORIGIN: usize = 270;

/// The longest path of a redirect that an error shows.
const MAX_PATH: usize = 100;

/// A shorter segment of a path is not a key.
const MIN_KEY: usize = 16;

impl TokenEndpoint {
    /// Sends `request` as a `POST` and reads the response.
    ///
    /// It returns responses with a 2xx or 4xx status, apart from those listed below. The provider decides what they
    /// mean.
    ///
    /// # Errors
    ///
    /// Transient errors:
    ///
    /// - [`ErrorKind::Timeout`] if the call takes too long, and for HTTP 408.
    /// - [`ErrorKind::Throttled`] for HTTP 429.
    /// - [`ErrorKind::Unavailable`] for HTTP 421, 425 and 5xx and for I/O errors.
    /// - [`ErrorKind::MalformedResponse`] for a 2xx with a body of more than 64 KiB, or with a compressed body.
    ///
    /// Permanent errors:
    ///
    /// - [`ErrorKind::Config`] for a redirect, and for a [`timeout`](Self::timeout) of zero.
    /// - [`ErrorKind::Tls`] if the issuer's certificate is not accepted, if it requires another client certificate, or if there
    ///   is no common TLS version or cipher suite. A connection that is closed during the handshake is `Unavailable`.
    /// - [`ErrorKind::NoRuntime`] outside of a tokio runtime, and in a runtime without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the HTTP request. The issuer may have issued a token that is then never used.
    pub async fn call(&self, request: TokenRequest) -> Result<EndpointResponse, Error> {
        self.send(request.into_http(self.url.clone())?).await
    }

    /// As [`call`](Self::call), with a `GET` for a document.
    #[cfg(feature = "client-credentials")]
    pub(super) async fn get(&self) -> Result<EndpointResponse, Error> {
        self.send(super::request::get(self.url.clone())).await
    }

    async fn send(&self, request: Request<Bytes>) -> Result<EndpointResponse, Error> {
        check_timeout("timeout", self.timeout)?;
        let sent = SentRequest::of(&request);
        let mut deadline = rt::timer(self.timeout)?;
        let response = match rt::within(deadline.as_mut(), self.client.send(request)).await {
            Some(Ok(response)) => response,
            Some(Err(error)) if was_connected(&*error) => return Err(self.io_error(NO_RESPONSE, NOT_HTTP, error)),
            Some(Err(error)) => return Err(self.io_error("could not be reached", UNREACHABLE, error)),
            None => return Err(self.timed_out()),
        };
        let (parts, body) = response.into_parts();
        let body = rt::within(deadline.as_mut(), read(&parts.headers, body)).await;
        let mut response = EndpointResponse {
            origin: self.origin.clone(),
            status: parts.status,
            headers: parts.headers,
            repeats_request: false,
            body: Zeroizing::default(),
        };
        let status = response.status;
        if status.is_redirection() {
            return Err(redirect(&response, &self.url, &sent));
        }
        // An error status is enough to report the error, even if the body is late, incomplete or too long.
        match body {
            Some(Ok(body)) => response.body = body,
            _ if !status.is_success() => {}
            Some(Err(ReadError::TooLong)) => {
                return Err(response.error(ErrorKind::MalformedResponse, "sent a body of more than 64 KiB"));
            }
            Some(Err(ReadError::Io(error))) => {
                return Err(self.io_error("did not send a complete response", INCOMPLETE, error).with_status(status));
            }
            None => return Err(self.timed_out().with_status(status)),
        }
        if let Some(encoding) = encoding(&response.headers) {
            // The status of an error is enough to report it.
            response.body = Zeroizing::default();
            if status.is_success() {
                let what = format!("sent a body with the Content-Encoding {encoding}, which was not requested");
                return Err(response.error(ErrorKind::MalformedResponse, &what).with_hint(COMPRESSED));
            }
        }
        response.repeats_request = response.error_code().is_some_and(|code| sent.is_repeated_in(code));
        error_response::transient(&response).map_or(Ok(response), Err)
    }

    fn timed_out(&self) -> Error {
        let Self { origin, timeout, .. } = self;
        Error::new(ErrorKind::Timeout, format!("the issuer at {origin} did not respond within {timeout:?}"))
    }

    fn io_error(&self, what: &str, hint: &'static str, error: BoxError) -> Error {
        let is_http_client = self.client.is_http_client();
        let may_print_a_key = !is_http_client && may_hold_a_key(&self.url);
        // The client may return an error of this crate. It is already complete.
        if let Some(found) = Error::find(&*error) {
            return match found.source() {
                Some(_) if may_print_a_key => found.clone().without_source(),
                Some(source) if is_http_client => found.clone().with_cause(in_one_line(source)),
                _ => found.clone(),
            };
        }
        let outcome = match tls_failure(&*error) {
            Some((kind, what, hint)) => {
                let outcome = Error::new(kind, format!("the issuer at {} {what}", self.origin));
                // The hint names settings of this crate's client.
                if is_http_client { outcome.with_hint(hint) } else { outcome }
            }
            None => {
                let kind = if timed_out(&*error) { ErrorKind::Timeout } else { ErrorKind::Unavailable };
                Error::new(kind, format!("the issuer at {} {what}", self.origin)).with_hint(hint)
            }
        };
        if is_http_client {
            return outcome.with_cause(in_one_line(&*error)).with_source(error);
        }
        if !may_print_a_key {
            return outcome.with_source(error);
        }
        // The client may print the URL in any spelling, or only parts of it. The kind of an I/O error is not text.
        let mut kinds = causes(&*error).filter_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()));
        match kinds.find(|kind| *kind != io::ErrorKind::Other) {
            Some(kind) => outcome.with_source(io::Error::from(kind)),
            None => outcome,
        }
    }
}

/// Whether the error of hyper-util's client came after the connection was open.
#[cfg(feature = "http-client")]
fn was_connected(error: &(dyn StdError + 'static)) -> bool {
    use hyper_util::client::legacy::Error as ClientError;
    causes(error).any(|cause| cause.downcast_ref::<ClientError>().is_some_and(|error| !error.is_connect()))
}

#[cfg(not(feature = "http-client"))]
fn was_connected(_: &(dyn StdError + 'static)) -> bool {
    false
}

#[cfg(not(feature = "http-client"))]
fn tls_failure(_: &(dyn StdError + 'static)) -> Option<(ErrorKind, &'static str, &'static str)> {
    None
}

/// Whether a URL has a part that may be a key. Some issuers put one into the query, or into the path.
fn may_hold_a_key(url: &Uri) -> bool {
    url.query().is_some_and(|query| !query.is_empty()) || url.path().split('/').any(is_like_a_key)
}

fn is_like_a_key(segment: &str) -> bool {
    segment.len() >= MIN_KEY && segment.bytes().any(|b| b.is_ascii_digit())
}

/// Why a body could not be read.
enum ReadError {
    TooLong,
    Io(BoxError),
}

async fn read(headers: &HeaderMap, mut body: ResponseBody) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    if declared_length(headers).max(body.size_hint().lower()) > MAX_BODY as u64 {
        return Err(ReadError::TooLong);
    }
    // Allocated once: a buffer that grows leaves copies that are not wiped.
    let capacity = match usize::try_from(declared_length(headers)) {
        Ok(declared) if (1..=MAX_BODY).contains(&declared) => declared,
        _ => MAX_BODY,
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let mut frames = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ReadError::Io)?;
        // Frames may be empty. An endless sequence of ready frames would keep the deadline from being polled.
        frames += 1;
        if frames > MAX_FRAMES {
            return Err(ReadError::TooLong);
        }
        if frames % FRAMES_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
        if let Some(data) = frame.data_ref() {
            if data.len() > MAX_BODY - bytes.len() {
                return Err(ReadError::TooLong);
            }
            // The service returned more than `Content-Length` declares.
            if data.len() > bytes.capacity() - bytes.len() {
                let mut larger = Zeroizing::new(Vec::with_capacity(MAX_BODY));
                larger.extend_from_slice(&bytes);
                bytes = larger;
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}

/// The `Content-Encoding` of a response, unless it is `identity`.
fn encoding(headers: &HeaderMap) -> Option<&'static str> {
    let values = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("unreadable"));
    let mut names = values.flat_map(|value| value.split(',')).map(str::trim);
    let name = names.find(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"))?;
    Some(ENCODINGS.into_iter().find(|known| known.eq_ignore_ascii_case(name)).unwrap_or("of an unknown name"))
}

fn declared_length(headers: &HeaderMap) -> u64 {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok()).unwrap_or_default()
}

/// Following a redirect would send the client's secret to the host that it names (RFC 9700 section 4.11).
///
/// The path of a redirect to the same host is shown: often only a slash is missing. The path of another host is not.
fn redirect(response: &EndpointResponse, url: &Uri, sent: &SentRequest) -> Error {
    let location = response.headers.get(LOCATION).and_then(|location| location.to_str().ok()?.parse::<Uri>().ok());
    let origin = location.as_ref().and_then(origin_of).filter(|origin| origin.len() <= MAX_ORIGIN);
    let path = location.as_ref().map(Uri::path).filter(|path| is_plain_path(path) && !may_hold_a_key(url));
    let path = path.filter(|path| !sent.is_repeated_in_path(path));
    let is_relative = location.as_ref().is_some_and(|location| location.authority().is_none());
    let what = match (origin, path) {
        (Some(origin), Some(path)) if *origin == *response.origin => {
            format!("redirects to {origin}{path}, which is not followed")
        }
        (Some(origin), _) => format!("redirects to {origin}, which is not followed"),
        (None, Some(path)) if is_relative => format!("redirects to {path}, which is not followed"),
        (None, _) => String::from("sent a redirect, which is not followed"),
    };
    response.error(ErrorKind::Config, &what).with_hint("set the token URL that the issuer documents")
}

fn is_plain_path(path: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._".contains(&b);
    // A second slash would begin a host.
    let begins = path.starts_with('/') && !path.starts_with("//");
    begins && path.len() <= MAX_PATH && path.bytes().all(is_plain) && !path.split('/').any(is_like_a_key)
}
