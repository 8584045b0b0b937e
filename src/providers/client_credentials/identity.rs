//! What distinguishes a token of this provider.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::authentication::Authentication;
use super::parameters::Parameters;
use super::provider::ClientCredentials;
use super::target_api::TargetApi;
use crate::error::Error;
use crate::providers::identity_parts::IdentityParts;

impl ClientCredentials {
    pub(crate) async fn identity_parts(&self, (): &()) -> Result<IdentityParts, Error> {
        self.parts(&self.parameters).await
    }
}

impl ClientCredentials<TargetApi> {
    pub(crate) async fn identity_parts(&self, target: &TargetApi) -> Result<IdentityParts, Error> {
        target.check()?;
        self.parts(&self.parameters.overridden_by(target.parameters())).await
    }
}

impl<K> ClientCredentials<K> {
    /// The issuer, the client and how it authenticates, every parameter of the token request, and the credentials as they are
    /// now.
    async fn parts(&self, parameters: &Parameters) -> Result<IdentityParts, Error> {
        // A fetch that takes a token from a store sends no token request, which would load them.
        self.api_headers.reload().await?;
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        // Before the parameters, whose names are chosen by the user, there are always the same fields.
        let mut fields = vec![owned(("client_id", &self.client_id))];
        let mut credentials = self.token_headers.load().await?;
        // How the client authenticates decides whether the issuer accepts the credentials.
        fields.push(owned(("authentication", self.authentication.name())));
        match &self.authentication {
            Authentication::Post(secret) => credentials.push(secret.load().await?),
            Authentication::Basic(secret, encoding) => {
                fields.push(owned(("basic_encoding", encoding.as_str())));
                credentials.push(secret.load().await?);
            }
            #[cfg(feature = "private-key-jwt")]
            Authentication::PrivateKeyJwt(signer) => {
                fields.extend(signer.identity_fields().await?);
                credentials.push(signer.key().load().await?);
            }
            // Each process may have another assertion for the same subject.
            Authentication::ClientAssertion(assertion) => {
                let assertion = assertion.load().await?;
                match Claims::of(assertion.expose_secret()) {
                    Some(claims) => fields.extend([("iss".to_owned(), claims.iss), ("sub".to_owned(), claims.sub)]),
                    None => credentials.push(assertion),
                }
            }
            // The client certificate is a setting of the HTTP client.
            Authentication::MutualTls => {}
        }
        // They decide which responses are an error.
        fields.push(owned(("token_types", &self.token_types.join(" "))));
        fields.extend(parameters.fields().map(owned));
        Ok(IdentityParts { issuer: self.endpoint.url().to_string(), fields, credentials })
    }
}

/// Who issued an assertion, and for whom (RFC 7523 section 3).
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
}

impl Claims {
    /// `None` if `assertion` is not a JWT with both claims.
    fn of(assertion: &str) -> Option<Self> {
        let payload = assertion.split('.').nth(1)?;
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
        serde_json::from_slice(&json).ok()
    }
}
