//! The store: what it sends, and how it reads the responses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value};
use tower_bearer_auth::shared::{Claim, Outcome, StoreError, Stored, TokenStore};

use crate::connection::Connections;
use crate::script::{self, CLAIM, PUBLISH};

/// How long a version is, at the start of a value.
const VERSION: usize = 16;
/// The longest time that is sent: 100 years. Redis rejects a time that overflows its clock.
const MAX_MILLIS: u128 = 100 * 365 * 24 * 60 * 60 * 1000;

/// A [`TokenStore`] on Redis 7 or Valkey 7, or later: one server, or a cluster. A clone is the same store, with the same connection.
///
/// The connection is made in the first fetch. All fetches share it. It is made anew after an I/O error, after `READONLY`, and when
/// the runtime in which it was made has ended. The call that notices it is sent once more.
///
/// After a call of a cluster was dropped without a response, the next call checks the connection with `EVAL "return 1" 0`. If no node
/// responds within 100 ms, the connection is made anew. If that fails, the old one stays.
///
/// **Runtimes.** A task of the runtime that connected does the I/O. If two runtimes share one store, both must run: a current-thread
/// runtime that is not running makes the calls of the other one time out.
///
/// **Keys.** Each name has up to three keys, in one slot: `tba:{name}:t`, `tba:{name}:n` and `tba:{name}:l`. All of them expire.
#[derive(Clone)]
pub struct RedisStore {
    connections: Arc<Connections>,
}

impl RedisStore {
    pub(crate) fn new(connections: Connections) -> Self {
        Self { connections: Arc::new(connections) }
    }
}

impl TokenStore for RedisStore {
    async fn claim(
        &self,
        name: &str,
        owner: &[u8; 16],
        ttl: Duration,
        seen: Option<[u8; 16]>,
    ) -> Result<Claim, StoreError> {
        let mut command = eval(CLAIM, name);
        command.arg(&owner[..]).arg(millis(ttl)).arg(seen.as_ref().map_or(&[][..], |seen| &seen[..]));
        let (kind, value, left): (i64, Vec<u8>, i64) = read(self.connections.query(&command).await?)?;
        let claim = match kind {
            script::TOKEN => stored(value, left).map(Claim::Token),
            script::NOTE => stored(value, left).map(Claim::Note),
            script::LEASE => Some(Claim::Lease),
            script::WAIT => Some(Claim::Wait(duration(left))),
            _ => None,
        };
        claim.ok_or_else(unexpected)
    }

    async fn publish(&self, name: &str, owner: &[u8; 16], outcome: Outcome<'_>) -> Result<bool, StoreError> {
        let mut command = eval(PUBLISH, name);
        command.arg(&owner[..]);
        match outcome {
            Outcome::Token { version, bytes, keep } => {
                command.arg("t").arg([&version[..], bytes].concat()).arg(millis(keep));
            }
            Outcome::Note { version, bytes, keep } => {
                command.arg("n").arg([&version[..], bytes].concat()).arg(millis(keep));
            }
            Outcome::Nothing => {
                command.arg("");
            }
        }
        read(self.connections.query(&command).await?)
    }
}

fn eval(script: &str, name: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(3);
    for kind in ["t", "n", "l"] {
        // The braces put the three keys into one slot of a cluster.
        command.arg(format!("tba:{{{name}}}:{kind}"));
    }
    command
}

fn read<T: FromRedisValue>(response: Value) -> Result<T, StoreError> {
    // The error contains the response.
    redis::from_redis_value(response).map_err(|_| unexpected())
}

fn unexpected() -> StoreError {
    StoreError::new("Redis: the response is not that of the script")
}

/// Redis keeps nothing for 0 ms.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis().clamp(1, MAX_MILLIS)).unwrap_or(u64::MAX)
}

/// `PTTL` returns -1 for a key without an expiry, and -2 for one that has just expired.
fn duration(left: i64) -> Duration {
    match left {
        -1 => Duration::MAX,
        left => Duration::from_millis(u64::try_from(left).unwrap_or(0)),
    }
}

fn stored(mut value: Vec<u8>, left: i64) -> Option<Stored> {
    let version = *value.first_chunk::<VERSION>()?;
    value.drain(..VERSION);
    Some(Stored { version, bytes: value, left: duration(left) })
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}
