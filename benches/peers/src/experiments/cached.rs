//! The token is in the cache: what reading it and stamping a request with it cost one thread.

use std::time::{Duration, Instant};

use super::user_runtime;
use crate::batch::Way;
use crate::issuer::{Answer, Issuer};
use crate::peer::Kind;

const CALLS: usize = 1_000;
const SAMPLES: usize = 201;

/// What one way costs a call.
pub struct Cost {
    pub label: &'static str,
    pub nanoseconds: f64,
    pub allocations: f64,
}

pub struct Costs {
    pub read: Option<Cost>,
    pub stamped: Vec<Cost>,
}

/// All of them in turn, sample by sample, so that whatever else the machine does hits each of them.
pub fn run(kinds: &[Kind]) -> Vec<Costs> {
    let runtime = user_runtime();
    let issuers: Vec<_> = kinds.iter().map(|_| Issuer::start(Answer::good(Duration::ZERO))).collect();
    let peers: Vec<_> = runtime.block_on(async {
        let mut peers = Vec::new();
        for (kind, issuer) in kinds.iter().zip(&issuers) {
            let peer = (kind.build)(issuer);
            peer.token().await.expect("a token");
            peers.push(peer);
        }
        peers
    });
    let _inside = runtime.enter();
    let mut ways = Vec::new();
    for (index, peer) in peers.iter().enumerate() {
        let cached = peer.cached();
        ways.extend(cached.read.map(|way| Measured::new(index, true, way)));
        ways.extend(cached.stamped.into_iter().map(|way| Measured::new(index, false, way)));
    }
    for measured in &ways {
        assert!(issuers[measured.peer].has_minted(&measured.way.token()), "{}: another token", measured.way.label);
    }
    for sample in 0..=SAMPLES {
        for measured in &mut ways {
            // The first round warms up.
            measured.sample(sample > 0);
        }
    }
    let mut costs: Vec<_> = kinds.iter().map(|_| Costs { read: None, stamped: Vec::new() }).collect();
    for mut measured in ways {
        let (peer, is_read) = (measured.peer, measured.is_read);
        let cost = measured.cost();
        if is_read {
            costs[peer].read = Some(cost);
        } else {
            costs[peer].stamped.push(cost);
        }
    }
    for (kind, issuer) in kinds.iter().zip(&issuers) {
        assert_eq!(issuer.token_requests(), 1, "{} asked again: that was not the cached path", kind.name);
    }
    costs
}

struct Measured {
    peer: usize,
    is_read: bool,
    way: Way,
    times: Vec<Duration>,
}

impl Measured {
    fn new(peer: usize, is_read: bool, way: Way) -> Self {
        Self { peer, is_read, way, times: Vec::with_capacity(SAMPLES) }
    }

    fn sample(&mut self, kept: bool) {
        self.way.prepare(CALLS);
        let begun = Instant::now();
        self.way.run();
        let took = begun.elapsed();
        if kept {
            self.times.push(took);
        }
    }

    fn cost(&mut self) -> Cost {
        self.times.sort_unstable();
        let median = self.times[self.times.len() / 2];
        self.way.prepare(CALLS);
        let counted = allocation_counter::measure(|| self.way.run());
        let calls = CALLS as f64;
        Cost {
            label: self.way.label,
            nanoseconds: median.as_nanos() as f64 / calls,
            allocations: counted.count_total as f64 / calls,
        }
    }
}
