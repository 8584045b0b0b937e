//! An API that rejects revoked tokens, and the issuer that revokes them.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower_bearer_auth::{ClientCredentials, ClientCredentialsBuilder, ConfigError, TokenSource};

use crate::issuer::{Since, call, stack};
use crate::plain;
use crate::suite::{Check, Facts, Suite, boxed, equal, holds};

pub struct Protected<'a> {
    pub api: &'a Facts,
    pub path: &'static str,
    pub issuer: &'a Facts,
    pub token: &'static str,
    pub revocation: &'static str,
    pub secret: &'a str,
    pub client: &'a (dyn Fn() -> ClientCredentialsBuilder + Sync),
}

impl Protected<'_> {
    fn source(&self) -> Result<TokenSource<ClientCredentials>, ConfigError> {
        Ok(TokenSource::new((self.client)().build()?))
    }

    fn request(&self, path: &str) -> Check<Request<Full<Bytes>>> {
        Ok(Request::get(format!("{}{path}", self.api.url)).body(Full::default())?)
    }

    /// A source with a token that was accepted once, and is revoked.
    async fn revoked(&self) -> Check<TokenSource<ClientCredentials>> {
        let source = self.source()?;
        let response = call(&stack(&source), self.request(self.path)?).await.map_err(boxed)?;
        equal("with the first token", response.status(), StatusCode::OK)?;
        let token = source.token().await?;
        let fields = [("token", token.expose_secret()), ("client_id", "orders"), ("client_secret", self.secret)];
        let url = format!("{}{}", self.issuer.url, self.revocation);
        equal("revocation", plain::post_form(&url, &fields).await?.status, StatusCode::OK)?;
        Ok(source)
    }

    /// `challenges` are the API's own: without a token, and with an invalid one.
    pub async fn all(&self, suite: &mut Suite, challenges: [&str; 2]) {
        suite
            .case("its API accepts the token that was stamped", async {
                let source = self.source()?;
                let (issued, at_api) = self.since().await?;
                let response = call(&stack(&source), self.request(self.path)?).await.map_err(boxed)?;
                equal("the API's response", response.status(), StatusCode::OK)?;
                let stamped = at_api.noted().await?.pop().and_then(|noted| noted.authorization);
                let token = source.token().await?;
                equal("stamped", stamped, Some(format!("Bearer {}", token.expose_secret())))?;
                equal("token requests", issued.statuses().await?, [200])
            })
            .await;
        suite
            .case("its challenges, without a token and with an invalid one", async {
                let url = format!("{}{}", self.api.url, self.path);
                for (reply, challenge) in
                    [(plain::get(&url).await?, challenges[0]), (plain::get_with(&url, "x").await?, challenges[1])]
                {
                    equal("status", reply.status, StatusCode::UNAUTHORIZED)?;
                    let found = reply.header("www-authenticate");
                    holds(found.starts_with(challenge), format!("{found:?} does not begin with {challenge:?}"))?;
                }
                Ok(())
            })
            .await;
        suite
            .case("a revoked token is rejected, and the request is replayed with a new one", async {
                let source = self.revoked().await?;
                let (issued, at_api) = self.since().await?;
                let response = call(&stack(&source), self.request(self.path)?).await.map_err(boxed)?;
                equal("the API's response", response.status(), StatusCode::OK)?;
                equal("sends", at_api.statuses().await?, [401, 200])?;
                equal("token requests", issued.statuses().await?, [200])
            })
            .await;
        suite
            .case("twenty concurrent requests with a revoked token need one token request", async {
                let source = self.revoked().await?;
                let (issued, _) = self.since().await?;
                let stack = stack(&source);
                let mut callers = Vec::new();
                for _ in 0..20 {
                    callers.push(call(&stack, self.request(self.path)?));
                }
                for response in futures_util::future::join_all(callers).await {
                    equal("the API's response", response.map_err(boxed)?.status(), StatusCode::OK)?;
                }
                equal("token requests", issued.count().await?, 1)?;
                equal("fetches", source.stats().fetches, 2)
            })
            .await;
        suite
            .wrong("a revoked token is accepted", "found 401, wanted 200", async {
                let token = self.revoked().await?.token().await?;
                let reply = plain::get_with(&format!("{}{}", self.api.url, self.path), token.expose_secret()).await?;
                equal("status", reply.status.as_u16(), 200)
            })
            .await;
    }

    /// A route whose scope the token does not have: the response is passed on, and no token is requested.
    pub async fn lacks_scope(&self, suite: &mut Suite, path: &'static str, status: u16) {
        suite
            .case("a missing scope is passed on, and no token is requested", async {
                let source = self.source()?;
                source.token().await?;
                let issued = Since::now(self.issuer, self.token).await?;
                let at_api = Since::now_at(self.api, path.to_owned()).await?;
                let stack = stack(&source);
                for _ in 0..3 {
                    let response = call(&stack, self.request(path)?).await.map_err(boxed)?;
                    equal("the API's response", response.status().as_u16(), status)?;
                }
                equal("sends", at_api.count().await?, 3)?;
                equal("token requests", issued.count().await?, 0)
            })
            .await;
    }

    async fn since(&self) -> Check<(Since, Since)> {
        Ok((Since::now(self.issuer, self.token).await?, Since::now(self.api, self.path).await?))
    }
}
