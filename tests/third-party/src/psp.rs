//! The protocol of AccessPSP (<https://aera.readme.io/docs/accesspsp>).

use http::{HeaderMap, HeaderName, HeaderValue};
use tower_bearer_auth::token_endpoint::{EndpointResponse, TokenClient, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{
    ConfigError, Error, ErrorKind, FetchContext, IssuedToken, Origins, Rejection, ResponseHead, Secret, TokenProvider,
};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The documented errors: code, status, kind, message, hint.
const ERRORS: [(&str, u16, ErrorKind, &str, &str); 3] = [
    (
        "invalid_request",
        400,
        ErrorKind::InvalidRequest,
        "the token request is malformed, or a parameter is missing",
        "check the body fields: grant_type, client_id, client_secret, scope",
    ),
    (
        "invalid_client",
        401,
        ErrorKind::InvalidCredentials,
        "the issuer does not accept the credentials",
        "verify the client_id and client_secret, and that they belong to this environment",
    ),
    ("disabled_client", 403, ErrorKind::InvalidCredentials, "the credentials are suspended", "contact Aera support"),
];

/// Tokens from AccessPSP.
pub struct Psp {
    endpoint: TokenEndpoint,
    client_id: String,
    client_secret: Secret,
    api_key: HeaderValue,
    origins: Origins,
}

impl Psp {
    /// A provider for one environment.
    ///
    /// # Errors
    ///
    /// A URL, an origin or the API key is invalid.
    pub fn new(
        token_url: &str,
        api_origin: &str,
        credentials: (&str, Secret),
        api_key: &str,
        client: impl Into<TokenClient>,
    ) -> Result<Self, ConfigError> {
        let mut api_key = HeaderValue::from_str(api_key)
            .map_err(|_| ConfigError::new("api_key", "it contains a character that a header cannot have"))?;
        api_key.set_sensitive(true);
        Ok(Self {
            endpoint: TokenEndpoint::new(token_url, client)?,
            client_id: credentials.0.to_owned(),
            client_secret: credentials.1,
            api_key,
            origins: Origins::none().allow(api_origin)?,
        })
    }
}

impl TokenProvider for Psp {
    type Key = ();

    async fn fetch(&self, _: &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let secret = self.client_secret.load().await?;
        let request = TokenRequest::form(&[
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", secret.expose_secret()),
        ]);
        let response = self.endpoint.call(request).await?;
        response.bearer_token().map_err(|error| documented(&response).unwrap_or(error))
    }

    fn api_headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(API_KEY, self.api_key.clone())])
    }

    fn origins(&self) -> Origins {
        self.origins.clone()
    }

    /// A 401 has one documented meaning: the token is expired or revoked.
    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        Rejection::standard(response).map(|_| Rejection::InvalidToken)
    }

    fn label(&self) -> &str {
        "psp"
    }
}

/// The error of the table. The code decides; the status decides if the body has no documented code.
fn documented(response: &EndpointResponse) -> Option<Error> {
    if response.status().is_success() {
        return None;
    }
    let code = response.error_code();
    let by_code = ERRORS.iter().find(|row| Some(row.0) == code);
    let row = by_code.or_else(|| ERRORS.iter().find(|row| row.1 == response.status().as_u16()))?;
    let error = Error::new(row.2, row.3).with_hint(row.4).with_status(response.status());
    Some(if by_code.is_some() { error.with_code(row.0) } else { error })
}
