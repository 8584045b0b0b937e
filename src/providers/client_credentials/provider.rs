//! The provider for the client credentials grant.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::authentication::Authentication;
use super::basic::BasicEncoding;
use super::parameters::Parameters;
use super::target_api::TargetApi;
use crate::error::{Error, ErrorKind};
use crate::message::Origins;
use crate::provider::{FetchContext, TokenProvider};
use crate::providers::api_headers::ApiHeaders;
use crate::providers::token_headers::TokenHeaders;
use crate::token::IssuedToken;
use crate::token_endpoint::{DocumentedError, ResponseRules, TokenEndpoint, TokenRequest};

/// Tokens from any issuer with the client credentials grant of OAuth 2.0 (RFC 6749 section 4.4).
///
/// ```
/// use tower_bearer_auth::ClientCredentials;
///
/// # fn main() -> Result<(), tower_bearer_auth::Error> {
/// let provider = ClientCredentials::builder()
///     .token_url("https://issuer.example/oauth/token")
///     .client_id("orders")
///     .client_secret("correct horse battery staple")
///     .api_origin("https://api.example")
///     .build()?;
/// # drop(provider);
/// # Ok(()) }
/// ```
///
/// The token request is a form, sent with `POST`.
/// [`EndpointResponse::bearer_token`](crate::token_endpoint::EndpointResponse::bearer_token) documents how the response
/// is read.
///
/// # Client authentication
///
/// A provider uses one of these methods:
///
/// | method (RFC 8414 section 2) | setting | what is sent |
/// | --- | --- | --- |
/// | `client_secret_post` | [`client_secret`](crate::ClientCredentialsBuilder::client_secret) | id and secret in the form (RFC 6749 section 2.3.1) |
/// | `client_secret_basic` | `client_secret` and [`client_secret_basic`](crate::ClientCredentialsBuilder::client_secret_basic) | id and secret in the `Authorization` header, in a [`BasicEncoding`] |
/// | `private_key_jwt` | `private_key_jwt`, with the feature of that name | an assertion in the form, signed by the client (RFC 7523 section 2.2) |
/// | `private_key_jwt` or `client_secret_jwt` | [`client_assertion`](crate::ClientCredentialsBuilder::client_assertion) | a ready-made assertion in the form, from a file or a function: workload identity (RFC 7523 section 2.2) |
/// | `tls_client_auth`, `self_signed_tls_client_auth` | [`mutual_tls`](crate::ClientCredentialsBuilder::mutual_tls) | the id in the form, and a client certificate (RFC 8705 section 2) |
///
/// # Which requests share a token
///
/// With [`build`](crate::ClientCredentialsBuilder::build), the key is `()`, and all requests share one token: client, scope,
/// resources, audience and other parameters do not change after the provider is built.
///
/// With [`build_keyed`](crate::ClientCredentialsBuilder::build_keyed), the key is a [`TargetApi`]: each request names the scope,
/// the audience or the resources of its token, and only requests that name the same share one.
///
/// The cache belongs to one [`TokenSource`](crate::TokenSource) and its clones. Two sources never share a token, even if
/// their settings are equal.
///
/// # Debug
///
/// `Debug` prints the label, the origins, and what the provider requests: scope, resources, audience, and the names of
/// other parameters.
///
/// [`BasicEncoding`]: crate::BasicEncoding
#[doc(alias = "oauth2")]
#[doc(alias = "client_credentials")]
pub struct ClientCredentials<K = ()> {
    pub(in crate::providers) endpoint: TokenEndpoint,
    pub(in crate::providers) client_id: String,
    pub(super) authentication: Authentication,
    pub(in crate::providers) parameters: Parameters,
    pub(in crate::providers) label: String,
    pub(in crate::providers) origins: Origins,
    pub(in crate::providers) token_headers: TokenHeaders,
    pub(in crate::providers) api_headers: ApiHeaders,
    pub(in crate::providers) documented: &'static [DocumentedError],
    pub(super) token_types: Vec<String>,
    pub(super) default_lifetime: Option<Duration>,
    pub(super) key: PhantomData<fn() -> K>,
}

impl<K> ClientCredentials<K> {
    async fn request(&self, parameters: &Parameters) -> Result<(TokenRequest, Option<BasicEncoding>), Error> {
        let proof = self.authentication.proof(&self.client_id).await?;
        let mut fields = vec![("grant_type", "client_credentials")];
        fields.extend(proof.fields.iter().map(|(name, value)| (*name, value.expose_secret())));
        fields.extend(parameters.fields());
        let mut request = TokenRequest::form(&fields);
        if let Some(value) = proof.header {
            request = request.header(AUTHORIZATION, value);
        }
        Ok((self.token_headers.add_to(request).await?, proof.other_encoding))
    }

    async fn issue(&self, parameters: &Parameters) -> Result<IssuedToken, Error> {
        // Checked before the secret is loaded, because reading a file also needs the runtime.
        crate::rt::current()?;
        self.api_headers.reload().await?;
        let (request, other_encoding) = self.request(parameters).await?;
        let Self { documented, token_types, default_lifetime, .. } = self;
        let rules = ResponseRules { documented, token_types, default_lifetime: *default_lifetime };
        let outcome = self.endpoint.call(request).await?.bearer_token_by(rules);
        outcome.map_err(|error| match self.with_advice(error, other_encoding) {
            error if self.authentication.is_of_one_process() && !error.is_transient() => error.caused_in_this_process(),
            error => error,
        })
    }

    /// Adds what may be wrong with rejected credentials to the hint.
    fn with_advice(&self, error: Error, other_encoding: Option<BasicEncoding>) -> Error {
        let mut advice = String::new();
        // Servers return the same error for a wrong secret and for a wrong encoding. Some of them send no code.
        if let Some(other) = other_encoding.filter(|_| error.kind() == ErrorKind::InvalidCredentials) {
            advice = format!("; the id or the secret has a reserved character: try BasicEncoding::{other:?}");
        }
        if error.kind() == ErrorKind::InvalidCredentials
            && let Some(unreadable) = self.authentication.file_error()
        {
            advice.push_str(&format!("; an older value was sent, because its file could not be read: {unreadable}"));
        }
        if advice.is_empty() {
            return error;
        }
        let hint = format!("{}{advice}", error.hint().unwrap_or_default());
        error.with_hint(hint)
    }
}

impl TokenProvider for ClientCredentials {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        self.issue(&self.parameters).await
    }

    fn api_headers(&self) -> HeaderMap {
        self.api_headers.latest()
    }

    fn origins(&self) -> Origins {
        self.origins.clone()
    }

    fn label(&self) -> &str {
        &self.label
    }
}

impl TokenProvider for ClientCredentials<TargetApi> {
    type Key = TargetApi;

    async fn fetch(&self, target: &TargetApi, _: &FetchContext) -> Result<IssuedToken, Error> {
        // A key that does not come from a request has not been checked.
        target.check()?;
        self.issue(&self.parameters.overridden_by(target.parameters())).await
    }

    fn api_headers(&self) -> HeaderMap {
        self.api_headers.latest()
    }

    fn origins(&self) -> Origins {
        self.origins.clone()
    }

    fn label(&self) -> &str {
        &self.label
    }
}

impl<K> fmt::Debug for ClientCredentials<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("label", &self.label)
            .field("issuer", &self.endpoint.origin())
            .field("origins", &self.origins)
            .field("authentication", &self.authentication)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}
