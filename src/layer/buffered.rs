//! A body that passes through and is kept on its way.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::replay::{Bodies, sealed};
use crate::error::BoxError;

/// A smaller frame is copied: it may be a few bytes out of a large buffer, all of which it would keep in memory.
const COPIED_BELOW: usize = 4 * 1024;

/// Keeps what has passed through of a body, up to a limit.
///
/// On a refusal below the limit the second sending starts with what was kept and goes on with the rest of the caller's
/// body, which is read once. Past the limit there is no second sending, and the caller gets the answer.
///
/// The limit counts the bytes of the data and of the trailers. Frames of less than 4 KiB are copied into one buffer, so that
/// a row of small ones takes no more memory than their bytes; larger ones are shared with the body that they came from,
/// and keep as much memory as it gave them. The second sending may be cut into other frames than the first.
///
/// ```
/// use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
/// use tower_bearer_auth::BoxError;
/// use tower_bearer_auth::replay::{Buffered, ReplayBody};
///
/// type Boxed = UnsyncBoxBody<bytes::Bytes, BoxError>;
/// let bodies = Buffered::new(64 * 1024, |body: ReplayBody<Boxed>| body.boxed_unsync());
/// ```
#[derive(Clone)]
pub struct Buffered<F> {
    limit: usize,
    wrap: F,
}

impl<F> Buffered<F> {
    /// Keeps up to `limit` bytes of each body. `wrap` makes a [`ReplayBody`] into the stack's own body type, for
    /// instance `tonic::body::Body::new`.
    pub fn new(limit: usize, wrap: F) -> Self {
        Self { limit, wrap }
    }
}

impl<F> fmt::Debug for Buffered<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<F> sealed::Sealed for Buffered<F> {}

impl<B, F> Bodies<B> for Buffered<F>
where
    B: Body,
    B::Error: Into<BoxError>,
    F: Fn(ReplayBody<B>) -> B + Clone,
{
    type Kept = Recorded<B>;
    type Room<C> = Option<C>;

    const WRAPS: bool = true;

    fn wrap(&self, body: B) -> (B, Option<Recorded<B>>) {
        let tape = Arc::new(Mutex::new(Tape {
            exact: body.size_hint().exact().is_some(),
            body: Some(Box::pin(body)),
            kept: Kept::default(),
            trailers: None,
            room: Some(self.limit),
            ended: false,
            reader: AtomicWaker::new(),
        }));
        let first = ReplayBody { side: Side::Recording(Arc::clone(&tape)) };
        ((self.wrap)(first), Some(Recorded { tape }))
    }

    fn is_whole(&self, recorded: &Recorded<B>) -> bool {
        recorded.tape.lock().room.is_some()
    }

    fn remake(&self, recorded: Recorded<B>) -> Option<B> {
        let mut tape = recorded.tape.lock();
        tape.room?;
        // From here on the first sending, should anything still read it, ends in an error and not in a short body.
        let (body, kept) = (tape.body.take()?, std::mem::take(&mut tape.kept).into_frames());
        let replaying = Replaying { kept, body, trailers: tape.trailers.take(), ended: tape.ended, exact: tape.exact };
        let reader = tape.reader.take();
        drop(tape);
        // The caller's body wakes whoever polled it last, which the first sending will not be again.
        if let Some(reader) = reader {
            reader.wake();
        }
        Some((self.wrap)(ReplayBody { side: Side::Replaying(replaying) }))
    }
}

/// What a second sending is made from.
pub struct Recorded<B> {
    tape: Arc<Mutex<Tape<B>>>,
}

/// A body that keeps what passes through it, or that sends what was kept.
pub struct ReplayBody<B> {
    side: Side<B>,
}

enum Side<B> {
    Recording(Arc<Mutex<Tape<B>>>),
    Replaying(Replaying<B>),
}

struct Tape<B> {
    /// `None` once the second sending has taken it over.
    body: Option<Pin<Box<B>>>,
    kept: Kept,
    trailers: Option<HeaderMap>,
    /// How many more bytes may be kept; `None` once the copy is not whole.
    room: Option<usize>,
    /// A body that has ended is not asked again: some panic.
    ended: bool,
    /// Whether the body knew its length, and so went out without chunks.
    exact: bool,
    /// Who waits for the next frame of the first sending.
    reader: AtomicWaker,
}

