//! What the Aeropay sandbox accepts and rejects. The tests use a plain hyper client.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use serde_json::{Value, json};
use tower_bearer_auth_sandbox::{AeropaySandbox, Fault, ScriptedResponse, Verdict};

use crate::plain_client::{Body, JSON, Plain, json, post};

/// `{"alg":"none"}` in base64url.
const ALG_NONE: &str = "eyJhbGciOiJub25lIn0";

async fn start() -> (AeropaySandbox, Plain) {
    let sandbox = AeropaySandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    (sandbox, client)
}

/// The fields of a token call in version 1 or 2.
fn fields(sandbox: &AeropaySandbox, version: u8, user: Option<&str>) -> Value {
    let (key, secret) = if version == 1 { ("api_key", "api_secret") } else { ("apiKey", "apiSecret") };
    let mut fields = json!({
        "scope": if user.is_some() { "userForMerchant" } else { "merchant" },
        key: sandbox.api_key(),
        secret: sandbox.api_secret(),
        "id": sandbox.merchant_id(),
    });
    if let Some(user) = user {
        fields["userId"] = json!(user);
    }
    fields
}

fn token_url(sandbox: &AeropaySandbox, version: u8) -> String {
    format!("{}{}", sandbox.base_url(), if version == 1 { "/token" } else { "/v2/token" })
}

async fn request_token(sandbox: &AeropaySandbox, client: &Plain, version: u8, fields: &Value) -> Response<Bytes> {
    client.send(post(&token_url(sandbox, version), JSON, fields.to_string())).await.unwrap()
}

async fn token(sandbox: &AeropaySandbox, client: &Plain, user: Option<&str>) -> String {
    let response = request_token(sandbox, client, 1, &fields(sandbox, 1, user)).await;
    json(&response)["token"].as_str().unwrap().to_owned()
}

fn call(sandbox: &AeropaySandbox, method: &str, path: &str, token: Option<&str>, body: &str) -> Request<Body> {
    let name = if path.starts_with("/v2") { "authorization" } else { "authorizationToken" };
    let mut request = post(&format!("{}{path}", sandbox.base_url()), JSON, body.to_owned());
    *request.method_mut() = method.parse().unwrap();
    if let Some(token) = token {
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    }
    request
}

/// The status and the code of a response.
fn outcome(response: &Response<Bytes>) -> (u16, String) {
    let body = json(response);
    let code = body.pointer("/error/code").or_else(|| body.get("code")).and_then(Value::as_str);
    (response.status().as_u16(), code.unwrap_or("none").to_owned())
}

async fn confirmed(sandbox: &AeropaySandbox, client: &Plain, email: &str) -> String {
    let merchant = token(sandbox, client, None).await;
    let body = json!({ "email": email }).to_string();
    let response = client.send(call(sandbox, "POST", "/user", Some(&merchant), &body)).await.unwrap();
    let id = json(&response)["user"]["userId"].as_str().unwrap().to_owned();
    let body = json!({ "userId": id }).to_string();
    client.send(call(sandbox, "POST", "/confirmUser", Some(&merchant), &body)).await.unwrap();
    id
}

#[tokio::test]
async fn the_token_response_is_exactly_the_documented_one() {
    let (sandbox, client) = start().await;
    for version in [1, 2] {
        for id in [json!(sandbox.merchant_id()), json!(sandbox.merchant_id().to_string())] {
            let mut sent = fields(&sandbox, version, None);
            sent["id"] = id;
            let response = request_token(&sandbox, &client, version, &sent).await;
            assert_eq!(response.status(), 200);
            let body = json(&response);
            assert_eq!(body["TTL"], 1800);
            assert_eq!(body["token"].as_str().unwrap().split('.').count(), 3);
            assert_eq!(body.as_object().unwrap().len(), 2);
        }
    }
    let calls = sandbox.token_requests();
    assert_eq!(calls.len(), 4);
    assert!(calls.iter().all(|call| call.scope.as_deref() == Some("merchant") && call.jti.is_some()));
    assert!(!format!("{calls:?} {sandbox:?}").contains(sandbox.api_key()));
}

