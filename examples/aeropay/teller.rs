//! Sends requests, and tells what the server saw of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_bearer_auth::aeropay::{self, UserId};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{Aeropay, Audit, BoxError, Clock, Error, Now, SystemClock, TokenSource, replay};
use tower_bearer_auth_sandbox::AeropaySandbox;

/// The system's clocks, and some time ahead of them.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicU64>);

impl Clock for Ahead {
    fn now(&self) -> Now {
        SystemClock.now().after(Duration::from_secs(self.0.load(Ordering::SeqCst)))
    }
}

pub(crate) struct Teller {
    pub(crate) sandbox: AeropaySandbox,
    pub(crate) source: TokenSource<Aeropay>,
    client: HttpClient,
    ahead: Ahead,
    names: Vec<(String, &'static str)>,
    told: usize,
}

impl Teller {
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let sandbox = AeropaySandbox::start().await?;
        let client = HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?;
        let provider = Aeropay::builder()
            .base_url(sandbox.base_url())
            .api_key(sandbox.api_key())
            .api_secret(sandbox.api_secret())
            .merchant_id(sandbox.merchant_id())
            .http_client(client.clone())
            .build()?;
        let ahead = Ahead::default();
        let source = TokenSource::builder(provider).clock(ahead.clone()).build();
        Ok(Self { sandbox, source, client, ahead, names: Vec::new(), told: 0 })
    }

    /// Sends one request, as `user` where there is one, and tells how it went.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        user: Option<&UserId>,
        body: Value,
    ) -> Result<Value, BoxError> {
        let layer = aeropay::layer(self.source.layer().bodies(replay::Cloned));
        let service = layer.layer(self.client.clone());
        let mut request = Request::builder()
            .method(&method)
            .uri(format!("{}{path}", self.sandbox.base_url()))
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))?;
        if let Some(user) = user {
            request.extensions_mut().insert(user.clone());
        }
        println!("{method} {path}");
        let answer = match service.oneshot(request).await {
            Ok(answer) => answer,
            Err(error) => {
                let error = Error::find(&*error).ok_or("another error than this crate's")?;
                println!(
                    "    not sent: {:?}{}",
                    error.kind(),
                    error.code().map(|code| format!(", {code}")).unwrap_or_default()
                );
                println!("    hint: {}", error.hint().unwrap_or("none"));
                self.told = self.sandbox.call_count();
                return Ok(json!(null));
            }
        };
        for call in self.sandbox.calls().into_iter().skip(self.told) {
            let scope = call.scope.as_deref().unwrap_or("no scope");
            let whose = call.user.as_deref().map(|id| format!(" for {}", self.name(id))).unwrap_or_default();
            let status = call.status.ok_or("no status")?.as_u16();
            let code = call.code.map(|code| format!(" with {code} inside")).unwrap_or_default();
            println!("    server saw {scope}{whose}: {:?}, answered {status}{code}", call.verdict.ok_or("no verdict")?);
        }
        self.told = self.sandbox.call_count();
        if let Some(audit) = Audit::of(&answer) {
            println!("    sent {} time(s), replay: {:?}", audit.sends, audit.replay);
        }
        Ok(serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?)
    }

    /// Creates a user, or asks for one again.
    pub(crate) async fn enrol(&mut self, name: &'static str) -> Result<UserId, BoxError> {
        let answer = self.call(Method::POST, "/user", None, json!({ "email": format!("{name}@example.com") })).await?;
        let id = answer["user"]["userId"].as_str().ok_or("no userId")?.to_owned();
        self.names.push((id.clone(), name));
        Ok(UserId::from(id))
    }

    pub(crate) async fn confirm(&mut self, user: &UserId) -> Result<(), BoxError> {
        self.call(Method::POST, "/confirmUser", None, json!({ "userId": user.as_str() })).await.map(drop)
    }

    /// Lets time pass for everybody.
    pub(crate) fn wait(&self, time: Duration) {
        self.ahead.0.fetch_add(time.as_secs(), Ordering::SeqCst);
        self.sandbox.advance(time);
    }

    /// Whom the token requests were for, and what came of them.
    pub(crate) fn tell_token_requests(&self) {
        let calls = self.sandbox.token_calls();
        println!("{} token requests", calls.len());
        for call in calls {
            let whose = call.user.as_deref().map(|id| format!(" for {}", self.name(id))).unwrap_or_default();
            let outcome = call.code.unwrap_or_else(|| "a token".to_owned());
            println!("    {}{whose}: {outcome}", call.scope.as_deref().unwrap_or("no scope"));
        }
    }

    fn name(&self, id: &str) -> &'static str {
        self.names.iter().find(|(known, _)| known == id).map_or("somebody", |(_, name)| name)
    }
}
