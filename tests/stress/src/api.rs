//! The API. It checks every request that it receives, and rejects some tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{Request, Response};
use http_body_util::Full;
use tower_bearer_auth::BoxError;
use tower_bearer_auth::replay::Mode;

use crate::issuer::{Claims, User};
use crate::violation;
use crate::world::World;

pub(crate) type Body = Full<Bytes>;

/// What is known about one request.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) user: User,
    pub(crate) is_idempotent: bool,
    /// A token with this number or a lower one was removed before the request began.
    pub(crate) removed: u64,
    /// When the poll began in which the request is sent.
    pub(crate) polled: AtomicU64,
    pub(crate) sends: AtomicU8,
    /// The number of the first token.
    first: AtomicU64,
    /// Whether the last response was a 401, and whether it named the token as the reason.
    rejected: AtomicBool,
    named: AtomicBool,
}

impl Ledger {
    pub(crate) fn new(user: User, is_idempotent: bool, removed: u64) -> Self {
        Self {
            user,
            is_idempotent,
            removed,
            polled: AtomicU64::new(0),
            sends: AtomicU8::new(0),
            first: AtomicU64::new(0),
            rejected: AtomicBool::new(false),
            named: AtomicBool::new(false),
        }
    }
}

/// What the API has counted.
#[derive(Default)]
pub(crate) struct Api {
    pub(crate) rejections: AtomicU64,
    pub(crate) second_sends: AtomicU64,
    /// A replay may carry an expired token if there is no newer one.
    pub(crate) expired_replays: AtomicU64,
    /// A token of a user with this number or a lower one is revoked.
    revoked: Vec<AtomicU64>,
}

impl Api {
    pub(crate) fn new(users: u32) -> Self {
        Self { revoked: (0..users).map(|_| AtomicU64::new(0)).collect(), ..Self::default() }
    }

    pub(crate) fn revoke(&self, user: User, up_to: u64) {
        self.revoked[user.0 as usize].fetch_max(up_to, SeqCst);
    }

    pub(crate) fn accepts(&self, claims: Claims, now: u64) -> bool {
        claims.number > self.revoked[claims.user.0 as usize].load(SeqCst) && now < claims.expires
    }
}

/// Receives a request. The checks run at once, in the poll of the layer that sends it.
pub(crate) fn receive(
    world: Arc<World>,
    request: Request<Body>,
) -> impl Future<Output = Result<Response<Body>, BoxError>> + Send {
    let ledger = request.extensions().get::<Arc<Ledger>>().cloned().unwrap_or_else(|| violation("no ledger"));
    let claims = check(&world, &request, &ledger);
    async move {
        match fastrand::u32(..100) {
            0..10 => tokio::task::yield_now().await,
            10..12 => tokio::time::sleep(Duration::from_micros(fastrand::u64(..2000))).await,
            _ => {}
        }
        let stray = fastrand::u32(..world.config.one_stray_in) == 0;
        if !stray && world.api.accepts(claims, world.clock.nanos()) {
            ledger.rejected.store(false, SeqCst);
            return Ok(Response::new(Body::default()));
        }
        let named = fastrand::bool();
        ledger.named.store(named, SeqCst);
        ledger.rejected.store(true, SeqCst);
        world.api.rejections.fetch_add(1, SeqCst);
        let mut response = Response::builder().status(401);
        if named {
            response = response.header(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"");
        }
        Ok(response.body(Body::default())?)
    }
}

fn check(world: &World, request: &Request<Body>, ledger: &Ledger) -> Claims {
    let stamped: Vec<_> = request.headers().get_all(AUTHORIZATION).iter().collect();
    let token = match stamped[..] {
        [value] => value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")),
        _ => None,
    };
    let Some(token) = token else {
        violation(&format!("a request without one token: {ledger:?}"));
    };
    let claims = Claims::read(token);
    if claims.user != ledger.user {
        violation(&format!("the token of another user: {claims:?} {ledger:?}"));
    }
    if claims.number <= ledger.removed {
        violation(&format!("a token from before a rotation or an invalidation: {claims:?} {ledger:?}"));
    }
    let sends = ledger.sends.fetch_add(1, SeqCst) + 1;
    if sends == 1 {
        ledger.first.store(claims.number, SeqCst);
    } else {
        check_replay(world, ledger, claims, sends);
    }
    if claims.expires <= ledger.polled.load(SeqCst) {
        if sends == 1 {
            violation(&format!("an expired token: {claims:?} {ledger:?}"));
        }
        world.api.expired_replays.fetch_add(1, SeqCst);
    }
    claims
}

fn check_replay(world: &World, ledger: &Ledger, claims: Claims, sends: u8) {
    world.api.second_sends.fetch_add(1, SeqCst);
    let allowed = match world.config.mode {
        Mode::Never => false,
        Mode::Always => true,
        _ => ledger.is_idempotent || ledger.named.load(SeqCst),
    };
    if sends > 2 || !allowed || !ledger.rejected.load(SeqCst) {
        violation(&format!("send number {sends} in mode {}: {ledger:?}", world.config.mode));
    }
    if claims.number == ledger.first.load(SeqCst) {
        violation(&format!("a replay with the rejected token: {claims:?} {ledger:?}"));
    }
}
