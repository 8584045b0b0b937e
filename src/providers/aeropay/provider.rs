//! The provider: from a request to its key, and from a key to a token.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, Method};

use super::credentials::{Credentials, Directory};
use super::endpoint::{self, Endpoint};
use super::key::{Identity, MerchantId, Scope, TokenScope, user_of};
use super::token_call::{self, TokenCall, is_number};
use super::version::{ApiVersion, MerchantIdForm};
use crate::error::{ConfigError, Error, ErrorKind};
use crate::message::{Origins, RequestHead};
use crate::provider::{FetchContext, TokenProvider};
use crate::providers::check;
use crate::providers::token_headers::TokenHeaders;
use crate::token::IssuedToken;
use crate::token_endpoint::{TokenEndpoint, TokenRequest};

const MERCHANT_HINT: &str = "insert an aeropay::MerchantId into the extensions of the request";

/// Tokens for Aeropay's API: one for the merchant, and one for each user that the merchant acts for.
///
/// The [module page](super) explains which token a request gets, and what errors mean.
///
/// ```
/// use tower_bearer_auth::{Aeropay, aeropay::Environment};
///
/// # fn main() -> Result<(), tower_bearer_auth::Error> {
/// let provider = Aeropay::builder()
///     .environment(Environment::Sandbox)
///     .api_key("my-api-key")
///     .api_secret("my-api-secret")
///     .merchant_id(1057)
///     .build()?;
/// # drop(provider);
/// # Ok(()) }
/// ```
///
/// `Debug` prints the environment, the version and the merchant.
pub struct Aeropay {
    pub(super) version: ApiVersion,
    pub(super) endpoint: TokenEndpoint,
    pub(super) environment: String,
    pub(super) origins: Origins,
    /// The path of the base URL, without a trailing slash.
    pub(super) base_path: String,
    pub(super) merchant: Option<(MerchantId, Credentials)>,
    pub(super) directory: Option<Directory>,
    pub(super) id_form: MerchantIdForm,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) token_headers: TokenHeaders,
    pub(super) default_lifetime: Option<Duration>,
}

impl Aeropay {
    /// The table of endpoints, with the scope that each needs: those of the API version, and those that were added.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The version of the API.
    #[must_use]
    pub fn api_version(&self) -> ApiVersion {
        self.version
    }

    fn path<'a>(&self, request: &RequestHead<'a>) -> Option<&'a str> {
        request.uri().path().strip_prefix(self.base_path.as_str())
    }

    fn scope(&self, request: &RequestHead<'_>) -> Result<Scope, Error> {
        match request.extensions().get::<Scope>() {
            Some(Scope::User(id)) if id.is_blank() => {
                return Err(Error::new(
                    ErrorKind::MissingKey,
                    "the aeropay::Scope of the request has an empty user id",
                )
                .with_hint("insert a scope with the id that Aeropay issued"));
            }
            Some(scope) => return Ok(scope.clone()),
            None => {}
        }
        let path = self.path(request).unwrap_or_default();
        let Some(endpoint) = endpoint::find(&self.endpoints, request.method(), path) else {
            return Err(Error::new(ErrorKind::MissingKey, "Aeropay documents no scope for this method and path")
                .with_hint(
                    "insert an aeropay::Scope into the extensions of the request, or add the endpoint to the provider",
                ));
        };
        match endpoint.scope() {
            Some(TokenScope::Merchant) => Ok(Scope::Merchant),
            Some(TokenScope::UserForMerchant) => user_of(request).map(Scope::User),
            None => Err(Error::new(ErrorKind::MissingKey, "the token endpoint needs no token").with_hint(
                "the provider sends token requests itself; to send one anyway, insert an aeropay::Scope into the \
                 extensions of the request",
            )),
        }
    }

    /// The merchant of a request. `None` is the provider's own merchant.
    fn merchant(&self, request: &RequestHead<'_>) -> Result<Option<MerchantId>, Error> {
        let own = self.merchant.as_ref().map(|(id, _)| id);
        match (request.extensions().get::<MerchantId>(), own) {
            (Some(named), own) if own == Some(named) => Ok(None),
            (Some(named), _) if named.is_blank() => {
                Err(Error::new(ErrorKind::MissingKey, "the aeropay::MerchantId of the request is empty")
                    .with_hint("insert the id that Aeropay issued"))
            }
            (Some(_), _) if self.directory.is_none() => {
                Err(Error::new(ErrorKind::Config, "the provider has no credentials for the merchant of the request")
                    .with_hint("build the provider with credentials_for"))
            }
            (Some(named), _) => Ok(Some(named.clone())),
            (None, Some(_)) => Ok(None),
            (None, None) => Err(Error::new(
                ErrorKind::MissingKey,
                "the request names no merchant, and the provider has none of its own",
            )
            .with_hint(MERCHANT_HINT)),
        }
    }

    pub(super) fn credentials(&self, identity: &Identity) -> Result<(MerchantId, Credentials), Error> {
        match (identity.merchant_id(), &self.merchant, &self.directory) {
            (None, Some(own), _) => Ok(own.clone()),
            (Some(named), Some(own), _) if own.0 == *named => Ok(own.clone()),
            (Some(named), _, Some(directory)) => Ok((named.clone(), directory.find(named)?)),
            (Some(_), _, None) | (None, None, _) => {
                Err(Error::new(ErrorKind::Config, "the provider has no credentials for the merchant")
                    .with_hint("build the provider with merchant_id or with credentials_for"))
            }
        }
    }

    async fn request(&self, identity: &Identity) -> Result<TokenRequest, Error> {
        let (merchant, credentials) = self.credentials(identity)?;
        if self.id_form == MerchantIdForm::Number && !is_number(&merchant) {
            return Err(not_a_number().into());
        }
        let api_key = credentials.api_key.load().await?;
        check::secret_value("api_key", &api_key)?;
        let api_secret = credentials.api_secret.load().await?;
        check::secret_value("api_secret", &api_secret)?;
        let call = TokenCall {
            wire: self.version.wire(),
            api_key: &api_key,
            api_secret: &api_secret,
            merchant: &merchant,
            form: self.id_form,
            scope: identity.scope(),
        };
        let request = call
            .request()
            .ok_or_else(|| Error::new(ErrorKind::Config, "the token request cannot be written as JSON"))?;
        self.token_headers.add_to(request).await
    }
}