#[tokio::test]
async fn a_token_request_that_is_not_as_documented_is_rejected() {
    let (sandbox, client) = start().await;
    for version in [1, 2] {
        let status = |of_version_2: u16| if version == 1 { 200 } else { of_version_2 };
        let good = fields(&sandbox, version, None);
        let other = fields(&sandbox, 3 - version, None);
        let with = |name: &str, value: Value| {
            let mut changed = good.clone();
            changed[name] = value;
            changed
        };
        let names: Vec<String> = good.as_object().unwrap().keys().cloned().collect();
        let secret = if version == 1 { "api_secret" } else { "apiSecret" };
        let mut rows = vec![
            (json!({}), 400, "AP700"),
            (json!([]), 400, "AP700"),
            (other, 400, "AP700"),
            (with("grant_type", json!("x")), 400, "AP701"),
            (with("scope", json!("user")), 400, "AP700"),
            (with("scope", json!("userFormerchant")), 400, "AP700"),
            (with("scope", json!("userForMerchant")), 400, "AP700"),
            (with(secret, json!("wrong")), 401, "AP002"),
            (with("id", json!(1)), 401, "AP002"),
            (fields(&sandbox, version, Some("no-such-user")), 401, "AP002"),
        ];
        for name in &names {
            let mut without = good.clone();
            without.as_object_mut().unwrap().remove(name);
            rows.push((without, 400, "AP700"));
        }
        for (sent, of_version_2, code) in rows {
            let response = request_token(&sandbox, &client, version, &sent).await;
            assert_eq!(outcome(&response), (status(of_version_2), code.to_owned()), "{version} {:?}", sent["scope"]);
        }
        let url = token_url(&sandbox, version);
        let form = client.send(post(&url, "application/x-www-form-urlencoded", good.to_string())).await.unwrap();
        assert_eq!(outcome(&form), (status(400), "AP700".to_owned()));
        let query = client.send(post(&format!("{url}?a=b"), JSON, good.to_string())).await.unwrap();
        assert_eq!(outcome(&query), (status(400), "AP700".to_owned()));
        let mut stamped = post(&url, JSON, good.to_string());
        stamped.headers_mut().insert("authorizationtoken", HeaderValue::from_static("Bearer x"));
        assert_eq!(outcome(&client.send(stamped).await.unwrap()), (status(400), "AP700".to_owned()));
        let get = client.send(Request::get(&url).body(Body::default()).unwrap()).await.unwrap();
        assert_eq!(outcome(&get), (403, "none".to_owned()));
    }
}

