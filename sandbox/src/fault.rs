//! Faults that a test scripts for the issuer.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER},
};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::{
    response::ScriptedResponse,
    server::{Reply, ReplyBody},
};

/// What the issuer does wrong with one token request.
///
/// [`Response`](Self::Response), [`Hang`](Self::Hang) and [`Reset`](Self::Reset) apply to any request. The other faults need a
/// valid request: the issuer mints a token for it, then changes the response.
///
/// The `Debug` output does not contain scripted texts.
#[derive(Clone)]
#[non_exhaustive]
pub enum Fault {
    /// Sends this response.
    Response(ScriptedResponse),
    /// Sends no response. The connection stays open.
    Hang,
    /// Closes the connection, with all its streams, without a response.
    Reset,
    /// Sends the documented head and half of the body, then closes the connection.
    TruncatedBody,
    /// Sends the documented response one byte at a time, with this delay before each byte.
    SlowBody(Duration),
    /// Replaces `token_type`, or omits it.
    TokenType(Option<String>),
    /// Replaces the value of `expires_in` with this raw text, or omits the field. The text need not be valid JSON.
    ExpiresIn(Option<String>),
    /// Replaces `access_token` with this text, escaped for JSON, or omits the field.
    AccessToken(Option<String>),
}

impl Fault {
    /// An empty response with this status.
    pub fn status(status: StatusCode) -> Self {
        Self::Response(ScriptedResponse::new(status))
    }

    /// An empty response with this status and a `Retry-After`, in seconds or as an HTTP date.
    pub fn retry_after(status: StatusCode, value: HeaderValue) -> Self {
        Self::Response(ScriptedResponse::new(status).header(RETRY_AFTER, value))
    }

    /// A redirect to `location`.
    pub fn redirect(status: StatusCode, location: HeaderValue) -> Self {
        Self::Response(ScriptedResponse::new(status).header(LOCATION, location))
    }

    /// A 200 with this body.
    pub fn body(content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        Self::Response(ScriptedResponse::new(StatusCode::OK).header(CONTENT_TYPE, content_type).body(body))
    }

    /// The documented response for suspended credentials: 403 `disabled_client`.
    pub fn disabled_client() -> Self {
        Self::Response(ScriptedResponse::error(StatusCode::FORBIDDEN, "disabled_client"))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response(response) => f.debug_tuple("Response").field(response).finish(),
            Self::Hang => f.write_str("Hang"),
            Self::Reset => f.write_str("Reset"),
            Self::TruncatedBody => f.write_str("TruncatedBody"),
            Self::SlowBody(delay) => f.debug_tuple("SlowBody").field(delay).finish(),
            Self::TokenType(_) => f.write_str("TokenType(..)"),
            Self::ExpiresIn(_) => f.write_str("ExpiresIn(..)"),
            Self::AccessToken(_) => f.write_str("AccessToken(..)"),
        }
    }
}

/// The faults to come: the queue first, one for each request, then the fault for all other requests.
#[derive(Default)]
pub(crate) struct Script(Mutex<Plan>);

#[derive(Default)]
struct Plan {
    next: VecDeque<Fault>,
    always: Option<Fault>,
}

impl Script {
    pub(crate) fn push(&self, fault: Fault) {
        self.0.lock().next.push_back(fault);
    }

    pub(crate) fn always(&self, fault: Fault) {
        self.0.lock().always = Some(fault);
    }

    pub(crate) fn clear(&self) {
        *self.0.lock() = Plan::default();
    }

    pub(crate) fn take(&self) -> Option<Fault> {
        let mut plan = self.0.lock();
        plan.next.pop_front().or_else(|| plan.always.clone())
    }
}

/// The reply with this response. The fault may change how its body is sent.
pub(crate) fn reply(response: ScriptedResponse, fault: Option<Fault>) -> Reply {
    let (response, body) = match fault {
        Some(Fault::TruncatedBody) => truncated(response),
        Some(Fault::SlowBody(delay)) => dribbled(response, delay),
        _ => return Reply::Response(response.into_response()),
    };
    Reply::Response(response.into_response_with(body))
}

/// Half of the body with the length of the whole body, then an error.
fn truncated(response: ScriptedResponse) -> (ScriptedResponse, ReplyBody) {
    let whole = response.bytes().clone();
    let response = response.header(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let half = stream::iter([Ok(Frame::data(whole.slice(..whole.len() / 2)))]);
    let broken = stream::once(async {
        // hyper sends what it has when the body is not ready. After an error it sends nothing more.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("the sandbox truncated the body"))
    });
    (response, StreamBody::new(half.chain(broken)).boxed_unsync())
}

/// The body byte by byte, with a delay before each byte.
fn dribbled(response: ScriptedResponse, delay: Duration) -> (ScriptedResponse, ReplyBody) {
    let bytes = response.bytes().clone();
    let response = response.header(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let frames = stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        sleep(delay).await;
        let byte = rest.split_to(1);
        Some((Ok(Frame::data(byte)), rest))
    });
    (response, StreamBody::new(frames).boxed_unsync())
}
