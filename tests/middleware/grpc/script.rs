//! A response body that returns what a test wrote.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Sleep;
use tower_bearer_auth::BoxError;

/// A message that is not compressed and has a length of 0.
pub(super) const EMPTY_MESSAGE: &[u8] = &[0; 5];

#[derive(Clone, Debug)]
pub(super) enum Step {
    Data(&'static [u8]),
    /// Trailers with this `grpc-status`.
    Status(&'static str),
    /// One poll is pending.
    Pending,
    /// Polls are pending for this time.
    Wait(Duration),
    Fail,
}

/// What a test sees of a body.
#[derive(Clone, Default)]
pub(super) struct Probe(Arc<Mutex<(usize, bool)>>);

impl Probe {
    /// How often the body was polled, and whether it was dropped.
    pub(super) fn read(&self) -> (usize, bool) {
        *self.0.lock()
    }
}

pub(super) struct Script {
    steps: VecDeque<Step>,
    timer: Option<Pin<Box<Sleep>>>,
    probe: Probe,
}

impl Script {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), timer: None, probe: Probe::default() }
    }

    pub(super) fn probe(&self) -> Probe {
        self.probe.clone()
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.probe.0.lock().0 += 1;
        if let Some(Step::Wait(time)) = self.steps.front() {
            let time = *time;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            self.steps.pop_front();
        }
        Poll::Ready(match self.steps.pop_front() {
            Some(Step::Data(data)) => Some(Ok(Frame::data(Bytes::from_static(data)))),
            Some(Step::Status(status)) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                Some(Ok(Frame::trailers(trailers)))
            }
            Some(Step::Fail) => Some(Err("reset".into())),
            Some(Step::Pending | Step::Wait(_)) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self.steps.iter().map(|step| if let Step::Data(data) = step { data.len() as u64 } else { 0 });
        let mut hint = SizeHint::new();
        hint.set_lower(bytes.clone().sum());
        hint.set_upper(bytes.sum::<u64>() + 7);
        hint
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.probe.0.lock().1 = true;
    }
}
