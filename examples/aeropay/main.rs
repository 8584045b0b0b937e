//! A merchant and two users at Aeropay: who each request goes as, and what happens to their tokens.
//!
//! ```sh
//! cargo run --example aeropay
//! ```
//!
//! Without arguments it starts an Aeropay on loopback. Each line is a request, and what the server saw of it.
//!
//! With `--live` it goes to Aeropay's own sandbox, asks for the merchant's token and searches its transactions; no money
//! moves. Credentials come from `AEROPAY_API_KEY`, `AEROPAY_API_SECRET` and `AEROPAY_MERCHANT_ID` (or `.._FILE`).

mod live;
mod story;
mod teller;

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
        [] => story::tell().await,
        ["--live"] => live::search_transactions().await,
        _ => Err("usage: aeropay [--live]".into()),
    }
}
