//! [`ClientCredentialsBuilder::discover`]: the token URL from the issuer's metadata (RFC 8414).

use super::builder::ClientCredentialsBuilder;
use crate::error::{ConfigError, Error};
use crate::providers::token_endpoint::default_client;
use crate::token_endpoint::Metadata;

impl ClientCredentialsBuilder {
    /// Requests the issuer's metadata (RFC 8414 section 3) and takes the token URL from it.
    ///
    /// Set [`http_client`](Self::http_client) and [`timeout`](Self::timeout) before this call. They apply to it. The
    /// API's origins are not in the metadata, so set them as usual.
    ///
    /// ```no_run
    /// use tower_bearer_auth::ClientCredentials;
    ///
    /// # async fn f() -> Result<(), tower_bearer_auth::Error> {
    /// let provider = ClientCredentials::builder()
    ///     .discover("https://issuer.example/tenant-7")
    ///     .await?
    ///     .client_id("orders")
    ///     .client_secret("correct horse battery staple")
    ///     .api_origin("https://api.example")
    ///     .build()?;
    /// # drop(provider);
    /// # Ok(()) }
    /// ```
    ///
    /// - The metadata is requested once, now. A token URL that changes later takes effect at the next start of the
    ///   program.
    /// - The first request goes to `/.well-known/oauth-authorization-server`, inserted before the issuer's path. Unless the
    ///   response is valid metadata of this issuer, a second request goes to `/.well-known/openid-configuration`, appended
    ///   to the issuer's path. If both fail, the error says what each of them returned.
    /// - The metadata must contain `issuer` character by character (section 3.3).
    /// - Redirects are not followed. At most 64 KiB are read.
    /// - If the metadata lists `token_endpoint_auth_methods_supported`, [`build`](Self::build) rejects a method that is
    ///   not in the list.
    /// - With [`mutual_tls`](Self::mutual_tls), the token URL is the issuer's alias for such clients, if it has one
    ///   (RFC 8705 section 5). An invalid alias does not affect other clients.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Config`] about `issuer` if it is not an https URL, or has a query or a fragment. http is accepted
    ///   only for loopback addresses.
    /// - [`ErrorKind::Config`] if the issuer has no metadata, or has another issuer in it.
    /// - [`ErrorKind::InsecureUrl`] if the metadata has a token endpoint that is not https.
    /// - [`ErrorKind::MalformedResponse`] if the response is not metadata.
    /// - The errors of [`TokenEndpoint::call`](crate::token_endpoint::TokenEndpoint::call) otherwise.
    ///
    /// [`ErrorKind::Config`]: crate::ErrorKind::Config
    /// [`ErrorKind::InsecureUrl`]: crate::ErrorKind::InsecureUrl
    /// [`ErrorKind::MalformedResponse`]: crate::ErrorKind::MalformedResponse
    #[doc(alias = "metadata")]
    pub async fn discover(mut self, issuer: impl AsRef<str>) -> Result<Self, Error> {
        crate::rt::current()?;
        if self.token_url.is_some() {
            return Err(ConfigError::new("token_url", "discover replaces it")
                .with_hint("use either token_url or discover")
                .into());
        }
        let client = match &self.client {
            Some(client) => client.clone(),
            None => default_client()?,
        };
        let metadata = Metadata::of(issuer.as_ref(), &client, self.timeout).await?;
        self.token_url = Some(metadata.token_url.clone());
        self.discovered = Some(metadata);
        Ok(self)
    }
}