#[tokio::test]
async fn an_invalid_token_is_rejected_in_the_format_of_its_version() {
    let (sandbox, client) = start().await;
    let good = token(&sandbox, &client, None).await;
    let mut parts = good.split('.');
    let (_, claims, signature) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let foreign = {
        let other = AeropaySandbox::start().await.unwrap();
        token(&other, &Plain::trusting(other.ca_pem()), None).await
    };
    let revoked = token(&sandbox, &client, None).await;
    let jti = sandbox.token_requests().last().unwrap().jti.clone().unwrap();
    assert!(sandbox.revoke(&jti) && !sandbox.revoke("no such token"));
    let user = confirmed(&sandbox, &client, "a@example.com").await;
    let of_user = token(&sandbox, &client, Some(&user)).await;
    for (prefix, status) in [("", 200), ("/v2", 401)] {
        let path = format!("{prefix}/user");
        for (token, code, verdict) in [
            (None, "AP004", Verdict::Missing),
            (Some("x".to_owned()), "AP008", Verdict::BadSignature),
            (Some(format!("{ALG_NONE}.{claims}.")), "AP008", Verdict::BadSignature),
            (Some(format!("{ALG_NONE}.{claims}.{signature}")), "AP008", Verdict::BadSignature),
            (Some(foreign.clone()), "AP008", Verdict::BadSignature),
            (Some(revoked.clone()), "AP008", Verdict::Revoked),
            (Some(of_user.clone()), "AP006", Verdict::WrongScope),
        ] {
            let response = client.send(call(&sandbox, "POST", &path, token.as_deref(), "{}")).await.unwrap();
            assert_eq!(outcome(&response), (status, code.to_owned()), "{path}");
            assert_eq!(sandbox.api_requests().last().unwrap().verdict, Some(verdict));
        }
        // The header of the other version does not count.
        let mut swapped = call(&sandbox, "POST", &path, None, "{}");
        let other = if prefix.is_empty() { "authorization" } else { "authorizationtoken" };
        swapped.headers_mut().insert(other, HeaderValue::from_str(&format!("Bearer {good}")).unwrap());
        assert_eq!(outcome(&client.send(swapped).await.unwrap()), (status, "AP004".to_owned()));
        // An unknown route: the gateway responds, with any token.
        let response = client.send(call(&sandbox, "PUT", &path, Some(&good), "{}")).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.body().as_ref()),
            (403, br#"{"message":"Missing Authentication Token"}"#.as_ref())
        );
    }
    sandbox.advance(Duration::from_secs(1799));
    let response = client.send(call(&sandbox, "GET", "/transaction", Some(&good), "")).await.unwrap();
    assert_eq!(outcome(&response), (200, "none".to_owned()));
    sandbox.advance(Duration::from_secs(2));
    let response = client.send(call(&sandbox, "GET", "/transaction", Some(&good), "")).await.unwrap();
    assert_eq!(outcome(&response), (200, "AP007".to_owned()));
}

#[tokio::test]
async fn a_user_gets_a_token_only_while_the_user_is_confirmed() {
    let (sandbox, client) = start().await;
    let merchant = token(&sandbox, &client, None).await;
    let alice = confirmed(&sandbox, &client, "alice@example.com").await;
    let bob = confirmed(&sandbox, &client, "bob@example.com").await;
    assert_ne!(alice, bob);
    let of_alice = token(&sandbox, &client, Some(&alice)).await;
    let body = json!({ "email": "alice@example.com" }).to_string();
    let again = client.send(call(&sandbox, "POST", "/user", Some(&merchant), &body)).await.unwrap();
    assert_eq!(json(&again)["user"]["userId"], alice.as_str());
    assert_eq!(json(&again)["user"]["token"], "None");
    for version in [1, 2] {
        let rejected = request_token(&sandbox, &client, version, &fields(&sandbox, version, Some(&alice))).await;
        assert_eq!(outcome(&rejected).1, "AP002");
        let granted = request_token(&sandbox, &client, version, &fields(&sandbox, version, Some(&bob))).await;
        assert!(json(&granted)["token"].is_string());
    }
    let response = client.send(call(&sandbox, "GET", "/user", Some(&of_alice), "")).await.unwrap();
    assert_eq!(outcome(&response), (200, "AP008".to_owned()));
    let body = json!({ "userId": alice }).to_string();
    client.send(call(&sandbox, "POST", "/v2/confirmUser", Some(&merchant), &body)).await.unwrap();
    token(&sandbox, &client, Some(&alice)).await;
}

