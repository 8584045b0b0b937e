//! One file for each experiment, and what they share.

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

/// How long the issuer takes, unless an experiment says otherwise.
pub const FETCH: Duration = Duration::from_millis(50);

/// The runtime of a user: two threads, as the servers have one of their own.
pub fn user_runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// How one call ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    Ok,
    Failed(String),
    Panicked,
    /// Its task was taken away.
    Gone,
}

/// Asks for a token in a task of its own. An `Ok` is a token of this issuer, or the run ends here.
pub fn ask(peer: &Arc<dyn Peer>) -> JoinHandle<Result<String, String>> {
    let peer = Arc::clone(peer);
    tokio::spawn(async move { peer.token().await.map_err(|error| error.to_string()) })
}

pub async fn ended(task: JoinHandle<Result<String, String>>, issuer: &Issuer) -> Ended {
    match task.await {
        Ok(Ok(token)) => {
            assert!(issuer.has_minted(&token), "a token that is not the issuer's");
            Ended::Ok
        }
        Ok(Err(error)) => Ended::Failed(error),
        Err(error) if error.is_panic() => Ended::Panicked,
        Err(_) => Ended::Gone,
    }
}
