//! The first caller leaves in the middle of the fetch that it set off; the others had joined it.

use std::time::{Duration, Instant};

use super::storm::Storm;
use super::{Ended, FETCH, ask, ended, user_runtime};
use crate::issuer::{Answer, Issuer};
use crate::peer::Kind;

const LEAVES_AFTER: Duration = Duration::from_millis(20);
/// A busy machine may oversleep, and the leader is served before it leaves. Then it is begun anew, so often at most.
const TRIES: usize = 20;

pub fn run(kind: Kind, callers: usize) -> Storm {
    (0..TRIES).find_map(|_| once(kind, callers)).expect("a machine with time for 20 of 50 ms")
}

/// Nothing, if the leader was served before it left.
fn once(kind: Kind, callers: usize) -> Option<Storm> {
    let issuer = Issuer::start(Answer::good(FETCH));
    let runtime = user_runtime();
    let storm = runtime.block_on(async {
        let peer = (kind.build)(&issuer);
        let leader = ask(&peer);
        issuer.asked().await;
        let begun = Instant::now();
        let others: Vec<_> = (1..callers).map(|_| ask(&peer)).collect();
        tokio::time::sleep(LEAVES_AFTER).await;
        leader.abort();
        let left = ended(leader, &issuer).await == Ended::Gone;
        let mut served = 0;
        for other in others {
            served += usize::from(ended(other, &issuer).await == Ended::Ok);
        }
        let wall = begun.elapsed();
        left.then(|| Storm { token_requests: issuer.token_requests(), served, waiting: 0, wall })
    });
    runtime.shutdown_background();
    storm
}
