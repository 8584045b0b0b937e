//! The same as `sandboxed`, after a choice of the cryptography.
include!(concat!(env!("OUT_DIR"), "/chosen.rs"));
