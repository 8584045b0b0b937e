//! One file for each crate.

pub mod a2a;
pub mod aws;
pub mod azure;
pub mod cf_gears;
pub mod gcp_auth;
pub mod google_cloud_auth;
pub mod huskarl;
pub mod kube;
pub mod object_store;
pub mod ours;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

/// The code of a user, if the crate returns a string.
pub fn by_hand(token: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a token fits a header");
    value.set_sensitive(true);
    value
}

pub fn stamp(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, by_hand(token))])
}

/// The header of stamped headers.
pub fn shown(headers: &HeaderMap) -> String {
    headers[AUTHORIZATION].to_str().expect("text").to_owned()
}
