//! The callers: requests through the layer, direct use of the source, and everything that disturbs them.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Method, Request};
use tower::Service;
use tower_bearer_auth::{Audit, BoxError, Error, ErrorKind, NotReplayed, NotSent, Token, TokenSource};

use crate::api::{Body, Ledger};
use crate::counts::add;
use crate::issuer::{Claims, KeyOf, Provider, User};
use crate::telemetry::is_intended;
use crate::violation;
use crate::world::World;

/// A future that is polled so often at most. It notes when each poll began.
struct Polled<'a, F> {
    inner: Pin<&'a mut F>,
    world: &'a World,
    ledger: &'a Ledger,
    left: u32,
}

impl<F: Future> Future for Polled<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.ledger.polled.store(self.world.clock.nanos(), SeqCst);
        match self.inner.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Runs `future`, or drops it after a few polls.
async fn run<F: Future>(world: &World, ledger: &Ledger, future: F) -> Option<F::Output> {
    let left = if fastrand::u32(..world.config.one_abort_in) == 0 { fastrand::u32(..4) } else { u32::MAX };
    let output = Polled { inner: pin!(future), world, ledger, left }.await;
    if output.is_none() {
        add(&world.counts.aborted_callers, 1);
    }
    output
}

/// One step of a caller. A panic of a subscriber ends it.
pub(crate) async fn step<K: KeyOf, S>(world: &Arc<World>, source: &TokenSource<Provider<K>>, service: &mut S)
where
    S: Service<Request<Body>, Response = http::Response<Body>, Error = BoxError>,
{
    let user = User(fastrand::u32(..world.config.users));
    let work = async {
        match fastrand::u32(..world.config.one_disturbance_in) {
            0 => rotate(world, source),
            1 | 2 => invalidate(world, source, user),
            3..8 => world.api.revoke(user, world.issuer.latest[user.0 as usize].load(SeqCst)),
            _ if fastrand::u32(..20) == 0 => use_source(world, source, user).await,
            _ => send(world, service, user).await,
        }
    };
    if let Err(payload) = AssertUnwindSafe(work).catch_unwind().await
        && !is_intended(&*payload)
    {
        violation("a panic");
    }
}

fn rotate<K: KeyOf>(world: &World, source: &TokenSource<Provider<K>>) {
    let before = world.issuer.fetches.load(SeqCst);
    // The promise holds even if a subscriber panics in the call.
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| source.rotate()));
    for removed in &world.removed {
        removed.fetch_max(before, SeqCst);
    }
    add(&world.counts.rotations, 1);
    if let Err(payload) = panicked {
        std::panic::resume_unwind(payload);
    }
}

fn invalidate<K: KeyOf>(world: &World, source: &TokenSource<Provider<K>>, user: User) {
    let before = world.issuer.fetches.load(SeqCst);
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| source.invalidate_for(&K::of(user))));
    world.removed[user.0 as usize].fetch_max(before, SeqCst);
    add(&world.counts.invalidations, 1);
    if let Err(payload) = panicked {
        std::panic::resume_unwind(payload);
    }
}

async fn send<S>(world: &Arc<World>, service: &mut S, user: User)
where
    S: Service<Request<Body>, Response = http::Response<Body>, Error = BoxError>,
{
    let (method, key) = match fastrand::u32(..4) {
        0 => (Method::GET, false),
        1 => (Method::POST, true),
        _ => (Method::POST, false),
    };
    let removed = world.removed[user.0 as usize].load(SeqCst);
    let ledger = Arc::new(Ledger::new(user, method == Method::GET || key, removed));
    ledger.polled.store(world.clock.nanos(), SeqCst);
    let mut request = Request::builder().method(method).uri("https://api.example/").extension(user);
    if key {
        request = request.header("idempotency-key", "key-1");
    }
    let request = request.extension(Arc::clone(&ledger)).body(Body::from("amount=10"));
    let request = request.unwrap_or_else(|error| violation(&error.to_string()));
    let _ = poll_fn(|cx| service.poll_ready(cx)).await;
    add(&world.lookups, 1);
    let response = service.call(request);
    let Some(result) = run(world, &ledger, response).await else {
        return;
    };
    let sends = ledger.sends.load(SeqCst);
    match result {
        Ok(response) => {
            let audited = Audit::of(&response).map_or(sends, |audit| audit.sends);
            if sends == 0 || audited != sends || !matches!(response.status().as_u16(), 200 | 401) {
                violation(&format!("{} after {audited} sends: {ledger:?}", response.status()));
            }
        }
        Err(error) => {
            if let Some(error) = error.downcast_ref::<NotSent>() {
                check_error(world, error.error());
                if sends > 0 {
                    violation(&format!("a sent request counts as not sent: {ledger:?}"));
                }
            } else if error.downcast_ref::<NotReplayed>().is_none() || sends != 1 {
                violation(&format!("{error:?}: {ledger:?}"));
            }
        }
    }
}

/// The errors that are expected here.
fn check_error(world: &World, error: &Error) {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout => {}
        ErrorKind::Panicked if world.config.panics => {}
        ErrorKind::NoRuntime => add(&world.no_runtime, 1),
        _ => violation(&format!("an unexpected error: {error:?}")),
    }
}

async fn use_source<K: KeyOf>(world: &Arc<World>, source: &TokenSource<Provider<K>>, user: User) {
    let key = K::of(user);
    let removed = world.removed[user.0 as usize].load(SeqCst);
    let ledger = Ledger::new(user, false, removed);
    ledger.polled.store(world.clock.nanos(), SeqCst);
    if let Some(token) = source.peek_for(&key) {
        check_token(&ledger, &token);
    }
    let kind = fastrand::u32(..10);
    let future = match kind {
        0 => source.refresh(&key),
        1 => source.token_valid_for(&key, world.config.lifetime / 2),
        2 => {
            let _ = (source.check_ready(&key), source.status_for(&key), source.stats());
            return;
        }
        _ => source.token_for(&key),
    };
    // The lookup takes place at the first poll.
    let future = async {
        add(&world.lookups, 1);
        future.await
    };
    let token = match run(world, &ledger, future).await {
        None => return,
        Some(Err(error)) => return check_error(world, &error),
        Some(Ok(token)) => token,
    };
    let claims = check_token(&ledger, &token);
    if fastrand::u32(..10) == 0 {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..500))).await;
    }
    if world.api.accepts(claims, world.clock.nanos()) && fastrand::u32(..20) > 0 {
        source.accept(&token);
    } else {
        add(&world.reported, 1);
        source.reject(&key, &token);
    }
}

fn check_token(ledger: &Ledger, token: &Token) -> Claims {
    let claims = Claims::read(token.expose_secret());
    if claims.user != ledger.user {
        violation(&format!("the token of another user: {claims:?} {ledger:?}"));
    }
    if claims.number <= ledger.removed {
        violation(&format!("a token from before a rotation or an invalidation: {claims:?} {ledger:?}"));
    }
    if claims.expires <= ledger.polled.load(SeqCst) {
        violation(&format!("an expired token: {claims:?} {ledger:?}"));
    }
    claims
}
