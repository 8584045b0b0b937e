//! The body of a replay under `replay::Buffered`: it has the bytes and the trailers of the caller's body, or there is no
//! replay.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{Audit, BearerAuthLayer, BoxError, IssuedToken, ReplayOutcome, from_fn};

use crate::run::run;

type Boxed = UnsyncBoxBody<Bytes, BoxError>;

/// One request.
#[derive(Arbitrary, Debug)]
pub struct Case {
    limit: u16,
    /// The lengths of the frames of the body.
    frames: Vec<u16>,
    /// The length of the value of a trailer.
    trailer: Option<u8>,
    /// Whether the body declares its length.
    has_length: bool,
    /// Whether the body fails in place of its end.
    fails: bool,
    /// How many frames the first send reads before the rejection, and while the new token is fetched.
    read_before: u8,
    read_during_fetch: u8,
    /// How many frames the first send reads after the replay has begun.
    read_after: u8,
}

pub fn check(case: &Case) {
    if case.frames.len() > 64 {
        return;
    }
    let expected = expected(case);
    assert_eq!(run(send(case)), expected);
}

/// What a server has read.
#[derive(Default, PartialEq)]
struct Read {
    bytes: Vec<u8>,
    trailer: Option<usize>,
    failed: bool,
    /// Whether the end was read.
    ended: bool,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, trailer, failed, ended } = self;
        write!(f, "{} bytes, trailer {trailer:?}, failed {failed}, ended {ended}", bytes.len())
    }
}

#[derive(Debug, PartialEq)]
struct Outcome {
    /// `None` if there was no replay.
    replay: Option<Read>,
    /// What the first send has read, and whether it got an error after the replay had begun.
    first: Read,
}

fn expected(case: &Case) -> Outcome {
    let frames = frames(case);
    let mut rest = frames.iter();
    let mut first = Read::default();
    let mut kept = 0;
    // If the copy is incomplete at the rejection, the caller gets the rejection at once.
    for reads in [case.read_before, case.read_during_fetch] {
        for _ in 0..reads {
            if first.failed || first.ended {
                break;
            }
            match rest.next() {
                Some(Part::Data(data)) => {
                    kept += data.len();
                    first.bytes.extend_from_slice(data);
                }
                Some(Part::Trailer(length)) => {
                    kept += "checksum".len() + length;
                    first.trailer = Some(*length);
                }
                Some(Part::Failure) => first.failed = true,
                None => first.ended = true,
            }
        }
        if kept > usize::from(case.limit) || first.failed {
            return Outcome { replay: None, first };
        }
    }
    let mut replay = Read { ended: !case.fails, ..Read::default() };
    for frame in &frames {
        match frame {
            Part::Data(data) => replay.bytes.extend_from_slice(data),
            Part::Trailer(length) => replay.trailer = Some(*length),
            Part::Failure => replay.failed = true,
        }
    }
    // The first send must not take what it has for the whole body.
    first.failed = case.read_after > 0 && !first.ended;
    Outcome { replay: Some(replay), first }
}

