//! Built and used in one runtime, which ends; then used in another one, before and after the token's end.

use std::time::{Duration, Instant};

use super::{Ended, FETCH, ask, ended, user_runtime};
use crate::issuer::{Answer, Issuer};
use crate::peer::Kind;

/// Seconds that the token lives, and how long is waited so that it has ended.
const LIVES: u64 = 2;
const UNTIL_ENDED: Duration = Duration::from_millis(2_300);
/// Longer than any of them takes to ask anew.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a call in the second runtime ended, and the token requests that arrived meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Later {
    pub ended: Option<Ended>,
    pub token_requests: usize,
}

pub struct Ends {
    pub while_valid: Later,
    pub after_the_end: Later,
}

pub fn run(kind: Kind) -> Ends {
    let issuer = Issuer::start(Answer { lives: LIVES, ..Answer::good(FETCH) });
    let first = user_runtime();
    let peer = first.block_on(async {
        let peer = (kind.build)(&issuer);
        assert_eq!(ended(ask(&peer), &issuer).await, Ended::Ok, "the first runtime has its token");
        peer
    });
    let begun = Instant::now();
    drop(first);
    let second = user_runtime();
    let call = || {
        let before = issuer.token_requests();
        second.block_on(async {
            let outcome = tokio::time::timeout(PATIENCE, ended(ask(&peer), &issuer)).await.ok();
            Later { ended: outcome, token_requests: issuer.token_requests() - before }
        })
    };
    let while_valid = call();
    std::thread::sleep(UNTIL_ENDED.saturating_sub(begun.elapsed()));
    let after_the_end = call();
    second.shutdown_background();
    Ends { while_valid, after_the_end }
}
