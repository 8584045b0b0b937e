//! What distinguishes the token of a key.

use super::key::{Identity, Scope};
use super::provider::Aeropay;
use crate::error::Error;
use crate::providers::identity_parts::IdentityParts;

impl Aeropay {
    /// The issuer, the merchant, the scope and its user, and the credentials as they are now.
    pub(crate) async fn identity_parts(&self, key: &Identity) -> Result<IdentityParts, Error> {
        let (merchant, credentials) = self.credentials(key)?;
        let user = match key.scope() {
            Scope::Merchant => "",
            Scope::User(id) => id.as_str(),
        };
        let fields = [("merchant", merchant.as_str()), ("scope", key.scope().token_scope().as_str()), ("user", user)];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut loaded = vec![credentials.api_key.load().await?, credentials.api_secret.load().await?];
        loaded.extend(self.token_headers.load().await?);
        Ok(IdentityParts { issuer: self.endpoint.url().to_string(), fields, credentials: loaded })
    }
}
