//! An API with several routes. Each route accepts and rejects independently of the others, a token may be revoked, and the
//! API may know a new token late. It logs what it receives and what it responds, because the oracle reads that.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tower::Service;

use super::time::Clocks;

pub(crate) const ROUTES: usize = 3;

/// What a request has in its extensions.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) id: usize,
    pub(crate) route: usize,
    /// The status if the token is not rejected.
    pub(crate) status: u16,
    /// Whether the simulation chooses the time of the response.
    pub(crate) delayed: bool,
}

#[derive(Debug)]
pub(crate) enum Happened {
    Sent(String),
    Responded(u16),
}

#[derive(Default)]
pub(crate) struct ApiState {
    /// A route that rejects every token.
    pub(crate) rejects: [bool; ROUTES],
    /// How long after its mint a route knows a token, in ms.
    pub(crate) lag: [i64; ROUTES],
    pub(crate) revoked: HashSet<String>,
    pub(crate) minted: HashMap<String, i64>,
    /// The responses that the simulation chooses the time of.
    pub(crate) delayed: Vec<oneshot::Sender<()>>,
    log: Vec<(usize, Happened)>,
}

#[derive(Clone)]
pub(crate) struct Api {
    state: Arc<Mutex<ApiState>>,
    clocks: Clocks,
}

impl Api {
    pub(crate) fn new(clocks: Clocks) -> Self {
        Self { state: Arc::default(), clocks }
    }

    pub(crate) fn state<T>(&self, read: impl FnOnce(&mut ApiState) -> T) -> T {
        read(&mut self.state.lock())
    }

    /// What has happened to the request since the last call. Only one request is polled at a time.
    pub(crate) fn take_log(&self, id: usize) -> Vec<Happened> {
        let log = self.state(|state| std::mem::take(&mut state.log));
        assert!(log.iter().all(|(of, _)| *of == id), "another request was polled");
        log.into_iter().map(|(_, happened)| happened).collect()
    }

    fn status(&self, call: Call, secret: &str) -> u16 {
        let now = self.clocks.read().real;
        self.state(|state| {
            let known = state.minted.get(secret).is_some_and(|minted| now - minted >= state.lag[call.route]);
            let rejected = state.rejects[call.route] || !known || state.revoked.contains(secret);
            if rejected { 401 } else { call.status }
        })
    }
}

impl Service<Request<String>> for Api {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let call = *request.extensions().get::<Call>().unwrap();
        let secret = request.headers()["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        let api = self.clone();
        let released = api.state(|state| {
            state.log.push((call.id, Happened::Sent(secret.clone())));
            let (sender, receiver) = oneshot::channel();
            if call.delayed {
                state.delayed.push(sender);
            }
            receiver
        });
        Box::pin(async move {
            // Without a delay the sender is dropped already. At least one poll is pending, so that no poll both looks a
            // token up and reads a response.
            let mut first = true;
            poll_fn(|cx| {
                if std::mem::take(&mut first) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            let _released = released.await;
            let status = api.status(call, &secret);
            api.state(|state| state.log.push((call.id, Happened::Responded(status))));
            Ok(Response::builder().status(status).body(String::new()).unwrap())
        })
    }
}
