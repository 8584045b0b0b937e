//! What distinguishes a token of this provider.

use super::authentication::Authentication;
use super::provider::ClientCredentials;
use crate::error::Error;
use crate::providers::identity_parts::IdentityParts;

impl ClientCredentials {
    /// The issuer, the client, every parameter of the token request, and the credentials as they are now.
    pub(crate) async fn identity_parts(&self) -> Result<IdentityParts, Error> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut fields = vec![owned(("client_id", &self.client_id))];
        fields.extend(self.parameters.fields().map(owned));
        let mut credentials = self.token_headers.load().await?;
        match &self.authentication {
            Authentication::Post(secret) | Authentication::Basic(secret, _) => credentials.push(secret.load().await?),
            #[cfg(feature = "private-key-jwt")]
            Authentication::PrivateKeyJwt(signer) => credentials.push(signer.key().load().await?),
            // The client certificate is a setting of the HTTP client.
            Authentication::MutualTls => {}
        }
        Ok(IdentityParts { issuer: self.endpoint.url().to_string(), fields, credentials })
    }
}
