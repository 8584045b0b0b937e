//! Callers that are released together, and no token in the cache.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::user_runtime;
use crate::issuer::{Answer, Issuer};
use crate::peer::Kind;

/// What a storm of callers came to.
pub struct Storm {
    pub token_requests: usize,
    pub served: usize,
    /// Those who had neither a token nor an error when the patience ended.
    pub waiting: usize,
    pub wall: Duration,
}

pub fn run(kind: Kind, callers: usize, answer: Answer, patience: Duration) -> Storm {
    let issuer = Issuer::start(answer);
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
        let begun = Instant::now();
        let (mut served, mut told) = (0, 0);
        let all = async {
            while let Some(outcome) = tasks.join_next().await {
                told += 1;
                if let Ok(Ok(token)) = outcome {
                    assert!(issuer.has_minted(&token), "a token that is not the issuer's");
                    served += 1;
                }
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
        let wall = begun.elapsed();
        Storm { token_requests: issuer.token_requests(), served, waiting: callers - told, wall }
    });
    runtime.shutdown_background();
    storm
}
