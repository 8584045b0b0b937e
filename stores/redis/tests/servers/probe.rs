//! A process of its own, for what applies to a process: trusted certificates, the default `CryptoProvider`, the environment.
//!
//! Its variables are `PROBE_URL` or `PROBE_URL_FILE`, `PROBE_CLUSTER`, and `SSL_CERT_FILE`.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tower_bearer_auth::shared::{TokenStore as _, contract};
use tower_bearer_auth::{BoxError, ConfigError};
use tower_bearer_auth_redis::RedisStore;

/// Runs the probe `name`. Returns its error, with the causes.
pub(crate) async fn run(name: &str, variables: &[(&str, &str)]) -> Result<(), String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["probe", name]).env_remove("SSL_CERT_FILE").envs(variables.iter().copied()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let error = String::from_utf8(output.stdout).unwrap();
    if output.status.success() { Ok(()) } else { Err(error) }
}

/// The variable that makes a process trust the authority of `folder`.
pub(crate) fn trust(folder: &Path) -> (&'static str, String) {
    ("SSL_CERT_FILE", folder.join("authority.pem").to_str().unwrap().to_owned())
}

/// The probe itself.
pub(crate) async fn main(name: &str) -> Result<(), String> {
    probe(name).await.map_err(|error| {
        let mut causes = vec![format!("{error} {error:?}")];
        let mut next: Option<&dyn Error> = error.source();
        while let Some(cause) = next {
            causes.push(format!("{cause} {cause:?}"));
            next = cause.source();
        }
        causes.join(": ")
    })
}

/// The store that the environment describes.
pub(crate) fn store() -> Result<RedisStore, ConfigError> {
    let builder = RedisStore::from_env("PROBE")?;
    if std::env::var_os("PROBE_CLUSTER").is_some() { builder.cluster().build() } else { builder.build() }
}

async fn probe(name: &str) -> Result<(), BoxError> {
    let store = store()?;
    if name == "contract" {
        return contract::run(&store).await;
    }
    store.claim(&format!("{:043}", 0), &[1; 16], Duration::from_secs(1), None).await?;
    Ok(())
}
