//! A revocation while requests are in flight: all of them are rejected at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::task::JoinSet;

use super::{Ended, FETCH, ended, request_token, user_runtime};
use crate::issuer::{Behavior, Issuer};
use crate::peer::{Kind, Peer};

pub struct Recovery {
    /// The requests that ended with a 200.
    pub recovered: usize,
    /// Token requests since the revocation.
    pub token_requests: usize,
    pub sends: usize,
    pub wall: Duration,
}

/// Two revocations. The second one follows as soon as all requests of the first one have ended.
pub struct Twice {
    pub first: Recovery,
    pub second: Recovery,
}

/// Whether the API accepted the token before the first revocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Accepted,
    Unused,
}

pub fn run(kind: Kind, in_flight: usize, token: Token) -> Twice {
    let issuer = Issuer::start(Behavior::good(FETCH));
    let runtime = user_runtime();
    let outcome = runtime.block_on(async {
        let peer = (kind.build)(&issuer);
        assert_eq!(ended(request_token(&peer), &issuer).await, Ended::Ok, "a token before the revocation");
        if token == Token::Accepted {
            let status = peer.send().await.expect("a response");
            assert_eq!(status, StatusCode::OK, "the API accepts the token");
        }
        let first = burst(&peer, &issuer, in_flight).await;
        let second = burst(&peer, &issuer, in_flight).await;
        Twice { first, second }
    });
    runtime.shutdown_background();
    outcome
}

async fn burst(peer: &Arc<dyn Peer>, issuer: &Issuer, in_flight: usize) -> Recovery {
    let (tokens_before, sends_before) = (issuer.token_requests(), issuer.sends());
    issuer.revoke_under(in_flight);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        let peer = Arc::clone(peer);
        tasks.spawn(async move { peer.send().await });
    }
    let mut recovered = 0;
    while let Some(outcome) = tasks.join_next().await {
        recovered += usize::from(matches!(outcome, Ok(Ok(StatusCode::OK))));
    }
    let token_requests = issuer.token_requests() - tokens_before;
    Recovery { recovered, token_requests, sends: issuer.sends() - sends_before, wall: start.elapsed() }
}
