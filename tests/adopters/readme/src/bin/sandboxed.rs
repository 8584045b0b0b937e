//! The first program of README.md. Only the origin of the API is that of the sandbox.
include!(concat!(env!("OUT_DIR"), "/sandboxed.rs"));
