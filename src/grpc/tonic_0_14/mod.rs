//! A layer that gives the errors of this crate a status code, for clients of tonic 0.14.
//!
//! A tonic client does not know these errors, so their code is `Unknown`. [`StatusLayer`] turns them into a boxed
//! `tonic::Status`, which the client returns as it is. Only the same minor version of tonic knows the type in the box. With
//! another one, the code stays `Unknown`.

mod status;

pub use self::status::{StatusFuture, StatusLayer, StatusService};