/// The error for a merchant id that has to be sent as a number.
pub(super) fn not_a_number() -> ConfigError {
    ConfigError::new("merchant_id", "it cannot be sent as a JSON number")
        .with_hint("set merchant_id_form to MerchantIdForm::String")
}

impl TokenProvider for Aeropay {
    type Key = Identity;

    async fn fetch(&self, key: &Identity, _: &FetchContext) -> Result<IssuedToken, Error> {
        // Checked before the secrets are loaded, because reading a file also needs the runtime.
        crate::rt::current()?;
        let request = self.request(key).await?;
        let token = token_call::issued(&self.endpoint.call(request).await?, key.scope())?;
        Ok(token.or_expires_in(self.default_lifetime))
    }

    /// Uses the [`Scope`] in the extensions of the request, or else the table of endpoints.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MissingKey`] if the endpoint is not in the table, or if it needs a user or a merchant and the
    /// request names none. Such a request never gets the merchant's token instead. A path that two servers could read as
    /// two endpoints is not in the table: it has an escaped separator (`%2F`, `%5C`), a dot segment, a `;`, a control
    /// character, an empty segment or an invalid escape.
    fn key(&self, request: &RequestHead<'_>) -> Result<Identity, Error> {
        let scope = self.scope(request)?;
        Ok(Identity::new(self.merchant(request)?, scope))
    }

    fn header(&self) -> HeaderName {
        HeaderName::from_static(self.version.wire().token_header)
    }

    fn origins(&self) -> Origins {
        self.origins.clone()
    }

    /// Uses the method, except for paths that move money with a `GET`, in any spelling of the path. An `Idempotency-Key`
    /// counts only for the operations that use it.
    fn is_idempotent(&self, request: &RequestHead<'_>) -> bool {
        let wire = self.version.wire();
        let path = self.path(request).unwrap_or_else(|| request.uri().path());
        // A path that is not plain may name any endpoint.
        let moves_money = |name: &&str| !endpoint::is_plain(path) || endpoint::has_word(request.uri().path(), name);
        if wire.never_idempotent.iter().any(moves_money) {
            return false;
        }
        let is_operation =
            |(method, template): &(Method, &str)| *method == *request.method() && endpoint::matches(template, path);
        let uses_key = wire.with_idempotency_key.iter().any(is_operation);
        request.method().is_idempotent() || uses_key && request.is_idempotent()
    }

    fn label(&self) -> &str {
        &self.environment
    }
}

impl fmt::Debug for Aeropay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aeropay")
            .field("environment", &self.environment)
            .field("version", &self.version)
            .field("issuer", &self.endpoint.origin())
            .field("origins", &self.origins)
            .field("merchant", &self.merchant.as_ref().map(|(id, _)| id))
            .field("other_merchants", &self.directory)
            .finish_non_exhaustive()
    }
}
