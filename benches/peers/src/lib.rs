//! This crate and published crates with part of its functions, in the same experiments.

mod batch;
pub mod experiments;
pub mod issuer;
pub mod peer;
mod peers;
mod sink;
pub mod table;
mod wire;

use peer::{ALL, Kind};

/// Prepares the process and returns the crates that the arguments name, or all of them.
pub fn begin() -> Vec<Kind> {
    // Some crates need a default cryptography in the process, even for HTTP without TLS.
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first to choose");
    silence_panics_of_peers();
    chosen()
}

fn chosen() -> Vec<Kind> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = names.iter().find(|name| !ALL.iter().any(|kind| kind.name == **name)) {
        eprintln!("peers: there is no {unknown}");
        std::process::exit(2);
    }
    let wanted = |kind: &Kind| names.is_empty() || kind.ours() || names.iter().any(|name| name == kind.name);
    ALL.iter().copied().filter(wanted).collect()
}

/// A panic of a caller inside of a peer is a result. Any other panic ends the program.
fn silence_panics_of_peers() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_some_and(|place| place.file().starts_with("src/")) {
            hook(panic);
        }
    }));
}
