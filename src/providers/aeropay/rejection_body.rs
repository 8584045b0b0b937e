//! A response body that may have been read ahead.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use zeroize::Zeroizing;

/// A body with more frames is passed on. Without a limit, a body of empty frames would never end.
const MAX_FRAMES: usize = 1024;

pin_project! {
    /// The response body of a [`RejectionService`](super::RejectionService): the frames, the trailers and the error of
    /// the inner body, without a change.
    pub struct RejectionBody<B>
    where
        B: Body,
    {
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B>
    where
        B: Body,
    {
        Unread { #[pin] body: B },
        Buffered { buffer: Buffer<B> },
    }
}

/// The frames that were read ahead, and the rest of the body.
struct Buffer<B: Body> {
    frames: VecDeque<Frame<B::Data>>,
    error: Option<B::Error>,
    /// `None` after the end of the body.
    rest: Option<Pin<Box<B>>>,
}

impl<B: Body> RejectionBody<B> {
    pub(super) fn unread(body: B) -> Self {
        Self { state: State::Unread { body } }
    }
}

impl<B: Body> Buffer<B> {
    fn remaining(&self) -> u64 {
        self.frames.iter().filter_map(|frame| frame.data_ref()).map(|data| data.remaining() as u64).sum()
    }
}

impl<B: Body> Body for RejectionBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let buffer = match self.project().state.project() {
            StateProj::Unread { body } => return body.poll_frame(cx),
            StateProj::Buffered { buffer } => buffer,
        };
        if let Some(frame) = buffer.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(error) = buffer.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match &mut buffer.rest {
            Some(rest) => rest.as_mut().poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Unread { body } => body.is_end_stream(),
            State::Buffered { buffer } => {
                buffer.frames.is_empty()
                    && buffer.error.is_none()
                    && buffer.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let buffer = match &self.state {
            State::Unread { body } => return body.size_hint(),
            State::Buffered { buffer } => buffer,
        };
        let rest = buffer.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), |rest| rest.size_hint());
        let buffered = buffer.remaining();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(buffered));
        }
        hint.set_lower(rest.lower().saturating_add(buffered));
        hint
    }
}

impl<B: Body> fmt::Debug for RejectionBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectionBody").finish_non_exhaustive()
    }
}

/// Reads a body ahead, up to the length that its head declares, and keeps every frame.
pub(super) struct ReadAhead<B: Body> {
    buffer: Buffer<B>,
    // The body may contain secrets of the caller, so this copy of it is wiped.
    json: Zeroizing<Vec<u8>>,
    length: usize,
    /// The body cannot be read without splitting a frame, or does not have the declared length.
    unreadable: bool,
}

impl<B: Body> ReadAhead<B> {
    pub(super) fn new(body: B, length: usize) -> Self {
        let buffer = Buffer { frames: VecDeque::new(), error: None, rest: Some(Box::pin(body)) };
        Self { buffer, json: Zeroizing::new(Vec::with_capacity(length)), length, unreadable: false }
    }

    /// Ready when reading ahead is complete: at the declared length, at the end of the body, or at an error.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.json.len() < self.length && !self.unreadable {
            let Some(rest) = &mut self.buffer.rest else {
                return Poll::Ready(());
            };
            match ready!(rest.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => self.keep(frame),
                Some(Err(error)) => {
                    self.buffer.error = Some(error);
                    return Poll::Ready(());
                }
                None => self.buffer.rest = None,
            }
        }
        Poll::Ready(())
    }

    fn keep(&mut self, frame: Frame<B::Data>) {
        if let Some(data) = frame.data_ref() {
            let bytes = data.chunk();
            self.unreadable = bytes.len() != data.remaining() || bytes.len() > self.length - self.json.len();
            if !self.unreadable {
                self.json.extend_from_slice(bytes);
            }
        }
        self.buffer.frames.push_back(frame);
        self.unreadable |= self.buffer.frames.len() > MAX_FRAMES;
    }

    /// The body, if all of it was read.
    pub(super) fn complete(&self) -> Option<&[u8]> {
        (!self.unreadable && self.json.len() == self.length).then_some(self.json.as_slice())
    }

    pub(super) fn into_body(self) -> RejectionBody<B> {
        RejectionBody { state: State::Buffered { buffer: self.buffer } }
    }
}