async fn send(case: &Case) -> Outcome {
    let first: Arc<Mutex<Option<(Boxed, Read)>>> = Arc::default();
    let replay: Arc<Mutex<Option<Read>>> = Arc::default();
    let (before, during, after) = (case.read_before, case.read_during_fetch, case.read_after);
    let provider = {
        let (fetches, first) = (AtomicU32::new(0), Arc::clone(&first));
        from_fn(move || {
            let number = fetches.fetch_add(1, Ordering::Relaxed);
            read(&first, during);
            std::future::ready(IssuedToken::bearer(format!("token-{number}")))
        })
    };
    let service = {
        let (first, replay) = (Arc::clone(&first), Arc::clone(&replay));
        let declared = case.has_length.then(|| frames(case).iter().map(Part::len).sum::<usize>());
        service_fn(move |request: Request<Boxed>| {
            let is_first = request.headers()["authorization"] == "Bearer token-0";
            let hint = request.body().size_hint().exact();
            assert_eq!(hint, declared.map(|length| length as u64), "the declared length");
            let (first, replay) = (Arc::clone(&first), Arc::clone(&replay));
            async move {
                if is_first {
                    *first.lock() = Some((request.into_body(), Read::default()));
                    read(&first, before);
                    let challenge = "Bearer error=\"invalid_token\"";
                    return Ok(Response::builder()
                        .status(401)
                        .header("www-authenticate", challenge)
                        .body(Boxed::default())?);
                }
                read(&first, after);
                let mut body = request.into_body();
                let mut seen = Read::default();
                while seen.add(body.frame().await) {}
                assert!(seen.failed || body.is_end_stream(), "the body does not know its end");
                *replay.lock() = Some(seen);
                Ok::<_, BoxError>(Response::new(Boxed::default()))
            }
        })
    };
    let bodies = Buffered::new(case.limit.into(), |body: ReplayBody<Boxed>| body.boxed_unsync());
    let layer = BearerAuthLayer::new(provider).allow_origin("https://api.example").unwrap().bodies(bodies);
    let body = Frames { parts: frames(case).into(), has_length: case.has_length, ended: false }.boxed_unsync();
    let request = Request::post("https://api.example/").body(body).unwrap();
    let response = layer.layer(service).oneshot(request).await.unwrap();
    let audit = Audit::of(&response).unwrap();
    let replay = replay.lock().take();
    let expected = if replay.is_some() { (ReplayOutcome::Replayed, 2) } else { (ReplayOutcome::NoCopy, 1) };
    assert_eq!((audit.replay, audit.sends), expected);
    let first = first.lock().take().map(|(_, read)| read).unwrap_or_default();
    Outcome { replay, first }
}

/// Reads frames of the first send.
fn read(first: &Mutex<Option<(Boxed, Read)>>, frames: u8) {
    let mut first = first.lock();
    let Some((body, seen)) = &mut *first else {
        return;
    };
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for _ in 0..frames {
        // A server stops at the end and at an error.
        if seen.failed || seen.ended {
            return;
        }
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(&mut cx) else {
            panic!("the body waits");
        };
        seen.add(frame);
    }
}

impl Read {
    /// Returns whether there may be more.
    fn add(&mut self, frame: Option<Result<Frame<Bytes>, BoxError>>) -> bool {
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.bytes.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap();
                    assert!(self.trailer.is_none(), "two trailers");
                    self.trailer = Some(trailers["checksum"].len());
                }
            },
            Some(Err(_)) => self.failed = true,
            None => self.ended = true,
        }
        !self.failed && !self.ended
    }
}

#[derive(Debug)]
enum Part {
    Data(Bytes),
    Trailer(usize),
    Failure,
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            _ => 0,
        }
    }
}

/// The parts of the body. Each byte shows its place.
fn frames(case: &Case) -> Vec<Part> {
    let mut place: u32 = 0;
    let mut parts: Vec<Part> = Vec::new();
    for length in &case.frames {
        let data = (0..u32::from(*length) % 9000).map(|at| (place + at).wrapping_mul(0x9e37_79b1).to_be_bytes()[0]);
        let data: Bytes = data.collect();
        place += data.len() as u32;
        parts.push(Part::Data(data));
    }
    if let Some(length) = case.trailer {
        parts.push(Part::Trailer(length.into()));
    }
    if case.fails {
        parts.push(Part::Failure);
    }
    parts
}

/// A body that panics if it is polled after its end.
struct Frames {
    parts: VecDeque<Part>,
    has_length: bool,
    ended: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        assert!(!self.ended, "polled after the end");
        Poll::Ready(match self.parts.pop_front() {
            Some(Part::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Part::Trailer(length)) => {
                let value = HeaderValue::try_from("x".repeat(length)).unwrap();
                Some(Ok(Frame::trailers(HeaderMap::from_iter([("checksum".parse().unwrap(), value)]))))
            }
            Some(Part::Failure) => {
                self.ended = true;
                Some(Err("the body fails".into()))
            }
            None => {
                self.ended = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.has_length {
            true => SizeHint::with_exact(self.parts.iter().map(Part::len).sum::<usize>() as u64),
            false => SizeHint::default(),
        }
    }
}
