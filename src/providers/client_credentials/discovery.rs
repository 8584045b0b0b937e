//! The token endpoint, out of the issuer's own metadata (RFC 8414).

use super::authentication::Authentication;
use super::builder::ClientCredentialsBuilder;
use crate::error::{ConfigError, Error};
use crate::providers::default_client;
use crate::token_endpoint::Metadata;

/// The registry of RFC 8414 section 2: what an error may repeat of an issuer's list.
const KNOWN: [&str; 7] = [
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
    "none",
];

impl ClientCredentialsBuilder {
    /// Asks the issuer for its metadata (RFC 8414 section 3), and takes the token URL from it.
    ///
    /// It is asked now and never again: a token URL that changes later is found at the next start. The request
    /// goes through [`http_client`](Self::http_client), within [`timeout`](Self::timeout), so that both are set first. The
    /// document is looked for at `/.well-known/oauth-authorization-server`, before the issuer's path, and where that is
    /// answered with a status of 4xx, or with what is no JSON object, by a second request at `/.well-known/openid-configuration`
    /// behind it. It
    /// has to name `issuer` character by character (section 3.3). Redirects are not followed, and no more than 64 KiB are
    /// read.
    ///
    /// Where the document lists `token_endpoint_auth_methods_supported`, [`build`](Self::build) refuses a method that is
    /// not in the list. With [`mutual_tls`](Self::mutual_tls) the token URL is the issuer's alias for such clients, where it
    /// has one (RFC 8705 section 5), and no other client minds what that alias is. The API's origins are not in the document,
    /// and are set as ever.
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
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) that begins with `issuer`, for what is no issuer's identifier: not
    /// a URL, with a query or a fragment. [`ErrorKind::InsecureUrl`](crate::ErrorKind::InsecureUrl) for http to anything but
    /// loopback, or a token endpoint in clear text. [`ErrorKind::Config`](crate::ErrorKind::Config) for an issuer without
    /// metadata, and for one that calls itself by another name. [`ErrorKind::MalformedResponse`](crate::ErrorKind) for what is
    /// no such document. Failures of I/O and the issuer's own are those of
    /// [`TokenEndpoint::call`](crate::token_endpoint::TokenEndpoint::call).
    pub async fn discover(mut self, issuer: impl AsRef<str>) -> Result<Self, Error> {
        crate::rt::current()?;
        if self.token_url.is_some() {
            return Err(ConfigError::new("token_url", "it is what discover finds; set one of the two").into());
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

/// The token URL for this method, if the issuer takes the method at all.
pub(super) fn token_url(metadata: Metadata, authentication: &Authentication) -> Result<String, ConfigError> {
    let names = authentication.names();
    if let Some(methods) = &metadata.methods {
        if !methods.iter().any(|method| names.contains(&method.as_str())) {
            let listed: Vec<&str> =
                KNOWN.into_iter().filter(|known| methods.iter().any(|method| method == known)).collect();
            let why = format!("the issuer's metadata does not list {}", names.join(" or "));
            let hint = match listed.is_empty() {
                true => String::from("it lists none that is known"),
                false => format!("it lists {}", listed.join(", ")),
            };
            return Err(ConfigError::new("client_authentication", &why).with_hint(hint));
        }
    }
    match (authentication, metadata.mutual_tls_token_url) {
        (Authentication::MutualTls, Some(alias)) => alias.map_err(|error| {
            ConfigError::new("mutual_tls", "the token endpoint for mutual TLS in the issuer's metadata is not usable")
                .with_source(error)
        }),
        _ => Ok(metadata.token_url),
    }
}
