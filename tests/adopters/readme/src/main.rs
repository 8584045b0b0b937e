//! The first program of README.md, unchanged.
include!(concat!(env!("OUT_DIR"), "/verbatim.rs"));
