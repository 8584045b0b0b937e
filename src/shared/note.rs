//! What a note contains, and which failures are shared.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use http::StatusCode;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, MAX_SOURCES};

/// How long a transient failure keeps other processes from calling the issuer.
const TRANSIENT: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that a note lasts.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// The longest text in a note, in bytes.
const MAX_TEXT: usize = 512;

/// What a fetch leaves for the fetches of other processes if it has no token for them.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// The issuer failed.
    Failure(Error),
    /// The issuer returned a token again that the fetch knows. `rejected`: a server had rejected it.
    Repeated { rejected: bool },
}

impl Note {
    /// The note about `error`, and how long it lasts. `permanent` is the backoff after a permanent failure. `None` if the
    /// failure may be one of this process alone.
    pub(super) fn of(error: &Error, permanent: impl FnOnce() -> Duration) -> Option<(Self, Duration)> {
        if !is_of_the_issuer(error) {
            return None;
        }
        let backoff = if error.is_transient() { TRANSIENT } else { permanent() };
        let requested = error.retry_after().unwrap_or_default().min(MAX_RETRY_AFTER);
        Some((Self::Failure(error.clone()), backoff.max(requested)))
    }

    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let error = match self {
            Self::Repeated { rejected } => return Zeroizing::new(vec![1, u8::from(*rejected)]),
            Self::Failure(error) => error,
        };
        let status = error.status().map_or(0, |status| status.as_u16()).to_be_bytes();
        let flags = [2, u8::from(error.is_transient()), u8::from(error.retry_after().is_some()), status[0], status[1]];
        let mut bytes = Zeroizing::new(flags.to_vec());
        for text in [error.kind().as_str(), error.code().unwrap_or(""), error.message(), error.hint().unwrap_or("")] {
            let text = &text[..text.floor_char_boundary_at(MAX_TEXT)];
            // A text has at most 512 bytes.
            bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    /// The note with these bytes. `left` is how long it still lasts.
    pub(super) fn decode(bytes: &[u8], left: Duration) -> Option<Self> {
        let (transient, retry_after, high, low, mut rest) = match bytes {
            [1, rejected] => return Some(Self::Repeated { rejected: *rejected == 1 }),
            [2, transient, retry_after, high, low, rest @ ..] => (*transient, *retry_after, *high, *low, rest),
            _ => return None,
        };
        let mut text = || {
            let (length, tail) = rest.split_first_chunk::<2>()?;
            let (text, tail) = tail.split_at_checked(u16::from_be_bytes(*length).into())?;
            rest = tail;
            std::str::from_utf8(text).ok()
        };
        let (kind, code, message, hint) = (text()?, text()?, text()?, text()?);
        // A newer version of this crate may have more kinds.
        let kind = ErrorKind::ALL.into_iter().find(|known| known.as_str() == kind).unwrap_or(ErrorKind::Other);
        let mut error = Error::new(kind, message.to_owned()).with_transient(transient == 1).with_code(code);
        if !hint.is_empty() {
            error = error.with_hint(hint.to_owned());
        }
        if let Ok(status) = StatusCode::from_u16(u16::from_be_bytes([high, low])) {
            error = error.with_status(status);
        }
        if retry_after == 1 {
            error = error.with_retry_after(left);
        }
        Some(Self::Failure(error.with_shared_backoff(left)))
    }
}

/// The largest boundary of characters up to an index.
trait FloorCharBoundary {
    fn floor_char_boundary_at(&self, index: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_at(&self, index: usize) -> usize {
        (0..=index.min(self.len())).rev().find(|at| self.is_char_boundary(*at)).unwrap_or(0)
    }
}

/// Whether the issuer failed, and not something that this process alone may have: its trust roots, its proxy, its name
/// resolution, its files, its code, or its way to the issuer.
fn is_of_the_issuer(error: &Error) -> bool {
    match error.kind() {
        _ if error.is_of_this_process() => false,
        ErrorKind::InvalidCredentials
        | ErrorKind::InvalidRequest
        | ErrorKind::Throttled
        | ErrorKind::MalformedResponse
        | ErrorKind::UnsupportedTokenType => true,
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Other => {
            let reported = error.status().is_some() || error.code().is_some();
            // Nobody knows where the packets of a request that timed out were dropped.
            let timed_out = error.kind() == ErrorKind::Timeout;
            reported || error.is_transient() && !timed_out && !has_other_io_error(error)
        }
        _ => false,
    }
}

/// Whether an I/O error caused `error`, and not one that the issuer's machine can cause.
fn has_other_io_error(error: &Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    let of_peer = [BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof];
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    for _ in 0..MAX_SOURCES {
        let Some(this) = cause else { return false };
        if this.downcast_ref::<io::Error>().is_some_and(|io| !of_peer.contains(&io.kind())) {
            return true;
        }
        cause = this.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Duration = Duration::from_millis(700);

    fn again(error: &Error) -> Error {
        match Note::decode(&Note::Failure(error.clone()).encode(), LEFT) {
            Some(Note::Failure(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    // R95
    #[test]
    fn a_failure_is_the_same_in_another_process() {
        let plain = Error::new(ErrorKind::Other, "");
        let full = Error::new(ErrorKind::Throttled, "slow down: ä")
            .with_hint("wait")
            .with_status(StatusCode::TOO_MANY_REQUESTS)
            .with_code("slow_down")
            .with_retry_after(Duration::from_secs(5));
        let permanent = Error::permanent("no").with_kind(ErrorKind::InvalidRequest);
        for error in [plain, full, permanent] {
            let other = again(&error);
            assert_eq!(other.to_string(), error.to_string());
            assert_eq!((other.kind(), other.is_transient()), (error.kind(), error.is_transient()));
            assert_eq!((other.status(), other.code(), other.hint()), (error.status(), error.code(), error.hint()));
            assert_eq!(other.retry_after(), error.retry_after().map(|_| LEFT));
            assert_eq!(other.shared_backoff(), Some(LEFT));
        }
        for kind in ErrorKind::ALL {
            assert_eq!(again(&Error::new(kind, "a")).kind(), kind);
        }
    }

    // R95
    #[test]
    fn a_long_text_is_cut_between_characters() {
        let other = again(&Error::new(ErrorKind::Other, "ä".repeat(1_000)).with_hint("x".repeat(1_000)));
        assert_eq!(other.message(), "ä".repeat(256));
        assert_eq!(other.hint(), Some(&*"x".repeat(512)));
        assert_eq!(again(&Error::new(ErrorKind::Other, format!("x{}", "ä".repeat(1_000)))).message().len(), 511);
    }

    #[test]
    fn bytes_that_are_no_note_are_not_read() {
        let whole = Note::Failure(Error::new(ErrorKind::Other, "text").with_hint("hint")).encode();
        for length in 0..whole.len() {
            assert!(Note::decode(&whole[..length], LEFT).is_none(), "{length}");
        }
        for bytes in [&[0][..], &[1], &[1, 1, 1], &[2, 1, 1, 0, 0, 255, 255, 1], &[3, 1], &[255; 600]] {
            assert!(Note::decode(bytes, LEFT).is_none(), "{bytes:?}");
        }
        for rejected in [false, true] {
            let note = Note::decode(&Note::Repeated { rejected }.encode(), LEFT);
            assert!(matches!(note, Some(Note::Repeated { rejected: again }) if again == rejected));
        }
    }

    // R95
    #[test]
    fn a_note_lasts_as_long_as_its_failure_asks_for() {
        let permanent = || Duration::from_secs(4);
        let lasts = |error: Error| Note::of(&error, permanent).map(|(_, keep)| keep.as_secs());
        assert_eq!(lasts(Error::new(ErrorKind::Unavailable, "")), Some(1));
        assert_eq!(lasts(Error::new(ErrorKind::Throttled, "").with_retry_after(Duration::ZERO)), Some(1));
        assert_eq!(lasts(Error::new(ErrorKind::Throttled, "").with_retry_after(Duration::from_secs(20))), Some(20));
        assert_eq!(lasts(Error::new(ErrorKind::Throttled, "").with_retry_after(Duration::from_secs(61))), Some(60));
        assert_eq!(lasts(Error::new(ErrorKind::InvalidCredentials, "")), Some(4));
        assert_eq!(lasts(Error::new(ErrorKind::InvalidRequest, "").with_retry_after(Duration::from_secs(9))), Some(9));
        assert_eq!(lasts(Error::new(ErrorKind::Unavailable, "")), Some(1));
        assert_eq!(lasts(Error::new(ErrorKind::Config, "")), None);
        #[cfg(feature = "http-client")]
        assert_eq!(lasts(Error::new(ErrorKind::Unavailable, "the proxy").caused_in_this_process()), None);
    }
}
