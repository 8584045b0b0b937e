//! Callers with a deadline that is shorter than the latency of the issuer. A new caller follows each one that gives up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::user_runtime;
use crate::issuer::{Behavior, Issuer};
use crate::peer::Kind;

const DEADLINE: Duration = Duration::from_millis(50);
const ISSUER: Duration = Duration::from_millis(200);
/// The time in which new callers start.
pub const WINDOW: Duration = Duration::from_secs(1);

pub struct Impatient {
    pub token_requests: usize,
    pub first_success: Option<Duration>,
}

pub fn run(kind: Kind, at_once: usize) -> Impatient {
    let issuer = Arc::new(Issuer::start(Behavior::good(ISSUER)));
    let runtime = user_runtime();
    let outcome = runtime.block_on(async {
        let peer = (kind.build)(&issuer);
        let start = Instant::now();
        let lines: Vec<_> = (0..at_once)
            .map(|_| {
                let (peer, issuer) = (Arc::clone(&peer), Arc::clone(&issuer));
                tokio::spawn(async move {
                    while start.elapsed() < WINDOW {
                        if let Ok(Ok(token)) = tokio::time::timeout(DEADLINE, peer.token()).await {
                            assert!(issuer.has_minted(&token), "a token that is not the issuer's");
                            return Some(start.elapsed());
                        }
                    }
                    None
                })
            })
            .collect();
        let mut first_success: Option<Duration> = None;
        for line in lines {
            if let Some(at) = line.await.expect("no panic") {
                first_success = Some(first_success.map_or(at, |first| first.min(at)));
            }
        }
        Impatient { token_requests: issuer.token_requests(), first_success }
    });
    runtime.shutdown_background();
    outcome
}
