//! This crate and the published ones that do part of its job, in the same experiments.

mod batch;
pub mod experiments;
pub mod issuer;
pub mod peer;
mod peers;
mod sink;
pub mod table;
mod wire;

use peer::{ALL, Kind};

/// Makes the process ready, and says which crates its arguments name: all, if there are none.
pub fn begin() -> Vec<Kind> {
    // Where TLS is compiled in without a choice of cryptography, it wants one, even for clear text.
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

/// A panic of a caller inside of a peer is an outcome here. One of this program is not.
fn silence_panics_of_peers() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_some_and(|place| place.file().starts_with("src/")) {
            hook(panic);
        }
    }));
}
