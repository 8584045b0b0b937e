//! The issuer. It numbers the tokens, and knows how many fetches of a user run.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tower_bearer_auth::{Error, ErrorKind, ExtensionKey, FetchContext, IssuedToken, RequestKey, TokenProvider};

use crate::telemetry::Intended;
use crate::violation;
use crate::world::World;

/// The user of a request, in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct User(pub(crate) u32);

/// The key of a source: one for all users, or one for each.
pub(crate) trait KeyOf: RequestKey {
    fn of(user: User) -> Self;
    fn user(&self) -> User;
}

impl KeyOf for () {
    fn of(_: User) -> Self {}

    fn user(&self) -> User {
        User(0)
    }
}

impl KeyOf for ExtensionKey<User> {
    fn of(user: User) -> Self {
        Self(user)
    }

    fn user(&self) -> User {
        self.0
    }
}

/// What a token says: for whom it is, its number, and when it expires by the clock of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) user: User,
    pub(crate) number: u64,
    pub(crate) expires: u64,
}

impl Claims {
    fn write(self) -> String {
        format!("{}.{}.{}", self.user.0, self.number, self.expires)
    }

    pub(crate) fn read(token: &str) -> Self {
        let mut parts = token.split('.').map(|part| part.parse::<u64>().ok());
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(user)), Some(Some(number)), Some(Some(expires)), None) => {
                Self { user: User(user as u32), number, expires }
            }
            _ => violation(&format!("a token that the issuer did not issue: {token}")),
        }
    }
}

/// What the issuer has counted.
#[derive(Default)]
pub(crate) struct Issuer {
    /// Also the number of the last fetch.
    pub(crate) fetches: AtomicU64,
    pub(crate) returned: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Fetches that were dropped.
    pub(crate) dropped: AtomicU64,
    pub(crate) panicked: AtomicU64,
    running: Vec<AtomicU32>,
    /// The last token of each user.
    pub(crate) latest: Vec<AtomicU64>,
    /// How to end a runtime while a fetch runs in it.
    pub(crate) ends: Mutex<HashMap<Id, Arc<Notify>>>,
}

impl Issuer {
    pub(crate) fn new(users: u32) -> Self {
        Self {
            running: (0..users).map(|_| AtomicU32::new(0)).collect(),
            latest: (0..users).map(|_| AtomicU64::new(0)).collect(),
            ..Self::default()
        }
    }
}

pub(crate) struct Provider<K> {
    pub(crate) world: Arc<World>,
    pub(crate) key: PhantomData<fn() -> K>,
}

/// A running fetch.
struct Running<'a> {
    issuer: &'a Issuer,
    user: User,
    ended: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.issuer.running[self.user.0 as usize].fetch_sub(1, SeqCst);
        if !self.ended {
            self.issuer.dropped.fetch_add(1, SeqCst);
        }
    }
}

impl<K: KeyOf> TokenProvider for Provider<K> {
    type Key = K;

    async fn fetch(&self, key: &K, _: &FetchContext) -> Result<IssuedToken, Error> {
        let (world, user) = (&*self.world, key.user());
        let issuer = &world.issuer;
        let number = issuer.fetches.fetch_add(1, SeqCst) + 1;
        let expires = world.clock.nanos() + world.config.lifetime.as_nanos() as u64;
        let mut running = Running { issuer, user, ended: false };
        if issuer.running[user.0 as usize].fetch_add(1, SeqCst) > 0 {
            violation(&format!("two fetches for {user:?} at a time"));
        }
        if fastrand::u32(..world.config.one_end_in) == 0
            && let Some(end) = issuer.ends.lock().get(&Handle::current().id())
        {
            end.notify_one();
        }
        match fastrand::u32(..4) {
            0 => {}
            1 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_micros(fastrand::u64(..world.config.slowest_fetch))).await,
        }
        running.ended = true;
        if world.config.panics && fastrand::u32(..200) == 0 {
            issuer.panicked.fetch_add(1, SeqCst);
            std::panic::panic_any(Intended);
        }
        if fastrand::u32(..world.config.one_failure_in) == 0 {
            issuer.failed.fetch_add(1, SeqCst);
            let error = Error::new(ErrorKind::Unavailable, "the issuer fails at random");
            return Err(if fastrand::bool() { error } else { error.with_retry_after(Duration::from_millis(1500)) });
        }
        issuer.latest[user.0 as usize].fetch_max(number, SeqCst);
        let token = IssuedToken::bearer(Claims { user, number, expires }.write())?.expires_in(world.config.lifetime);
        issuer.returned.fetch_add(1, SeqCst);
        Ok(token)
    }
}
