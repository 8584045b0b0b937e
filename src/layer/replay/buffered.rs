//! A body that is kept while it is sent.

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

use super::bodies::{Bodies, KeepBody};
use crate::error::BoxError;

/// Frames smaller than this are copied. A frame can be a few bytes of a large buffer, and keeping it would keep the
/// whole buffer in memory.
const COPIED_BELOW: usize = 4 * 1024;

/// Keeps a body while it is sent, up to a limit.
///
/// If the request is rejected before the limit is reached, the replay sends what was kept, and then the rest of the
/// caller's body. The layer reads the caller's body only once. Above the limit there is no replay, and the caller gets
/// the rejection.
///
/// The limit counts the bytes of data and trailers. Frames smaller than 4 KiB are copied into one buffer, so that many
/// small frames take no more memory than their bytes. Larger frames are shared with the caller's body and keep its
/// buffers in memory. The frames of the replay can have other sizes than those of the first send.
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
    /// Keeps up to `limit` bytes of each body. `wrap` converts a [`ReplayBody`] to the request body type of the stack,
    /// for example `tonic::body::Body::new`.
    pub fn new(limit: usize, wrap: F) -> Self {
        Self { limit, wrap }
    }
}

impl<F> fmt::Debug for Buffered<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[diagnostic::do_not_recommend]
impl<B, F> Bodies<B> for Buffered<F>
where
    B: Body,
    B::Error: Into<BoxError>,
    F: Fn(ReplayBody<B>) -> B + Clone,
{
}

impl<B, F> KeepBody<B> for Buffered<F>
where
    B: Body,
    B::Error: Into<BoxError>,
    F: Fn(ReplayBody<B>) -> B + Clone,
{
    type Kept = Recorded<B>;
    type Storage<C> = Option<C>;

    const WRAPS: bool = true;

    fn wrap(&self, body: B) -> (B, Option<Recorded<B>>) {
        let recording = Arc::new(Mutex::new(Recording {
            exact: body.size_hint().exact().is_some(),
            body: Some(Box::pin(body)),
            kept: Kept::default(),
            trailers: None,
            budget: Some(self.limit),
            ended: false,
            reader: AtomicWaker::new(),
        }));
        let first = ReplayBody { mode: BodyMode::Record(Arc::clone(&recording)) };
        ((self.wrap)(first), Some(Recorded { recording }))
    }

    fn is_complete(&self, recorded: &Recorded<B>) -> bool {
        recorded.recording.lock().budget.is_some()
    }

    fn restore(&self, recorded: Recorded<B>) -> Option<B> {
        let mut recording = recorded.recording.lock();
        recording.budget?;
        // The first send may still read the body. From now on it gets an error, so that the body does not seem
        // complete.
        let (body, kept) = (recording.body.take()?, std::mem::take(&mut recording.kept).into_frames());
        let trailers = recording.trailers.take();
        let replay = Replay { kept, body, trailers, ended: recording.ended, exact: recording.exact };
        let reader = recording.reader.take();
        drop(recording);
        // The caller's body would wake the first send, which does not poll it any more. So wake it here.
        if let Some(reader) = reader {
            reader.wake();
        }
        Some((self.wrap)(ReplayBody { mode: BodyMode::Replay(replay) }))
    }
}

/// What the body of a replay is made from.
pub(crate) struct Recorded<B> {
    recording: Arc<Mutex<Recording<B>>>,
}

/// The body that [`Buffered`] sends: it records the caller's body, or it replays what was recorded.
pub struct ReplayBody<B> {
    mode: BodyMode<B>,
}

enum BodyMode<B> {
    Record(Arc<Mutex<Recording<B>>>),
    Replay(Replay<B>),
}

struct Recording<B> {
    /// `None` after the replay has taken it.
    body: Option<Pin<Box<B>>>,
    kept: Kept,
    trailers: Option<HeaderMap>,
    /// How many more bytes may be kept. `None` if the copy is incomplete.
    budget: Option<usize>,
    /// Whether the body has ended. Such a body is not polled again, because some bodies panic.
    ended: bool,
    /// Whether the body had an exact length, so that it was sent without chunked encoding.
    exact: bool,
    /// The task of the first send, if it waits for a frame.
    reader: AtomicWaker,
}

struct Replay<B> {
    kept: VecDeque<Bytes>,
    body: Pin<Box<B>>,
    trailers: Option<HeaderMap>,
    ended: bool,
    exact: bool,
}

#[derive(Default)]
struct Kept {
    frames: VecDeque<Bytes>,
    /// The small frames after the last one in `frames`.
    small: BytesMut,
}

impl Kept {
    fn push(&mut self, data: &Bytes) {
        if data.len() < COPIED_BELOW {
            self.small.extend_from_slice(data);
        } else {
            self.flush();
            self.frames.push_back(data.clone());
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.frames.push_back(self.small.split().freeze());
        }
    }

    fn into_frames(mut self) -> VecDeque<Bytes> {
        self.flush();
        self.frames
    }
}

impl<B> Recording<B> {
    /// Takes `bytes` from the budget. If the budget is too small, the copy is discarded.
    fn spend(&mut self, bytes: usize) -> bool {
        self.budget = self.budget.and_then(|budget| budget.checked_sub(bytes));
        if self.budget.is_none() {
            self.discard();
        }
        self.budget.is_some()
    }

    fn keep(&mut self, data: &Bytes) {
        // Empty frames are not kept: they change nothing, and they would not count against the limit.
        if !data.is_empty() && self.spend(data.len()) {
            self.kept.push(data);
        }
    }

    fn keep_trailers(&mut self, trailers: &HeaderMap) {
        if self.spend(trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()) {
            self.trailers = Some(trailers.clone());
        }
    }

    fn discard(&mut self) {
        self.budget = None;
        self.kept = Kept::default();
        self.trailers = None;
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl<B: Body> Recording<B>
where
    B::Error: Into<BoxError>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(Some(Err("the request was rejected and is being replayed".into())));
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
            Some(Err(_)) => self.discard(),
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
        match &mut self.get_mut().mode {
            BodyMode::Record(shared) => {
                let mut recording = shared.lock();
                // The other reference is dropped with the response future. Without it there is no replay.
                if Arc::strong_count(shared) == 1 {
                    recording.discard();
                }
                recording.poll(cx)
            }
            BodyMode::Replay(copy) => {
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
        match &self.mode {
            BodyMode::Record(recording) => recording.lock().body.as_ref().is_some_and(|body| body.is_end_stream()),
            BodyMode::Replay(copy) => {
                copy.kept.is_empty() && copy.trailers.is_none() && (copy.ended || copy.body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.mode {
            BodyMode::Record(recording) => {
                recording.lock().body.as_ref().map(|body| body.size_hint()).unwrap_or_default()
            }
            BodyMode::Replay(copy) => {
                let kept: u64 = copy.kept.iter().map(|data| data.len() as u64).sum();
                let rest = if copy.ended { SizeHint::with_exact(0) } else { copy.body.size_hint() };
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(kept));
                // A body that was sent with chunked encoding is replayed so. With a length its trailers would not be
                // sent.
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
