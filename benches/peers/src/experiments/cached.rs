//! The cost of reading a cached token and of stamping a request with it, on one thread.
//!
//! Times and allocations are measured in two processes, because an allocator that counts makes every allocation slower.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::user_runtime;
use crate::batch::Way;
use crate::issuer::{Behavior, Issuer};
use crate::peer::Kind;

const CALLS: usize = 1_000;
const SAMPLES: usize = 201;

/// The cost of one call.
pub struct Cost {
    pub crate_name: &'static str,
    pub label: &'static str,
    pub is_read: bool,
    /// Nanoseconds, or allocations.
    pub value: f64,
}

/// The median time of a call, in nanoseconds. The samples of all ways alternate, so that other load on the machine affects all
/// ways.
pub fn times(kinds: &[Kind]) -> Vec<Cost> {
    let mut bench = Bench::new(kinds);
    let _inside = bench.runtime.enter();
    let mut times = vec![Vec::with_capacity(SAMPLES); bench.ways.len()];
    for sample in 0..=SAMPLES {
        for (known, times) in bench.ways.iter_mut().zip(&mut times) {
            known.way.prepare(CALLS);
            let start = Instant::now();
            known.way.run();
            let took = start.elapsed();
            // The first round is a warm-up.
            if sample > 0 {
                times.push(took);
            }
        }
    }
    bench.check_cached(kinds);
    let medians = times.into_iter().map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_nanos() as f64 / CALLS as f64
    });
    bench.ways.iter().zip(medians).map(|(known, value)| known.cost(value)).collect()
}

/// The allocations of a call. `count` runs a function and counts its allocations.
pub fn allocations(kinds: &[Kind], count: impl Fn(&mut dyn FnMut()) -> u64) -> Vec<Cost> {
    let mut bench = Bench::new(kinds);
    let _inside = bench.runtime.enter();
    let mut costs = Vec::new();
    for known in &mut bench.ways {
        known.way.prepare(CALLS);
        known.way.run();
        known.way.prepare(CALLS);
        let counted = count(&mut || known.way.run());
        costs.push(known.cost(counted as f64 / CALLS as f64));
    }
    bench.check_cached(kinds);
    costs
}

struct Bench {
    runtime: Runtime,
    issuers: Vec<Issuer>,
    ways: Vec<Known>,
}

struct Known {
    crate_name: &'static str,
    is_read: bool,
    way: Way,
}

impl Known {
    fn cost(&self, value: f64) -> Cost {
        Cost { crate_name: self.crate_name, label: self.way.label, is_read: self.is_read, value }
    }
}

impl Bench {
    /// Every way with a cached token. A first call asserts that the token is one of its issuer.
    fn new(kinds: &[Kind]) -> Self {
        let runtime = user_runtime();
        let (mut issuers, mut ways) = (Vec::new(), Vec::new());
        for kind in kinds {
            let issuer = Issuer::start(Behavior::good(Duration::ZERO));
            let peer = runtime.block_on(async {
                let peer = (kind.build)(&issuer);
                peer.token().await.expect("a token");
                peer
            });
            let _inside = runtime.enter();
            let cached = peer.cached();
            let of_kind = cached.read.map(|way| (true, way)).into_iter();
            for (is_read, way) in of_kind.chain(cached.stamped.into_iter().map(|way| (false, way))) {
                assert!(issuer.has_minted(&way.token()), "{}, {}: another token", kind.name, way.label);
                ways.push(Known { crate_name: kind.name, is_read, way });
            }
            issuers.push(issuer);
        }
        Self { runtime, issuers, ways }
    }

    fn check_cached(&self, kinds: &[Kind]) {
        for (kind, issuer) in kinds.iter().zip(&self.issuers) {
            assert_eq!(issuer.token_requests(), 1, "{} made another token request", kind.name);
        }
    }
}
