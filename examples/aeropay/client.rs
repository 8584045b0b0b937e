//! Sends requests and prints what the server received.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_bearer_auth::aeropay::{self, UserId};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{
    Aeropay, Audit, BoxError, Clock, Error, Now, OnForeignOrigin, SystemClock, TokenSource, replay,
};
use tower_bearer_auth_sandbox::AeropaySandbox;

/// The clocks of the system, moved forward by some seconds.
#[derive(Clone, Default)]
struct MovedClock(Arc<AtomicU64>);

impl Clock for MovedClock {
    fn now(&self) -> Now {
        SystemClock.now().after(Duration::from_secs(self.0.load(Ordering::SeqCst)))
    }
}

pub(crate) struct PrintingClient {
    pub(crate) sandbox: AeropaySandbox,
    pub(crate) source: TokenSource<Aeropay>,
    client: HttpClient,
    clock: MovedClock,
    names: Vec<(String, &'static str)>,
    printed: usize,
}

impl PrintingClient {
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
        let clock = MovedClock::default();
        let source = TokenSource::builder(provider).clock(clock.clone()).build();
        Ok(Self { sandbox, source, client, clock, names: Vec::new(), printed: 0 })
    }

    /// Sends one request, with the token of `user` if there is one, and prints the outcome.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        user: Option<&UserId>,
        body: Value,
    ) -> Result<Value, BoxError> {
        let layer = aeropay::layer(self.source.layer().on_foreign_origin(OnForeignOrigin::Fail).bodies(replay::Cloned));
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
        let response = match service.oneshot(request).await {
            Ok(response) => response,
            Err(error) => {
                let Some(error) = Error::find(&*error) else { return Err(error) };
                println!(
                    "    not sent: {:?}{}",
                    error.kind(),
                    error.code().map(|code| format!(", {code}")).unwrap_or_default()
                );
                println!("    hint: {}", error.hint().unwrap_or("none"));
                self.printed = self.sandbox.api_request_count();
                return Ok(json!(null));
            }
        };
        for call in self.sandbox.api_requests().into_iter().skip(self.printed) {
            let scope = call.scope.as_deref().unwrap_or("no scope");
            let user = call.user.as_deref().map(|id| format!(" for {}", self.name(id))).unwrap_or_default();
            let status = call.status.ok_or("no status")?.as_u16();
            let code = call.code.map(|code| format!(" with {code} in the body")).unwrap_or_default();
            println!("    token: {scope}{user}, {:?}; response: {status}{code}", call.verdict.ok_or("no verdict")?);
        }
        self.printed = self.sandbox.api_request_count();
        if let Some(audit) = Audit::of(&response) {
            println!("    sent {} time(s), replay: {:?}", audit.sends, audit.replay);
        }
        Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
    }

    /// Creates a user, or disconnects an existing one.
    pub(crate) async fn create_user(&mut self, name: &'static str) -> Result<UserId, BoxError> {
        let response =
            self.call(Method::POST, "/user", None, json!({ "email": format!("{name}@example.com") })).await?;
        let id = response["user"]["userId"].as_str().ok_or("no userId")?.to_owned();
        self.names.push((id.clone(), name));
        Ok(UserId::from(id))
    }

    pub(crate) async fn confirm(&mut self, user: &UserId) -> Result<(), BoxError> {
        self.call(Method::POST, "/confirmUser", None, json!({ "userId": user.as_str() })).await.map(drop)
    }

    /// Moves the clocks of the client and of the sandbox forward.
    pub(crate) fn advance(&self, time: Duration) {
        self.clock.0.fetch_add(time.as_secs(), Ordering::SeqCst);
        self.sandbox.advance(time);
    }

    /// Prints the token requests and their outcomes.
    pub(crate) fn print_token_requests(&self) {
        let calls = self.sandbox.token_requests();
        println!("{} token requests", calls.len());
        for call in calls {
            let user = call.user.as_deref().map(|id| format!(" for {}", self.name(id))).unwrap_or_default();
            let outcome = call.code.unwrap_or_else(|| "a token".to_owned());
            println!("    {}{user}: {outcome}", call.scope.as_deref().unwrap_or("no scope"));
        }
    }

    fn name(&self, id: &str) -> &'static str {
        self.names.iter().find(|(known, _)| known == id).map_or("unknown", |(_, name)| name)
    }
}
