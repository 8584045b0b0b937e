//! A merchant and two users at Aeropay: the identity of each request, and what happens to its token.
//!
//! ```sh
//! cargo run --example aeropay
//! ```
//!
//! Without arguments it starts an Aeropay on loopback. It prints each request and what the server received.
//!
//! With `--live` it connects to Aeropay's own sandbox and searches the transactions of the merchant. No money moves. The
//! credentials come from `AEROPAY_API_KEY`, `AEROPAY_API_SECRET` and `AEROPAY_MERCHANT_ID` (or `.._FILE`).

mod client;
mod live;
mod scenario;

use std::process::ExitCode;

use tower_bearer_auth::BoxError;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aeropay: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => scenario::run().await,
        ["--live"] => live::search_transactions().await,
        _ => Err("usage: aeropay [--live]".into()),
    }
}
