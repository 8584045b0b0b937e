//! The provider and its layer against the sandbox, which has its own transcription of Aeropay's tables.

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::aeropay::{self, ApiVersion, UserId};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{Aeropay, Audit, BoxError, Error, ErrorKind, ReplayOutcome, TokenSource, replay};
use tower_bearer_auth_sandbox::{AeropaySandbox, Verdict};

use super::scopes::{Documented, Row, V1, V2};

struct World {
    sandbox: AeropaySandbox,
    source: TokenSource<Aeropay>,
    client: HttpClient,
    prefix: &'static str,
}

struct Reply {
    status: u16,
    body: serde_json::Value,
    audit: Option<Audit>,
}

impl World {
    async fn new(version: ApiVersion) -> Self {
        let sandbox = AeropaySandbox::start().await.unwrap();
        let client = HttpClient::builder().roots_pem(sandbox.ca_pem()).build().unwrap();
        let provider = Aeropay::builder()
            .api_version(version)
            .base_url(sandbox.base_url())
            .api_key(sandbox.api_key())
            .api_secret(sandbox.api_secret())
            .merchant_id(sandbox.merchant_id())
            .http_client(client.clone())
            .build()
            .unwrap();
        let prefix = if version == ApiVersion::V2 { "/v2" } else { "" };
        Self { sandbox, source: TokenSource::new(provider), client, prefix }
    }

    async fn call(&self, method: &str, path: &str, user: Option<&UserId>, body: &str) -> Result<Reply, BoxError> {
        let layer = aeropay::layer(self.source.layer().bodies(replay::Cloned));
        let uri = format!("{}{path}", self.sandbox.base_url());
        let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
        let mut request = request.body(Bytes::from(body.to_owned())).unwrap();
        if let Some(user) = user {
            request.extensions_mut().insert(user.clone());
        }
        let response = layer.layer(self.client.clone()).oneshot(request).await?;
        let (head, body) = response.into_parts();
        let body = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        Ok(Reply { status: head.status.as_u16(), body, audit: head.extensions.get().cloned() })
    }

    async fn enrol(&self, name: &str) -> UserId {
        let (user, body) = (format!("{}/user", self.prefix), format!(r#"{{"email": "{name}"}}"#));
        let reply = self.call("POST", &user, None, &body).await.unwrap();
        UserId::from(reply.body["user"]["userId"].as_str().unwrap())
    }

    async fn confirm(&self, user: &UserId) {
        let path = format!("{}/confirmUser", self.prefix);
        self.call("POST", &path, None, &format!(r#"{{"userId": "{user}"}}"#)).await.unwrap();
    }

    fn verdicts(&self) -> Vec<(Option<String>, Option<String>, Option<Verdict>)> {
        self.sandbox.api_requests().into_iter().map(|call| (call.scope, call.user, call.verdict)).collect()
    }
}

async fn each_row(version: ApiVersion, rows: &[Row]) {
    let world = World::new(version).await;
    let user = world.enrol("a").await;
    world.confirm(&user).await;
    for (method, _, path, documented) in rows {
        world.sandbox.reset_records();
        let outcome = world.call(method, path, Some(&user), r#"{"email": "b"}"#).await;
        let seen = world.verdicts();
        match documented {
            Documented::None => {
                assert_eq!(Error::find(&*outcome.err().unwrap()).unwrap().kind(), ErrorKind::MissingKey);
                assert_eq!((seen.len(), world.sandbox.token_request_count()), (0, 0), "{method} {path}");
            }
            Documented::Merchant => {
                outcome.unwrap();
                let expected = (Some("merchant".to_owned()), None, Some(Verdict::Accepted));
                assert_eq!(seen, [expected], "{method} {path}");
            }
            Documented::User => {
                outcome.unwrap();
                let expected = (Some("userForMerchant".to_owned()), Some(user.to_string()), Some(Verdict::Accepted));
                assert_eq!(seen, [expected], "{method} {path}");
                // R29: without a user, nothing is sent to the API or to the issuer.
                let error = world.call(method, path, None, "{}").await.err().unwrap();
                assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::MissingKey, "{method} {path}");
                assert_eq!(world.verdicts().len(), 1, "{method} {path}");
            }
        }
    }
}

// R29
#[tokio::test]
async fn the_server_receives_the_documented_scope_for_every_endpoint_of_version_1() {
    each_row(ApiVersion::V1, &V1).await;
}

// R29
#[tokio::test]
async fn the_server_receives_the_documented_scope_for_every_endpoint_of_version_2() {
    each_row(ApiVersion::V2, &V2).await;
}

// R30: an error of one user affects only that user.
#[tokio::test]
async fn only_the_requests_of_an_unconfirmed_user_fail() {
    for version in [ApiVersion::V1, ApiVersion::V2] {
        let world = World::new(version).await;
        let (alice, bob) = (world.enrol("alice").await, world.enrol("bob").await);
        world.confirm(&bob).await;
        let path = format!("{}/user", world.prefix);
        let error = world.call("GET", &path, Some(&alice), "").await.err().unwrap();
        let error = Error::find(&*error).unwrap();
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidCredentials, Some("AP002")));
        assert!(error.hint().unwrap().contains("confirmUser"));
        world.call("GET", &path, Some(&bob), "").await.unwrap();
        world.confirm(&alice).await;
        // The error is permanent, so only a rotation ends its backoff.
        world.source.rotate();
        let reply = world.call("GET", &path, Some(&alice), "").await.unwrap();
        assert_eq!(reply.body["user"]["userId"], alice.as_str());
        // One token request for the merchant, one for bob, and two for alice.
        assert_eq!(world.sandbox.token_request_count(), 4);
    }
}

// R18, R22: both versions, in a 200 and with a 401.
#[tokio::test]
async fn a_rejected_token_is_refreshed_and_money_moves_once() {
    for version in [ApiVersion::V1, ApiVersion::V2] {
        let world = World::new(version).await;
        let user = world.enrol("a").await;
        world.confirm(&user).await;
        let path = format!("{}/transaction", world.prefix);
        world.call("POST", &path, Some(&user), r#"{"amount": 1}"#).await.unwrap();
        world.sandbox.revoke_user(user.as_str());
        let reply = world.call("POST", &path, Some(&user), r#"{"amount": 2}"#).await.unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.audit.map(|audit| (audit.sends, audit.replay)), Some((2, ReplayOutcome::Replayed)));
        assert_eq!(world.sandbox.transactions().len(), 2);
        assert_eq!(world.sandbox.token_request_count(), 3);
        // The merchant's token is still cached.
        world.call("POST", &format!("{}/transactionSearch", world.prefix), None, "{}").await.unwrap();
        assert_eq!(world.sandbox.token_request_count(), 3);
    }
}

// 2.4, 2.7: the token of the widget is not an API token, so the response is passed on.
#[tokio::test]
async fn the_token_of_the_widget_reaches_the_caller() {
    for version in [ApiVersion::V1, ApiVersion::V2] {
        let world = World::new(version).await;
        let user = world.enrol("a").await;
        world.confirm(&user).await;
        let path = format!("{}/aggregatorCredentials", world.prefix);
        let reply = world.call("GET", &path, Some(&user), "").await.unwrap();
        assert_eq!(reply.body["token"], "the-token-of-the-widget");
        assert!(reply.audit.is_none());
        assert_eq!(world.sandbox.token_request_count(), 2);
    }
}
