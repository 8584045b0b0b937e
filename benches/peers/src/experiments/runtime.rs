//! A crate is set up and used in one runtime, which ends. It is then used in another one, before and after the token expires.

use std::time::{Duration, Instant};

use super::{Ended, FETCH, ended, request_token, user_runtime};
use crate::issuer::{Behavior, Issuer};
use crate::peer::Kind;

/// The lifetime of the token in seconds, and the time after which it has expired.
const LIVES: u64 = 2;
const UNTIL_EXPIRED: Duration = Duration::from_millis(2_300);
/// Longer than any token request takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The outcome of a call in the second runtime, and the token requests during the call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Later {
    pub ended: Option<Ended>,
    pub token_requests: usize,
}

pub struct Ends {
    pub while_valid: Later,
    pub after_expiry: Later,
}

pub fn run(kind: Kind) -> Ends {
    let issuer = Issuer::start(Behavior { lives: LIVES, ..Behavior::good(FETCH) });
    let first = user_runtime();
    let peer = first.block_on(async {
        let peer = (kind.build)(&issuer);
        assert_eq!(ended(request_token(&peer), &issuer).await, Ended::Ok, "the first runtime has its token");
        peer
    });
    let start = Instant::now();
    drop(first);
    let second = user_runtime();
    let call = || {
        let before = issuer.token_requests();
        second.block_on(async {
            let outcome = tokio::time::timeout(PATIENCE, ended(request_token(&peer), &issuer)).await.ok();
            Later { ended: outcome, token_requests: issuer.token_requests() - before }
        })
    };
    let while_valid = call();
    std::thread::sleep(UNTIL_EXPIRED.saturating_sub(start.elapsed()));
    let after_expiry = call();
    second.shutdown_background();
    Ends { while_valid, after_expiry }
}