struct Replaying<B> {
    kept: VecDeque<Bytes>,
    body: Pin<Box<B>>,
    trailers: Option<HeaderMap>,
    ended: bool,
    exact: bool,
}

#[derive(Default)]
struct Kept {
    frames: VecDeque<Bytes>,
    /// Small frames since the last of `frames`.
    small: BytesMut,
}

impl Kept {
    fn push(&mut self, data: &Bytes) {
        if data.len() < COPIED_BELOW {
            self.small.extend_from_slice(data);
        } else {
            self.close();
            self.frames.push_back(data.clone());
        }
    }

    fn close(&mut self) {
        if !self.small.is_empty() {
            self.frames.push_back(self.small.split().freeze());
        }
    }

    fn into_frames(mut self) -> VecDeque<Bytes> {
        self.close();
        self.frames
    }
}

impl<B> Tape<B> {
    /// Takes `bytes` off the room; without enough of it the copy is given up.
    fn charge(&mut self, bytes: usize) -> bool {
        self.room = self.room.and_then(|room| room.checked_sub(bytes));
        if self.room.is_none() {
            self.give_up();
        }
        self.room.is_some()
    }

    fn keep(&mut self, data: &Bytes) {
        // Empty frames say nothing.
        if !data.is_empty() && self.charge(data.len()) {
            self.kept.push(data);
        }
    }

    fn keep_trailers(&mut self, trailers: &HeaderMap) {
        if self.charge(trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()) {
            self.trailers = Some(trailers.clone());
        }
    }

    fn give_up(&mut self) {
        self.room = None;
        self.kept = Kept::default();
        self.trailers = None;
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl<B: Body> Tape<B>
where
    B::Error: Into<BoxError>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(Some(Err("the request was refused and is being sent again".into())));
        };
        self.reader.register(cx.waker());
        let frame = ready!(poll_frame(body.as_mut(), cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.keep_trailers(trailers);
                }
            }
            Some(Err(_)) => self.give_up(),
            None => self.ended = true,
        }
        Poll::Ready(frame)
    }
}

fn poll_frame<B: Body>(body: Pin<&mut B>, cx: &mut Context<'_>) -> Polled
where
    B::Error: Into<BoxError>,
{
    body.poll_frame(cx).map(|frame| {
        frame.map(|frame| match frame {
            Ok(frame) => Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))),
            Err(error) => Err(error.into()),
        })
    })
}

impl<B: Body> Body for ReplayBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match &mut self.get_mut().side {
            Side::Recording(shared) => {
                let mut tape = shared.lock();
                // The answer is with the caller: nobody will ask for the copy.
                if Arc::strong_count(shared) == 1 {
                    tape.give_up();
                }
                tape.poll(cx)
            }
            Side::Replaying(copy) => {
                if let Some(data) = copy.kept.pop_front() {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                if let Some(trailers) = copy.trailers.take() {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                if copy.ended {
                    return Poll::Ready(None);
                }
                poll_frame(copy.body.as_mut(), cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.side {
            Side::Recording(tape) => tape.lock().body.as_ref().is_some_and(|body| body.is_end_stream()),
            Side::Replaying(copy) => {
                copy.kept.is_empty() && copy.trailers.is_none() && (copy.ended || copy.body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.side {
            Side::Recording(tape) => tape.lock().body.as_ref().map(|body| body.size_hint()).unwrap_or_default(),
            Side::Replaying(copy) => {
                let kept: u64 = copy.kept.iter().map(|data| data.len() as u64).sum();
                let rest = if copy.ended { SizeHint::with_exact(0) } else { copy.body.size_hint() };
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(kept));
                // What went out in chunks does so again: a length would leave the trailers out.
                if let Some(upper) = rest.upper().filter(|_| copy.exact).and_then(|upper| upper.checked_add(kept)) {
                    hint.set_upper(upper);
                }
                hint
            }
        }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for Recorded<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded").finish_non_exhaustive()
    }
}
