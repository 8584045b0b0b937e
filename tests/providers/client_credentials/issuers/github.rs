use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION, HeaderName};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use std::time::UNIX_EPOCH;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tower_bearer_auth::token_endpoint::{TokenClient, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{
    Clock, ConfigError, Error, ErrorKind, FetchContext, IssuedToken, Origins, Secret, SystemClock, TokenProvider,
};

struct GitHubApp {
    endpoint: TokenEndpoint,
    origins: Origins,
    client_id: String,
    key: Secret,
}

impl GitHubApp {
    fn new(
        client_id: &str,
        key: Secret,
        installation: u64,
        client: impl Into<TokenClient>,
    ) -> Result<Self, ConfigError> {
        let url = format!("https://api.github.com/app/installations/{installation}/access_tokens");
        let endpoint = TokenEndpoint::new(&url, client)?;
        let origins = Origins::none().allow("https://api.github.com")?;
        Ok(Self { endpoint, origins, client_id: client_id.to_owned(), key })
    }

    async fn authorization(&self) -> Result<HeaderValue, Error> {
        let key = self.key.load().await?;
        // An error of jsonwebtoken can quote the key, so it does not become a source.
        let unusable = || ConfigError::new("key", "it is not the private key of the app, in PEM form");
        let key = EncodingKey::from_rsa_pem(key.expose_secret().as_bytes()).map_err(|_| unusable())?;
        let now = SystemClock.now().wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = serde_json::json!({ "iss": self.client_id, "iat": now - 60, "exp": now + 540 });
        let jwt = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).map_err(|_| unusable())?;
        HeaderValue::try_from(format!("Bearer {jwt}")).map_err(Error::permanent)
    }
}

impl TokenProvider for GitHubApp {
    type Key = ();

    async fn fetch(&self, _key: &(), _cx: &FetchContext) -> Result<IssuedToken, Error> {
        let request = TokenRequest::json(b"{}".to_vec())
            .header(AUTHORIZATION, self.authorization().await?)
            .header(ACCEPT, HeaderValue::from_static("application/vnd.github+json"))
            .header(HeaderName::from_static("x-github-api-version"), HeaderValue::from_static("2022-11-28"));
        let response = self.endpoint.call(request).await?;
        if !response.status().is_success() {
            return response.bearer_token(); // the error for this status
        }
        let malformed = || response.error(ErrorKind::MalformedResponse, "sent something that is not a token");
        let body: serde_json::Value = serde_json::from_slice(response.body()).map_err(|_| malformed())?;
        let token = body["token"].as_str().ok_or_else(malformed)?;
        let expires_at = body["expires_at"].as_str().ok_or_else(malformed)?;
        let expires_at = OffsetDateTime::parse(expires_at, &Rfc3339).map_err(|_| malformed())?;
        Ok(IssuedToken::bearer(token)?.expires_at(expires_at.into()))
    }

    fn origins(&self) -> Origins {
        self.origins.clone()
    }

    fn label(&self) -> &str {
        "github"
    }
}
