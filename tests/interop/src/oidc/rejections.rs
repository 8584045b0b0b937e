//! The failures that this issuer documents.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tower_bearer_auth::token_endpoint::TokenRequest;
use tower_bearer_auth::{BasicEncoding, ErrorKind, Secret, from_fn};

use super::{CREDENTIALS, Issuer, Key, PARAMETERS, TOKEN, key, now, seconds, unique};
use crate::issuer::{Expected, Makes, Own, fails, permanent, post};
use crate::report::Report;
use crate::suite::{Check, Failure, Suite};

impl Issuer<'_> {
    pub(super) async fn rejections(&self, suite: &mut Suite, report: &mut Report) {
        use ErrorKind::{Config, InvalidCredentials, InvalidRequest, UnsupportedTokenType};
        let invalid_client = permanent(InvalidCredentials, 401, Some("invalid_client"), CREDENTIALS);
        let invalid_request = permanent(InvalidRequest, 400, Some("invalid_request"), PARAMETERS);
        let scope = permanent(InvalidRequest, 400, Some("invalid_scope"), "check the scope");
        let target = permanent(InvalidRequest, 400, Some("invalid_target"), "check the resource and the audience");
        let rows = [
            ("a wrong secret", self.client("orders").client_secret("wrong-7fQ2"), invalid_client),
            ("an unknown client", self.client("nobody"), invalid_client),
            (
                "a wrong secret by HTTP Basic",
                self.client("orders").client_secret("wrong-7fQ2").client_secret_basic(BasicEncoding::Percent),
                invalid_client,
            ),
            ("a secret that has expired", self.client("outdated"), Expected { status: Some(400), ..invalid_client }),
            ("a secret instead of an assertion", self.client("assert-ES256"), invalid_client),
            ("a grant that is not allowed for the client", self.client("web"), invalid_request),
            ("a scope that is not allowed for the client", self.client("scoped").scope("write"), scope),
            ("a scope with an invalid character", self.client("orders").scope("read \"write"), scope),
            ("an unknown resource", self.client("orders").resource("urn:interop:nowhere"), target),
            (
                "two resources",
                self.client("orders").resource("urn:interop:api").resource("urn:interop:elsewhere"),
                target,
            ),
            (
                "a DPoP client without a proof",
                self.client("dpop"),
                permanent(InvalidRequest, 400, Some("invalid_grant"), "for this grant type"),
            ),
            (
                "a non-ASCII secret, which cannot be registered",
                self.client("secret-non-ascii"),
                permanent(InvalidRequest, 400, Some("invalid_client_metadata"), PARAMETERS),
            ),
            (
                "an internal error of the issuer",
                self.client("broken"),
                Expected { kind: ErrorKind::Unavailable, transient: true, status: Some(500), code: None, hint: "" },
            ),
        ];
        for (what, builder, expected) in rows {
            fails(suite, (self.facts, TOKEN), self.api, &mut report.observed, what, builder.build(), expected).await;
        }
        let elsewhere = post(&self.url("/oauth/token"), "orders", self.world.secret(), self.api).build();
        let no_endpoint = permanent(Config, 404, None, "set the token URL");
        let at = (self.facts, "/oauth/token");
        fails(suite, at, self.api, &mut report.observed, "a wrong path", elsewhere, no_endpoint).await;

        // Requests that ClientCredentials never sends, from a custom provider.
        let own = |request: Makes| {
            let (endpoint, secret) = (
                self.exchange(TOKEN).map_err(|Failure(why)| tower_bearer_auth::Error::permanent(why)),
                self.world.secret().to_owned(),
            );
            endpoint.map(|endpoint| {
                from_fn(move || {
                    let (endpoint, request) = (endpoint.clone(), request(&secret));
                    async move { endpoint.call(request).await?.bearer_token() }
                })
            })
        };
        let rows: [Own; 5] = [
            (
                "a JSON body",
                |secret| {
                    let body =
                        json!({"grant_type": "client_credentials", "client_id": "orders", "client_secret": secret});
                    TokenRequest::json(body.to_string().into_bytes())
                },
                invalid_request,
            ),
            (
                "no grant_type",
                |secret| TokenRequest::form(&[("client_id", "orders"), ("client_secret", secret)]),
                invalid_request,
            ),
            ("no client", |_| TokenRequest::form(&[("grant_type", "client_credentials")]), invalid_request),
            (
                "a repeated field",
                |secret| {
                    TokenRequest::form(&[
                        ("grant_type", "client_credentials"),
                        ("client_id", "orders"),
                        ("client_secret", secret),
                        ("client_secret", secret),
                    ])
                },
                invalid_request,
            ),
            (
                "a grant that the issuer does not support",
                |secret| {
                    TokenRequest::form(&[
                        ("grant_type", "password"),
                        ("client_id", "orders"),
                        ("client_secret", secret),
                    ])
                },
                permanent(
                    InvalidRequest,
                    400,
                    Some("unsupported_grant_type"),
                    "the grant types that the issuer documents",
                ),
            ),
        ];
        for (what, request, expected) in rows {
            fails(suite, (self.facts, TOKEN), self.api, &mut report.observed, what, own(request), expected).await;
        }
        let dpop = key(self.facts, "stranger").await.and_then(|key| self.with_proof(key));
        let dpop = dpop.map_err(|Failure(why)| tower_bearer_auth::Error::permanent(why));
        let expected = permanent(UnsupportedTokenType, 200, None, "bearer tokens");
        let what = "a DPoP client with a proof gets a DPoP token";
        fails(suite, (self.facts, TOKEN), self.api, &mut report.observed, what, dpop, expected).await;
    }

    /// A provider that makes a DPoP proof (RFC 9449) for each token request.
    fn with_proof(&self, key: Key) -> Check<tower_bearer_auth::ClientCredentials> {
        let jwk: Jwk = serde_json::from_value(key.jwk)?;
        let signing = EncodingKey::from_ec_pem(key.pem.as_bytes())?;
        let url = self.url(TOKEN);
        let proof = Secret::from_fn(move || {
            let header =
                Header { typ: Some("dpop+jwt".into()), jwk: Some(jwk.clone()), ..Header::new(Algorithm::ES256) };
            let claims = json!({"jti": unique(), "htm": "POST", "htu": url, "iat": seconds(now())});
            let proof =
                jsonwebtoken::encode(&header, &claims, &signing).map_err(tower_bearer_auth::Error::permanent)?;
            Ok(proof.into())
        });
        Ok(self.client("dpop").token_header("DPoP", proof).build()?)
    }
}
