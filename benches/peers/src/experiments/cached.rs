//! The cost of reading a cached token and of stamping a request with it, on one thread.
//!
//! Times and allocations are measured in two processes, because an allocator that counts makes every allocation slower.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::user_runtime;
use crate::batch::Way;
use crate::issuer::{Behavior, Issuer};
use crate::peer::Kind;

const CALLS: usize = 1_000;
const SAMPLES: usize = 41;
/// How many headers the requests have.
pub const HEADERS: [usize; 2] = [2, 10];

/// A measured call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    pub crate_name: String,
    pub label: String,
    /// How many headers the stamped request has. `None` if the token is read.
    pub headers: Option<usize>,
}

/// The cost of one call: nanoseconds, or allocations.
pub struct Cost {
    pub call: Call,
    pub value: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { crate_name, label, headers } = &self.call;
        let headers = headers.map_or_else(|| "read".to_owned(), |count| count.to_string());
        write!(f, "{crate_name}\t{label}\t{headers}\t{}", self.value)
    }
}

impl Cost {
    /// The reverse of `Display`.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let [crate_name, label, headers, value] = std::array::from_fn(|_| fields.next());
        let call =
            Call { crate_name: crate_name?.to_owned(), label: label?.to_owned(), headers: headers?.parse().ok() };
        Some(Self { call, value: value?.parse().ok()? })
    }
}

/// The median time of a call, in nanoseconds. The samples of all ways alternate, so that other load on the machine affects all
/// ways.
pub fn times(kinds: &[Kind]) -> Vec<Cost> {
    let mut bench = Bench::new(kinds);
    let _inside = bench.runtime.enter();
    let mut times = vec![Vec::with_capacity(SAMPLES); bench.ways.len()];
    for sample in 0..=SAMPLES {
        for ((_, way), times) in bench.ways.iter_mut().zip(&mut times) {
            way.prepare(CALLS);
            let start = Instant::now();
            way.run();
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
    bench.ways.into_iter().zip(medians).map(|((call, _), value)| Cost { call, value }).collect()
}

/// The allocations of a call. `count` runs a function and counts its allocations.
pub fn allocations(kinds: &[Kind], count: impl Fn(&mut dyn FnMut()) -> u64) -> Vec<Cost> {
    let mut bench = Bench::new(kinds);
    let _inside = bench.runtime.enter();
    let mut costs = Vec::new();
    for (call, way) in &mut bench.ways {
        way.prepare(CALLS);
        way.run();
        way.prepare(CALLS);
        let counted = count(&mut || way.run());
        costs.push(Cost { call: call.clone(), value: counted as f64 / CALLS as f64 });
    }
    bench.check_cached(kinds);
    costs
}

struct Bench {
    runtime: Runtime,
    issuers: Vec<Issuer>,
    ways: Vec<(Call, Way)>,
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
            let mut of_kind = Vec::new();
            for (turn, headers) in HEADERS.into_iter().enumerate() {
                let cached = peer.cached(headers);
                of_kind.extend(cached.read.filter(|_| turn == 0).map(|way| (None, way)));
                of_kind.extend(cached.stamped.into_iter().map(|way| (Some(headers), way)));
            }
            for (headers, way) in of_kind {
                assert!(issuer.has_minted(&way.token()), "{}, {}: another token", kind.name, way.label);
                let (crate_name, label) = (kind.name.to_owned(), way.label.to_owned());
                ways.push((Call { crate_name, label, headers }, way));
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
