//! The sandbox serves, records, ages and holds: driven by a bare hyper client.
#![cfg(feature = "sandbox")]

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use serde_json::json;
use tower_bearer_auth::sandbox::{AccessPspSandbox, Protocols, Verdict};

#[path = "sandbox/plain_client.rs"]
mod plain_client;
use plain_client::{Body, Plain, json, post, token_form};

const FORM: &str = "application/x-www-form-urlencoded";

async fn new_token(sandbox: &AccessPspSandbox, client: &Plain) -> String {
    let answer = client.send(token_request(sandbox)).await.unwrap();
    assert_eq!(answer.status(), 200);
    json(&answer)["access_token"].as_str().unwrap().to_owned()
}

fn token_request(sandbox: &AccessPspSandbox) -> Request<Body> {
    let form = token_form(sandbox.client_id(), sandbox.client_secret());
    post(&sandbox.token_url(), FORM, form)
}

fn with_token(mut request: Request<Body>, token: &str) -> Request<Body> {
    let value = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", value);
    request
}

fn session_request(sandbox: &AccessPspSandbox, token: &str) -> Request<Body> {
    let url = format!("{}/wallets/wsps/sessions", sandbox.api_origin());
    with_token(
        post(&url, "application/json", r#"{"reference":"1"}"#),
        token,
    )
}

fn echo_request(sandbox: &AccessPspSandbox, token: &str) -> Request<Body> {
    let url = format!("{}/echo?x=1", sandbox.api_origin());
    with_token(Request::put(url).body(Full::from("four")).unwrap(), token)
}

#[tokio::test]
async fn a_token_request_is_answered_exactly_as_documented() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let answer = client.send(token_request(&sandbox)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body = json(&answer);
    let body = body.as_object().unwrap();
    assert_eq!(body.len(), 3);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 1800);
    assert_eq!(body["access_token"].as_str().unwrap().split('.').count(), 3);

    let seen = sandbox.token_requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].path, "/oauth/token");
    assert_eq!(seen[0].status.unwrap(), 200);
    assert_eq!(seen[0].headers["content-type"], FORM);
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", sandbox.client_id()),
        ("client_secret", sandbox.client_secret()),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(seen[0].fields, fields);
    assert_eq!(seen[0].jti.as_deref(), Some(&*sandbox.tokens()[0].jti));
}

#[tokio::test]
async fn a_session_is_created_and_found_again() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    let created = client
        .send(session_request(&sandbox, &token))
        .await
        .unwrap();
    assert_eq!(created.status(), 201);
    let body = json(&created);
    let id = body["sessionId"].as_str().unwrap();
    assert!(!body["sessionKey"].as_str().unwrap().is_empty());

    let url = format!("{}/wallets/wsps/sessions/{id}", sandbox.api_origin());
    let found = with_token(Request::get(url).body(Body::default()).unwrap(), &token);
    let found = client.send(found).await.unwrap();
    assert_eq!(found.status(), 200);
    assert_eq!(json(&found), json!({ "sessionId": id, "sub": null }));

    let sessions = sandbox.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].session_id, id);
    assert_eq!(sessions[0].body, r#"{"reference":"1"}"#);
    assert_eq!(sessions[0].jti, sandbox.tokens()[0].jti);
}

#[tokio::test]
async fn an_echo_tells_what_arrived_and_the_record_keeps_all_of_it() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    let echoed = client.send(echo_request(&sandbox, &token)).await.unwrap();
    let body = json(&echoed);
    assert_eq!(body["method"], "PUT");
    assert_eq!(body["path"], "/echo?x=1");
    assert_eq!(body["length"], 4);
    assert_eq!(body["jti"], sandbox.tokens()[0].jti);

    let seen = sandbox.api_requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, Bytes::from("four"));
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {token}"));
    assert_eq!(seen[0].verdict, Some(Verdict::Accepted));
    assert_eq!(seen[0].status.unwrap(), 200);
}

