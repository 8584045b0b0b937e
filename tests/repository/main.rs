//! The rules for the files of this repository.

mod house;
#[path = "../support/mod.rs"]
mod support;
