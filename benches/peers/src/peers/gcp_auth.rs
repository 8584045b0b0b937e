//! gcp_auth: a service account with a key file that names the token endpoint. It signs an assertion for each token request.

use std::sync::Arc;
use std::sync::LazyLock;

use async_trait::async_trait;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gcp_auth::{CustomServiceAccount, TokenProvider as _};
use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::json;

use super::{by_hand, shown, stamp};
use crate::batch::{Way, now};
use crate::issuer::Issuer;
use crate::peer::{Cached, Peer};
use crate::sink;
use crate::wire::{self, BoxError, Http};

const SCOPES: &[&str] = &["scope"];

/// It accepts RSA keys only. This key is generated at start.
static KEY: LazyLock<String> = LazyLock::new(|| {
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("a key");
    let kind = "PRIVATE KEY";
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der.as_ref()))
});

struct GcpAuth {
    account: Arc<CustomServiceAccount>,
    http: Http,
    api_origin: String,
}

pub fn build(issuer: &Issuer) -> Arc<dyn Peer> {
    let file = json!({
        "type": "service_account",
        "project_id": "project",
        "private_key": *KEY,
        "client_email": "client@project.example",
        "token_uri": issuer.token_url(),
    });
    let account = CustomServiceAccount::from_json(&file.to_string()).expect("good settings");
    Arc::new(GcpAuth { account: Arc::new(account), http: wire::http(), api_origin: issuer.api_origin() })
}

#[async_trait]
impl Peer for GcpAuth {
    async fn token(&self) -> Result<String, BoxError> {
        Ok(self.account.token(SCOPES).await?.as_str().to_owned())
    }

    async fn send(&self) -> Result<StatusCode, BoxError> {
        let headers = stamp(self.account.token(SCOPES).await?.as_str());
        Ok(wire::send(&self.http, &self.api_origin, headers).await?.0)
    }

    fn cached(&self, headers: usize) -> Cached {
        let (account, read_shown) = (Arc::clone(&self.account), Arc::clone(&self.account));
        let read = Way::new(
            "token()",
            || (),
            move |()| now(account.token(SCOPES)).expect("a token"),
            move || now(read_shown.token(SCOPES)).expect("a token").as_str().to_owned(),
        );
        let (account, stamp_shown) = (Arc::clone(&self.account), Arc::clone(&self.account));
        let origin = self.api_origin.clone();
        let stamped = Way::new(
            "token(), by hand",
            move || wire::things(&origin, headers),
            move |mut request| {
                let token = now(account.token(SCOPES)).expect("a token");
                request.headers_mut().insert(AUTHORIZATION, by_hand(token.as_str()));
                sink::send(request)
            },
            move || shown(&stamp(now(stamp_shown.token(SCOPES)).expect("a token").as_str())),
        );
        Cached { read: Some(read), stamped: vec![stamped] }
    }
}