#[tokio::test]
async fn both_versions_are_served_over_tls_and_in_the_clear_unless_only_one_is_wanted() {
    for plain in [false, true] {
        for (protocols, h1, h2) in [
            (Protocols::Both, true, true),
            (Protocols::Http1, true, false),
            (Protocols::Http2, false, true),
        ] {
            let builder = AccessPspSandbox::builder().protocols(protocols);
            let builder = if plain { builder.plain_http() } else { builder };
            let sandbox = builder.start().await.unwrap();
            let client = Plain::trusting(sandbox.ca_pem());
            let (first, second) = (client.clone(), client.http2());
            let first = first.send(token_request(&sandbox)).await;
            assert_eq!(first.is_ok_and(|answer| answer.status() == 200), h1);
            let second = second.send(token_request(&sandbox)).await;
            assert_eq!(second.is_ok_and(|answer| answer.status() == 200), h2);
            let versions: Vec<_> = sandbox.token_requests().iter().map(|r| r.version).collect();
            let wanted = [(h1, Version::HTTP_11), (h2, Version::HTTP_2)];
            let wanted: Vec<_> = wanted.iter().filter(|w| w.0).map(|w| w.1).collect();
            assert_eq!(versions, wanted, "{protocols:?}, plain: {plain}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_kept_alive_and_counted_once() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    for client in [client.clone(), client.http2()] {
        sandbox.reset_records();
        let mut connection = client.connect(&sandbox.issuer_origin()).await.unwrap();
        for _ in 0..3 {
            let answer = connection.send(token_request(&sandbox)).await.unwrap();
            assert_eq!(answer.status(), 200);
        }
        assert_eq!(sandbox.issuer_connections(), 1);
        assert_eq!(sandbox.token_request_count(), 3);
        assert_eq!(sandbox.api_connections(), 0);
    }
    assert_eq!(sandbox.tokens().len(), 6);
}

#[tokio::test]
async fn a_hundred_requests_in_flight_at_a_revocation_are_all_refused() {
    for h2 in [false, true] {
        let sandbox = AccessPspSandbox::start().await.unwrap();
        let client = Plain::trusting(sandbox.ca_pem());
        let client = if h2 { client.http2() } else { client };
        let token = new_token(&sandbox, &client).await;
        sandbox.hold();
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let (client, request) = (client.clone(), session_request(&sandbox, &token));
                tokio::spawn(async move { client.send(request).await.unwrap() })
            })
            .collect();
        sandbox.wait_held(100).await;
        sandbox.revoke_all();
        sandbox.release();
        for call in calls {
            assert_eq!(call.await.unwrap().status(), 401);
        }
        let seen = sandbox.api_requests();
        assert_eq!(seen.len(), 100);
        assert!(seen.iter().all(|r| r.verdict == Some(Verdict::Revoked)));
        assert!(sandbox.sessions().is_empty());
        let token = new_token(&sandbox, &client).await;
        let fresh: Response<_> = client
            .send(session_request(&sandbox, &token))
            .await
            .unwrap();
        assert_eq!(fresh.status(), 201);
    }
}

#[tokio::test]
async fn a_token_lives_as_long_as_promised_and_not_a_second_more() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    sandbox.set_lifetime(Duration::from_secs(60));
    let token = new_token(&sandbox, &client).await;
    for (step, status) in [(0, 200), (58, 200), (3, 401)] {
        sandbox.advance(Duration::from_secs(step));
        let answer = client.send(echo_request(&sandbox, &token)).await.unwrap();
        assert_eq!(answer.status(), status, "after {step} seconds more");
    }
    assert_eq!(sandbox.api_requests()[2].verdict, Some(Verdict::Expired));
    assert!(sandbox.tokens()[0].expired && !sandbox.tokens()[0].revoked);
    let token = new_token(&sandbox, &client).await;
    let answer = client.send(echo_request(&sandbox, &token)).await.unwrap();
    assert_eq!(answer.status(), 200);
}
