//! A revocation with requests in flight: all of them are refused at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::task::JoinSet;

use super::{Ended, FETCH, ask, ended, user_runtime};
use crate::issuer::{Answer, Issuer};
use crate::peer::{Kind, Peer};

pub struct Refused {
    /// Those that had a 200 in the end.
    pub recovered: usize,
    /// Since the revocation.
    pub token_requests: usize,
    pub sends: usize,
    pub wall: Duration,
}

/// Two revocations, the second as soon as all are through with the first.
pub struct Twice {
    pub first: Refused,
    pub second: Refused,
}

/// Whether the API has accepted the token before it is revoked for the first time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Accepted,
    Unused,
}

pub fn run(kind: Kind, in_flight: usize, token: Token) -> Twice {
    let issuer = Issuer::start(Answer::good(FETCH));
    let runtime = user_runtime();
    let outcome = runtime.block_on(async {
        let peer = (kind.build)(&issuer);
        assert_eq!(ended(ask(&peer), &issuer).await, Ended::Ok, "a token before the revocation");
        if token == Token::Accepted {
            let status = peer.send().await.expect("an answer");
            assert_eq!(status, StatusCode::OK, "the API accepts the token");
        }
        let first = burst(&peer, &issuer, in_flight).await;
        let second = burst(&peer, &issuer, in_flight).await;
        Twice { first, second }
    });
    runtime.shutdown_background();
    outcome
}

async fn burst(peer: &Arc<dyn Peer>, issuer: &Issuer, in_flight: usize) -> Refused {
    let (tokens_before, sends_before) = (issuer.token_requests(), issuer.sends());
    issuer.revoke_under(in_flight);
    let begun = Instant::now();
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
    Refused { recovered, token_requests, sends: issuer.sends() - sends_before, wall: begun.elapsed() }
}
