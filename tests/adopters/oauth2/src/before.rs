//! The client before the move to tower-bearer-auth.
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use oauth2::{ClientId, ClientSecret, Scope, TokenResponse, TokenUrl, basic::BasicClient, reqwest};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tower::BoxError;

pub struct Reports {
    pub url: String,
    pub token_url: TokenUrl,
    pub credentials: (ClientId, ClientSecret),
    pub issuer: reqwest::Client,
    pub api: crate::Https,
    pub token: Mutex<Option<(String, Instant)>>,
}

impl Reports {
    pub async fn fetch(&self) -> Result<Bytes, BoxError> {
        let bearer = format!("Bearer {}", self.token().await?);
        let request = Request::get(&self.url).header("authorization", bearer).body(Empty::new())?;
        Ok(self.api.request(request).await?.into_body().collect().await?.to_bytes())
    }

    async fn token(&self) -> Result<String, BoxError> {
        let mut slot = self.token.lock().await;
        if let Some((token, _)) = slot.as_ref().filter(|(_, expires_at)| *expires_at > Instant::now()) {
            return Ok(token.clone());
        }
        let (id, secret) = self.credentials.clone();
        let client = BasicClient::new(id).set_client_secret(secret).set_token_uri(self.token_url.clone());
        let request = client.exchange_client_credentials().add_scope(Scope::new("reports".to_owned()));
        let response = request.request_async(&self.issuer).await?;
        let token = response.access_token().secret().clone();
        *slot = Some((token.clone(), Instant::now() + response.expires_in().unwrap_or(Duration::from_secs(240))));
        Ok(token)
    }
}
