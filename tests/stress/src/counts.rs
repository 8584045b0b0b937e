//! What a run did, and the least that it must do.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($name:ident),+) => {
        #[derive(Default)]
        pub(crate) struct Counts {
            $(pub(crate) $name: AtomicU64,)+
        }

        impl Counts {
            fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)+]
            }
        }
    };
}

counts!(
    requests,
    rejections,
    replays,
    fetches,
    rotations,
    invalidations,
    ended_runtimes,
    dropped_fetches,
    aborted_callers,
    panics
);

pub(crate) fn add(count: &AtomicU64, number: u64) {
    count.fetch_add(number, Ordering::Relaxed);
}

impl Counts {
    /// The counts that are below their floor. The floors are for a million requests, and a run has a share of them. A run of
    /// `seconds` has a floor of requests too.
    pub(crate) fn below(&self, floors: &str, seconds: Option<u64>) -> Vec<String> {
        let floors: Vec<(&str, u64)> = floors
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (name, floor) = line.split_once(' ').expect("a name and a number in tests/stress/floor");
                (name, floor.parse().expect("a number in tests/stress/floor"))
            })
            .collect();
        let of = |name: &str| {
            let floor = floors.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor);
            floor.unwrap_or_else(|| panic!("tests/stress/floor has no {name}"))
        };
        let requests = self.requests.load(Ordering::Relaxed);
        let mut below = Vec::new();
        for (name, count) in self.all() {
            let floor = match name {
                "requests" => seconds.unwrap_or(0) * of("requests_a_second"),
                _ => of(name) * requests / 1_000_000,
            };
            if count < floor {
                below.push(format!("{name}: {count}, and the floor is {floor}"));
            }
        }
        below
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.all() {
            writeln!(f, "{name:<16} {count:>10}")?;
        }
        Ok(())
    }
}
