//! The main job: a thousand wallet sessions and one sale through `BearerAuthLayer`, with AccessPSP tokens.
//!
//! ```sh
//! cargo run --example accesspsp
//! ```
//!
//! Without arguments it starts an issuer and a Wallet API on loopback. Tokens live for two seconds, and one token is revoked
//! while requests are pending. The servers count the requests. The example shows the counts while it runs, and exits with 1 if
//! one of them is wrong at the end.
//!
//! With `--live https://API-HOST` it opens one session at the real service and makes no sale. The credentials come from
//! `ACCESS_PSP_CLIENT_ID` and `ACCESS_PSP_CLIENT_SECRET` (or `.._FILE`).

mod job;
mod live;
mod progress;
mod stack;
mod verdict;

use std::process::ExitCode;

use tower_bearer_auth::BoxError;

const USAGE: &str = "usage: accesspsp [--live https://API-HOST]";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("accesspsp: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool, BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(job::run(None).await?.print()),
        ["--live", api] => live::open_one_session(api).await.map(|()| true),
        // A test uses this to show that each check can fail.
        ["--break", what] => Ok(job::run(Some(job::Break::parse(what)?)).await?.print()),
        _ => Err(USAGE.into()),
    }
}
