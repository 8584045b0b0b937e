//! Callers that start together while no token is cached.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::user_runtime;
use crate::issuer::{Behavior, Issuer};
use crate::peer::Kind;

/// The result of a storm of callers.
pub struct Storm {
    pub token_requests: usize,
    pub served: usize,
    /// The callers that still waited at the end of `patience`.
    pub waiting: usize,
    pub wall: Duration,
}

pub fn run(kind: Kind, callers: usize, behavior: Behavior, patience: Duration) -> Storm {
    let issuer = Issuer::start(behavior);
    let runtime = user_runtime();
    let storm = runtime.block_on(async {
        let peer = (kind.build)(&issuer);
        let start = Arc::new(Barrier::new(callers + 1));
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (peer, start) = (Arc::clone(&peer), Arc::clone(&start));
            tasks.spawn(async move {
                start.wait().await;
                peer.token().await
            });
        }
        start.wait().await;
        let released_at = Instant::now();
        let (mut served, mut finished) = (0, 0);
        let all = async {
            while let Some(outcome) = tasks.join_next().await {
                finished += 1;
                if let Ok(Ok(token)) = outcome {
                    assert!(issuer.has_minted(&token), "a token that is not the issuer's");
                    served += 1;
                }
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
        let wall = released_at.elapsed();
        Storm { token_requests: issuer.token_requests(), served, waiting: callers - finished, wall }
    });
    runtime.shutdown_background();
    storm
}