#[tokio::test]
async fn a_payment_is_made_once_for_each_key_and_every_time_without_a_key() {
    let (sandbox, client) = start().await;
    let user = confirmed(&sandbox, &client, "a@example.com").await;
    let (merchant, of_user) = (token(&sandbox, &client, None).await, token(&sandbox, &client, Some(&user)).await);
    let keyed = |key: &'static str, body: &str| {
        let mut request = call(&sandbox, "POST", "/v2/transaction", Some(&of_user), body);
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static(key));
        request
    };
    const KEY: &str = "01234567-89ab-4def-8123-456789abcdef";
    let first = client.send(keyed(KEY, "{\"amount\":1}")).await.unwrap();
    let second = client.send(keyed(KEY, "{\"amount\":1}")).await.unwrap();
    assert_eq!(first.body(), second.body());
    assert_eq!(sandbox.transactions().len(), 1);
    assert_eq!(outcome(&client.send(keyed(KEY, "{\"amount\":2}")).await.unwrap()), (400, "AP1400".to_owned()));
    assert_eq!(outcome(&client.send(keyed("x", "{}")).await.unwrap()), (400, "AP1402".to_owned()));
    let found = format!("/v2/transaction/idempotency/{KEY}");
    let found = client.send(call(&sandbox, "GET", &found, Some(&merchant), "")).await.unwrap();
    assert_eq!(json(&found)["transaction"]["id"], sandbox.transactions()[0].as_str());
    for _ in 0..2 {
        let request = call(&sandbox, "GET", "/reverseTransaction", Some(&merchant), "");
        assert_eq!(outcome(&client.send(request).await.unwrap()), (200, "none".to_owned()));
    }
    assert_eq!(sandbox.transactions().len(), 3, "a refund by GET is made each time");
    for (code, made) in [("none", 4), ("AP314", 4)] {
        let request = call(&sandbox, "POST", "/transaction", Some(&of_user), "{\"uuid\":\"order-1\"}");
        assert_eq!(outcome(&client.send(request).await.unwrap()), (200, code.to_owned()));
        assert_eq!(sandbox.transactions().len(), made);
    }
}

#[tokio::test]
async fn a_scripted_response_is_sent_once_and_recorded() {
    let (sandbox, client) = start().await;
    let good = token(&sandbox, &client, None).await;
    let mut outcomes = Vec::new();
    sandbox.reject_next(1);
    for path in ["/transactionSearch", "/transactionSearch", "/v2/transactionSearch"] {
        outcomes.push(outcome(&client.send(call(&sandbox, "POST", path, Some(&good), "{}")).await.unwrap()));
        if outcomes.len() == 2 {
            sandbox.reject_next(1);
        }
    }
    sandbox.reject_next(1);
    sandbox.reject_with(ScriptedResponse::new(http::StatusCode::OK).json(r#"{"success": 0, "code": "AP101"}"#));
    outcomes
        .push(outcome(&client.send(call(&sandbox, "POST", "/transactionSearch", Some(&good), "{}")).await.unwrap()));
    sandbox.script_api(ScriptedResponse::new(http::StatusCode::OK).json(r#"{"success": false, "code": "AP302"}"#));
    outcomes
        .push(outcome(&client.send(call(&sandbox, "POST", "/transactionSearch", Some(&good), "{}")).await.unwrap()));
    let outcomes: Vec<_> = outcomes.iter().map(|(status, code)| (*status, code.as_str())).collect();
    assert_eq!(outcomes, [(200, "AP007"), (200, "none"), (401, "AP007"), (200, "AP101"), (200, "AP302")]);
    let verdicts: Vec<_> = sandbox.api_requests().iter().map(|call| call.verdict.unwrap().is_accepted()).collect();
    assert_eq!(verdicts, [false, true, false, false, true]);
    sandbox.script(Fault::ExpiresIn(Some("\"3600 \"".to_owned())));
    sandbox.script(Fault::AccessToken(None));
    sandbox.script(Fault::status(http::StatusCode::SERVICE_UNAVAILABLE));
    let sent = fields(&sandbox, 2, None);
    assert_eq!(json(&request_token(&sandbox, &client, 2, &sent).await)["TTL"], "3600 ");
    assert!(json(&request_token(&sandbox, &client, 2, &sent).await).get("token").is_none());
    assert_eq!(request_token(&sandbox, &client, 2, &sent).await.status(), 503);
    assert_eq!(request_token(&sandbox, &client, 2, &sent).await.status(), 200);
}
