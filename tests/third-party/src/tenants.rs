//! One token for each tenant. The API rejects tokens in ways that no standard describes.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tower_bearer_auth::token_endpoint::{ResponseBody, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{
    BoxError, Error, FetchContext, ExtensionKey, IssuedToken, Origins, Rejection, RequestHead, ResponseHead,
    TokenProvider,
};

/// The tenant of a request. The caller puts it into the extensions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant(pub String);

/// Tokens for the tenants of a platform.
pub struct Tenants {
    endpoint: TokenEndpoint,
    client_id: String,
    client_secret: String,
    origins: Origins,
}

impl Tenants {
    /// A provider that requests a token with the tenant's name as the scope.
    pub fn new(endpoint: TokenEndpoint, client_id: &str, client_secret: &str, origins: Origins) -> Self {
        Self { endpoint, client_id: client_id.to_owned(), client_secret: client_secret.to_owned(), origins }
    }
}

impl TokenProvider for Tenants {
    type Key = ExtensionKey<Tenant>;

    async fn fetch(&self, ExtensionKey(tenant): &Self::Key, _: &FetchContext) -> Result<IssuedToken, Error> {
        let request = TokenRequest::form(&[
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", &self.client_secret),
            ("scope", &tenant.0),
        ]);
        self.endpoint.call(request).await?.bearer_token()
    }

    fn origins(&self) -> Origins {
        self.origins.clone()
    }

    /// A 403 rejects the token if its code says so. The API sends this code before it applies a request.
    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        let code = response.headers().get("x-error-code");
        match response.status() {
            StatusCode::FORBIDDEN if code.is_some_and(|code| code == "token_expired") => Some(Rejection::InvalidToken),
            _ => Rejection::standard(response),
        }
    }

    /// The API treats a `POST` to a path below `/search` as a read.
    fn is_idempotent(&self, request: &RequestHead<'_>) -> bool {
        request.is_idempotent() || request.uri().path().starts_with("/search/")
    }
}

/// Reads the body of a response and marks it as rejected if the body says so. Use it below the layer.
///
/// # Errors
///
/// The body cannot be read.
pub async fn mark_rejection_in_body(response: Response<ResponseBody>) -> Result<Response<Full<Bytes>>, BoxError> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let is_rejected = serde_json::from_slice::<serde_json::Value>(&body)
        .is_ok_and(|body| body.pointer("/error/code").is_some_and(|code| code == "AUTH_EXPIRED"));
    let mut response = Response::from_parts(head, Full::new(body));
    if is_rejected {
        Rejection::mark(&mut response, Some(Rejection::InvalidToken));
    }
    Ok(response)
}
