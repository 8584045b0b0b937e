//! The first caller is aborted during the fetch that it started, while other callers wait for the same fetch.

use std::time::{Duration, Instant};

use super::storm::Storm;
use super::{Ended, FETCH, ended, request_token, user_runtime};
use crate::issuer::{Behavior, Issuer};
use crate::peer::Kind;

const ABORTED_AFTER: Duration = Duration::from_millis(20);
/// On a busy machine the first caller may get its token before the abort. The experiment is then repeated, up to this number.
const TRIES: usize = 20;

pub fn run(kind: Kind, callers: usize) -> Storm {
    (0..TRIES).find_map(|_| once(kind, callers)).expect("a machine with time for 20 of 50 ms")
}

/// `None` if the first caller got its token before the abort.
fn once(kind: Kind, callers: usize) -> Option<Storm> {
    let issuer = Issuer::start(Behavior::good(FETCH));
    let runtime = user_runtime();
    let storm = runtime.block_on(async {
        let peer = (kind.build)(&issuer);
        let first = request_token(&peer);
        issuer.wait_token_request().await;
        let start = Instant::now();
        let others: Vec<_> = (1..callers).map(|_| request_token(&peer)).collect();
        tokio::time::sleep(ABORTED_AFTER).await;
        first.abort();
        let was_aborted = ended(first, &issuer).await == Ended::Aborted;
        let mut served = 0;
        for other in others {
            served += usize::from(ended(other, &issuer).await == Ended::Ok);
        }
        let wall = start.elapsed();
        was_aborted.then(|| Storm { token_requests: issuer.token_requests(), served, waiting: 0, wall })
    });
    runtime.shutdown_background();
    storm
}
