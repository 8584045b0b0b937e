//! One file for each experiment, and shared functions.

pub mod cached;
pub mod impatient;
pub mod leader;
pub mod rejection;
pub mod runtime;
pub mod storm;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::issuer::Issuer;
use crate::peer::Peer;

/// The latency of the issuer in most experiments.
pub const FETCH: Duration = Duration::from_millis(50);

/// The runtime of the callers, with two threads. The servers have another one.
pub fn user_runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// The outcome of one call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    Ok,
    Failed(String),
    Panicked,
    /// The task was aborted.
    Aborted,
}

/// Requests a token in a new task.
pub fn request_token(peer: &Arc<dyn Peer>) -> JoinHandle<Result<String, String>> {
    let peer = Arc::clone(peer);
    tokio::spawn(async move { peer.token().await.map_err(|error| error.to_string()) })
}

/// The outcome of the task. Panics if the token is not a token of `issuer`.
pub async fn ended(task: JoinHandle<Result<String, String>>, issuer: &Issuer) -> Ended {
    match task.await {
        Ok(Ok(token)) => {
            assert!(issuer.has_minted(&token), "a token that is not the issuer's");
            Ended::Ok
        }
        Ok(Err(error)) => Ended::Failed(error),
        Err(error) if error.is_panic() => Ended::Panicked,
        Err(_) => Ended::Aborted,
    }
}
