//! Users, and an issuer of tokens for them, with a label.

use std::time::Duration;

use tower_bearer_auth::{ExtensionKey, TokenSource, TokenSourceBuilder};

use crate::support;
use crate::support::time::Paused;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct User(pub(crate) &'static str);

pub(crate) type Key = ExtensionKey<User>;
pub(crate) type Issuer = support::issuer::Issuer<Key>;

pub(crate) const ANN: Key = ExtensionKey(User("ann"));
pub(crate) const BOB: Key = ExtensionKey(User("bob"));

pub(crate) const PROVIDER: &str = "staging";

/// The duration of a token request.
pub(crate) const LATENCY: Duration = Duration::from_secs(2);

/// An issuer of the tokens `token-1`, `token-2` and so on.
pub(crate) fn issuer() -> Issuer {
    let issuer = Issuer::keyed().with_label(PROVIDER);
    issuer.set_latency(LATENCY);
    issuer.name_tokens(|request| format!("token-{}", request.number));
    issuer
}

pub(crate) fn builder(issuer: &Issuer) -> TokenSourceBuilder<Issuer> {
    TokenSource::builder(issuer.clone()).clock(Paused::start())
}
