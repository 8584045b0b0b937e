//! Cases and their results.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::Deserialize;

/// A hanging server fails one case and does not block the run.
const CASE_LIMIT: Duration = Duration::from_secs(60);

/// Why a case failed.
#[derive(Debug)]
pub struct Failure(pub String);

pub type Check<T = ()> = Result<T, Failure>;

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        Self(text)
    }
}

pub fn boxed(error: tower_bearer_auth::BoxError) -> Failure {
    Failure(error.to_string())
}

pub fn fail<T>(why: impl fmt::Display) -> Check<T> {
    Err(Failure(why.to_string()))
}

pub fn holds(condition: bool, what: impl fmt::Display) -> Check {
    if condition { Ok(()) } else { fail(what) }
}

pub fn equal<A: PartialEq<B> + fmt::Debug, B: fmt::Debug>(what: &str, found: A, wanted: B) -> Check {
    if found == wanted { Ok(()) } else { fail(format!("{what}: found {found:?}, wanted {wanted:?}")) }
}

/// What a server writes when it is ready.
#[derive(Clone, Debug, Deserialize)]
pub struct Facts {
    pub server: String,
    pub version: String,
    pub url: String,
    pub control: String,
    /// Its other addresses.
    #[serde(default)]
    pub places: BTreeMap<String, String>,
}

impl Facts {
    pub fn place(&self, name: &str) -> Check<&str> {
        self.places.get(name).map(String::as_str).ok_or_else(|| Failure(format!("{} has no {name}", self.server)))
    }
}

/// The cases against one server.
pub struct Suite {
    pub facts: Facts,
    pub cases: usize,
    pub passed: usize,
    pub negative_cases: usize,
    /// The requests that this server counted.
    pub counted: usize,
    /// The tokens that the issuer counted, if it counts them.
    pub issued: Option<usize>,
}

impl Suite {
    pub fn new(facts: &Facts) -> Self {
        println!("\n{} {}", facts.server, facts.version);
        Self { facts: facts.clone(), cases: 0, passed: 0, negative_cases: 0, counted: 0, issued: None }
    }

    pub async fn case(&mut self, name: &str, work: impl Future<Output = Check>) {
        let outcome = run(work).await;
        self.note(name, outcome);
    }

    /// A negative case: it passes if the work fails for the expected reason.
    pub async fn wrong(&mut self, name: &str, reason: &str, work: impl Future<Output = Check>) {
        self.negative_cases += 1;
        let outcome = match run(work).await {
            Ok(()) => fail("it did not fail, so the other cases prove nothing"),
            Err(Failure(why)) if why.contains(reason) => Ok(()),
            Err(Failure(why)) => fail(format!("it failed for another reason than {reason:?}: {why}")),
        };
        self.note(&format!("negative case: {name}"), outcome);
    }

    fn note(&mut self, name: &str, outcome: Check) {
        self.cases += 1;
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("  ok    {name}");
            }
            Err(Failure(why)) => println!("  FAIL  {name}\n        {why}"),
        }
    }
}

async fn run(work: impl Future<Output = Check>) -> Check {
    match tokio::time::timeout(CASE_LIMIT, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => fail("it panicked"),
        Err(_) => fail(format!("it did not end within {CASE_LIMIT:?}")),
    }
}
