//! What a test may make the issuer do instead of its duty.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER},
};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::{response::ScriptedResponse, server::ReplyBody};

/// What the issuer does with one token request, in place of its duty.
///
/// The first group looks at nothing of the request; the second needs a request that is in order,
/// mints a token for it, and then spoils the answer.
///
/// Its `Debug` form leaves out texts that are scripted.
#[derive(Clone)]
#[non_exhaustive]
pub enum Fault {
    /// Gives this answer.
    Response(ScriptedResponse),
    /// Never answers; the connection stays open.
    Hang,
    /// Closes the connection, with all its streams, without an answer.
    Reset,
    /// Sends the right head, promises the whole body, sends half of it and closes.
    TruncatedBody,
    /// Sends the right answer one byte at a time, with this pause before each.
    Dribble(Duration),
    /// Puts another `token_type` into the answer, or leaves it out.
    TokenType(Option<String>),
    /// Puts this raw JSON text in the place of `expires_in`'s number, or leaves the field out.
    ExpiresIn(Option<String>),
    /// Hands out this text as `access_token`, escaped as JSON wants it, or leaves the field out.
    AccessToken(Option<String>),
}

impl Fault {
    /// An empty answer with this status.
    pub fn status(status: StatusCode) -> Self {
        Self::Response(ScriptedResponse::new(status))
    }

    /// A 503 or the like with a `Retry-After`, in seconds or as an HTTP date.
    pub fn retry_after(status: StatusCode, value: HeaderValue) -> Self {
        Self::Response(ScriptedResponse::new(status).header(RETRY_AFTER, value))
    }

    /// A redirect.
    pub fn redirect(status: StatusCode, location: HeaderValue) -> Self {
        Self::Response(ScriptedResponse::new(status).header(LOCATION, location))
    }

    /// A 200 with these bytes for its body, whatever they are.
    pub fn body(content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        Self::Response(ScriptedResponse::new(StatusCode::OK).header(CONTENT_TYPE, content_type).body(body))
    }

    /// The documented answer to suspended credentials: 403 `disabled_client`.
    pub fn disabled_client() -> Self {
        Self::Response(ScriptedResponse::error(StatusCode::FORBIDDEN, "disabled_client"))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response(answer) => f.debug_tuple("Response").field(answer).finish(),
            Self::Hang => f.write_str("Hang"),
            Self::Reset => f.write_str("Reset"),
            Self::TruncatedBody => f.write_str("TruncatedBody"),
            Self::Dribble(pause) => f.debug_tuple("Dribble").field(pause).finish(),
            Self::TokenType(_) => f.write_str("TokenType(..)"),
            Self::ExpiresIn(_) => f.write_str("ExpiresIn(..)"),
            Self::AccessToken(_) => f.write_str("AccessToken(..)"),
        }
    }
}

/// The faults that are still to come: first the queue, one a request, then the standing one.
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

/// Half of the body under the whole body's length, then a broken stream.
pub(crate) fn truncated(answer: ScriptedResponse) -> (ScriptedResponse, ReplyBody) {
    let whole = answer.bytes().clone();
    let answer = answer.header(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let broken = Err(std::io::Error::other("the sandbox cut the body short"));
    let half = Ok(Frame::data(whole.slice(..whole.len() / 2)));
    (answer, StreamBody::new(stream::iter([half, broken])).boxed_unsync())
}

/// The body byte by byte, with a pause before each.
pub(crate) fn dribbled(answer: ScriptedResponse, pause: Duration) -> (ScriptedResponse, ReplyBody) {
    let bytes = answer.bytes().clone();
    let answer = answer.header(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let drops = stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        sleep(pause).await;
        let drop = rest.split_to(1);
        Some((Ok(Frame::data(drop)), rest))
    });
    (answer, StreamBody::new(drops).boxed_unsync())
}
