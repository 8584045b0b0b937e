//! The API of a scenario: a service under the layer, with a route for each name.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tower::Service;

use crate::clock::VirtualClock;
use crate::format::Route;
use crate::issuer::{Shared, number};

pub(crate) const ORIGIN: &str = "https://api.example.com";

#[derive(Clone)]
pub(crate) struct Api {
    clock: VirtualClock,
    issuer: Arc<Shared>,
    routes: Arc<BTreeMap<String, Route>>,
    /// Chooses the node of each request.
    rng: Arc<Mutex<fastrand::Rng>>,
}

/// What happened to one request: the times at which it was sent, and the tokens that it carried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<Mutex<Vec<(Duration, u64)>>>);

impl Sent {
    pub(crate) fn times(&self) -> Vec<(Duration, u64)> {
        self.0.lock().clone()
    }
}

/// What the API says about a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A status that does not reject it.
    Status(u16),
    Rejected {
        invalid_token: bool,
    },
}

/// Whether a response with this status accepts a token: a 2xx or a 304.
pub(crate) fn accepts(status: u16) -> bool {
    (200..300).contains(&status) || status == 304
}

impl Api {
    pub(crate) fn new(clock: VirtualClock, issuer: Arc<Shared>, routes: BTreeMap<String, Route>, seed: u64) -> Self {
        let rng = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        Self { clock, issuer, routes: Arc::new(routes), rng }
    }

    /// Sends a request with this token.
    pub(crate) async fn send(&self, route: &str, token: u64, sent: &Sent) -> Verdict {
        sent.0.lock().push((self.clock.passed(), token));
        let default = Route::default();
        let route = self.routes.get(route).unwrap_or(&default);
        let nodes = route.nodes.len();
        let node = if nodes == 0 { route } else { &route.nodes[self.rng.lock().usize(0..nodes)] };
        let valid = !node.rejects && self.issuer.is_valid(token, node.lag.map_or(Duration::ZERO, |lag| lag.0));
        if let Some(latency) = node.latency {
            tokio::time::sleep(latency.0).await;
        }
        if valid {
            Verdict::Status(node.status.unwrap_or(200))
        } else {
            Verdict::Rejected { invalid_token: node.invalid_token }
        }
    }
}

/// The route of a request, in its extensions.
#[derive(Clone)]
pub(crate) struct ToRoute(pub(crate) String);

impl Service<Request<String>> for Api {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let token = number(request.headers()["authorization"].to_str().unwrap_or_default());
            let (route, sent) = (request.extensions().get::<ToRoute>(), request.extensions().get::<Sent>());
            let (route, sent) = (route.map_or("", |route| &route.0), sent.cloned().unwrap_or_default());
            let response = match api.send(route, token, &sent).await {
                Verdict::Status(status) => Response::builder().status(status),
                Verdict::Rejected { invalid_token } => Response::builder().status(StatusCode::UNAUTHORIZED).header(
                    "www-authenticate",
                    if invalid_token { "Bearer error=\"invalid_token\"" } else { "Bearer" },
                ),
            };
            Ok(response.body(String::new()).expect("the parts are valid"))
        })
    }
}
