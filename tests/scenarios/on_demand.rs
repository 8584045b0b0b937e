//! Methods that the source does not have yet. Scenarios that need them are pending.

use std::time::Duration;

use tower_bearer_auth::{TokenFuture, TokenSource, TokenSourceBuilder, TokenStatus};

use crate::issuer::Issuer;
use crate::user_code::Key;

/// Callers without a token do not wait through a backoff yet, which is what a patience of zero will mean.
pub(crate) fn patience(builder: TokenSourceBuilder<Issuer>, patience: Duration) -> TokenSourceBuilder<Issuer> {
    assert!(patience.is_zero(), "the source has no `patience` yet");
    builder
}

pub(crate) fn refresh(_: &TokenSource<Issuer>, _: &Key) -> TokenFuture<Issuer> {
    panic!("the source has no `refresh` yet")
}

pub(crate) fn token_valid_for(_: &TokenSource<Issuer>, _: &Key, _: Duration) -> TokenFuture<Issuer> {
    panic!("the source has no `token_valid_for` yet")
}

pub(crate) fn check_ready(_: &TokenSource<Issuer>, _: &Key) -> TokenStatus {
    panic!("the source has no `check_ready` yet")
}
