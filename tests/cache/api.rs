//! An in-process resource server with await points everywhere.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body, Frame};
use tower::Service;

use crate::common::Steps;

/// An in-process resource server with await points everywhere. A clone is the same server.
pub(crate) struct Api {
    server: Arc<Server>,
    not_ready: Steps,
}

#[derive(Default)]
struct Server {
    steps: AtomicUsize,
    seen: Mutex<Vec<String>>,
    revoked: Mutex<BTreeSet<String>>,
}

impl Clone for Api {
    fn clone(&self) -> Self {
        Self { server: Arc::clone(&self.server), not_ready: Steps(self.steps()) }
    }
}

impl Api {
    /// It is pending `steps` times before it is ready, before it responds, and before the response body ends.
    pub(crate) fn new(steps: usize) -> Self {
        let server = Server { steps: AtomicUsize::new(steps), ..Server::default() };
        Self { server: Arc::new(server), not_ready: Steps(steps) }
    }

    fn steps(&self) -> usize {
        self.server.steps.load(Ordering::Relaxed)
    }

    /// Rejects this token from now on.
    pub(crate) fn revoke(&self, secret: &str) {
        self.server.revoked.lock().unwrap().insert(format!("Bearer {secret}"));
    }

    /// The `Authorization` headers of all requests.
    pub(crate) fn authorizations(&self) -> Vec<String> {
        self.server.seen.lock().unwrap().clone()
    }
}

impl Service<Request<String>> for Api {
    type Response = Response<Trickle>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Trickle>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Pin::new(&mut self.not_ready).poll(cx).map(Ok)
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        assert_eq!(self.not_ready.0, 0, "called before it was ready");
        self.not_ready = Steps(self.steps());
        let server = Arc::clone(&self.server);
        Box::pin(async move {
            let stamp = request.headers()["authorization"].to_str().unwrap().to_owned();
            server.seen.lock().unwrap().push(stamp.clone());
            let steps = server.steps.load(Ordering::Relaxed);
            Steps(steps).await;
            let rejected = server.revoked.lock().unwrap().contains(&stamp);
            let response = Response::builder().status(if rejected { 401 } else { 200 });
            Ok(response
                .header("www-authenticate", "Bearer error=\"invalid_token\"")
                .body(Trickle(Steps(steps)))
                .unwrap())
        })
    }
}

/// A body without bytes, with await points before its end.
#[derive(Default)]
pub(crate) struct Trickle(Steps);

impl Body for Trickle {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll(cx).map(|()| None)
    }
}
