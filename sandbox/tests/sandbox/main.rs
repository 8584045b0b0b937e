//! The sandbox serves, records, ages tokens and holds requests. The tests use a plain hyper client.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use serde_json::json;
use tokio::{net::TcpStream, runtime::Handle};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault, Protocols, ScriptedResponse, Verdict};

mod aeropay;
mod faults;
mod package;
mod plain_client;
mod strict;
mod wait;
use plain_client::{
    FORM, Plain, echo_request, json, new_token, sale_request, session_request, token_request, with_token,
};
use wait::{eventually, within};

const SALE_KEY: &str = "01234567-89ab-4def-8123-456789abcdef";
const OTHER_KEY: &str = "11234567-89ab-4def-8123-456789abcdef";

#[tokio::test]
async fn the_token_response_is_exactly_the_documented_one() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let response = client.send(token_request(&sandbox)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = json(&response);
    let body = body.as_object().unwrap();
    assert_eq!(body.len(), 3);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 1800);
    assert_eq!(body["access_token"].as_str().unwrap().split('.').count(), 3);

    let requests = sandbox.token_requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/oauth/token");
    assert_eq!(requests[0].status.unwrap(), 200);
    assert_eq!(requests[0].headers["content-type"], FORM);
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", sandbox.client_id()),
        ("client_secret", sandbox.client_secret()),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(requests[0].fields, fields);
    assert_eq!(requests[0].jti.as_deref(), Some(&*sandbox.tokens()[0].jti));
}

#[tokio::test]
async fn a_session_is_created_and_found_again() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    let created = client.send(session_request(&sandbox, &token)).await.unwrap();
    assert_eq!(created.status(), 201);
    let body = json(&created);
    let id = body["sessionId"].as_str().unwrap();
    assert!(!body["sessionKey"].as_str().unwrap().is_empty());

    let url = format!("{}/wallets/wsps/sessions/{id}", sandbox.api_origin());
    let found = with_token(Request::get(url).body(Default::default()).unwrap(), &token);
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
async fn the_echo_describes_the_request_and_the_record_keeps_all_of_it() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    let echoed = client.send(echo_request(&sandbox, &token)).await.unwrap();
    let body = json(&echoed);
    assert_eq!(body["method"], "PUT");
    assert_eq!(body["path"], "/echo?x=1");
    assert_eq!(body["length"], 4);
    assert_eq!(body["jti"], sandbox.tokens()[0].jti);

    let requests = sandbox.api_requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body, Bytes::from("four"));
    assert_eq!(requests[0].headers["authorization"], format!("Bearer {token}"));
    assert_eq!(requests[0].verdict, Some(Verdict::Accepted));
    assert_eq!(requests[0].status.unwrap(), 200);
}

#[tokio::test]
async fn both_http_versions_are_served_with_and_without_tls_unless_one_is_selected() {
    for plain in [false, true] {
        for (protocols, h1, h2) in
            [(Protocols::Both, true, true), (Protocols::Http1, true, false), (Protocols::Http2, false, true)]
        {
            let builder = AccessPspSandbox::builder().protocols(protocols);
            let builder = if plain { builder.plain_http() } else { builder };
            let sandbox = builder.start().await.unwrap();
            let client = Plain::trusting(sandbox.ca_pem());
            let (first, second) = (client.clone(), client.http2());
            let first = first.send(token_request(&sandbox)).await;
            assert_eq!(first.is_ok_and(|response| response.status() == 200), h1);
            let second = second.send(token_request(&sandbox)).await;
            assert_eq!(second.is_ok_and(|response| response.status() == 200), h2);
            let versions: Vec<_> = sandbox.token_requests().iter().map(|r| r.version).collect();
            let wanted = [(h1, Version::HTTP_11), (h2, Version::HTTP_2)];
            let wanted: Vec<_> = wanted.iter().filter(|w| w.0).map(|w| w.1).collect();
            assert_eq!(versions, wanted, "{protocols:?}, plain: {plain}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_used_again_counts_once() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    for client in [client.clone(), client.http2()] {
        sandbox.reset_records();
        let mut connection = client.connect(&sandbox.issuer_origin()).await.unwrap();
        for _ in 0..3 {
            let response = connection.send(token_request(&sandbox)).await.unwrap();
            assert_eq!(response.status(), 200);
        }
        assert_eq!(sandbox.issuer_connections(), 1);
        assert_eq!(sandbox.token_request_count(), 3);
        assert_eq!(sandbox.api_connections(), 0);
    }
    assert_eq!(sandbox.tokens().len(), 6);
}

#[tokio::test]
async fn sixty_requests_in_flight_during_a_revocation_are_all_rejected() {
    // Each request has its own connection with two ends. With the tests that run in parallel they fit into 256 open files.
    const AT_ONCE: usize = 60;
    for h2 in [false, true] {
        let sandbox = AccessPspSandbox::start().await.unwrap();
        let client = Plain::trusting(sandbox.ca_pem());
        let client = if h2 { client.http2() } else { client };
        let token = new_token(&sandbox, &client).await;
        sandbox.hold();
        let calls: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (client, request) = (client.clone(), session_request(&sandbox, &token));
                tokio::spawn(async move { client.send(request).await.unwrap() })
            })
            .collect();
        within("the API holds them", sandbox.wait_held(AT_ONCE)).await;
        sandbox.revoke_all();
        sandbox.release();
        for call in calls {
            assert_eq!(call.await.unwrap().status(), 401);
        }
        let requests = sandbox.api_requests();
        assert_eq!(requests.len(), AT_ONCE);
        assert!(requests.iter().all(|r| r.verdict == Some(Verdict::Revoked)));
        assert!(sandbox.sessions().is_empty());
        let token = new_token(&sandbox, &client).await;
        let fresh = client.send(session_request(&sandbox, &token)).await.unwrap();
        assert_eq!(fresh.status(), 201);
    }
}

#[tokio::test]
async fn a_token_expires_after_its_lifetime_and_not_a_second_later() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    sandbox.set_lifetime(Duration::from_secs(60));
    let token = new_token(&sandbox, &client).await;
    for (step, status) in [(0, 200), (58, 200), (3, 401)] {
        sandbox.advance(Duration::from_secs(step));
        let response = client.send(echo_request(&sandbox, &token)).await.unwrap();
        assert_eq!(response.status(), status, "after {step} seconds more");
    }
    assert_eq!(sandbox.api_requests()[2].verdict, Some(Verdict::Expired));
    assert!(sandbox.tokens()[0].expired && !sandbox.tokens()[0].revoked);
    let token = new_token(&sandbox, &client).await;
    let response = client.send(echo_request(&sandbox, &token)).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_repeated_idempotency_key_makes_no_second_sale() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    let mut references = Vec::new();
    for (index, key) in [(0, SALE_KEY), (1, SALE_KEY), (2, OTHER_KEY)] {
        let mut request = sale_request(&sandbox, &token);
        let headers = request.headers_mut();
        headers.insert("idempotency-key", key.parse().unwrap());
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 200, "sale {index}");
        references.push(json(&response)["pspReference"].as_str().unwrap().to_owned());
    }
    assert_eq!(references[0], references[1]);
    assert_ne!(references[0], references[2]);
    let sales = sandbox.sales();
    assert_eq!(sales.len(), 2);
    assert_eq!(sales[0].idempotency_key, SALE_KEY);
    assert_eq!(sales[0].psp_reference, references[0]);
}

#[tokio::test]
async fn a_held_response_was_decided_before_the_revocation() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    sandbox.hold_responses();
    let call = tokio::spawn({
        let (client, request) = (client.clone(), session_request(&sandbox, &token));
        async move { client.send(request).await.unwrap() }
    });
    within("the responses are held", sandbox.wait_responses_held(1)).await;
    sandbox.revoke_all();
    sandbox.release_responses();
    assert_eq!(call.await.unwrap().status(), 201);
    let late = client.send(session_request(&sandbox, &token)).await;
    assert_eq!(late.unwrap().status(), 401);
}

#[tokio::test]
async fn a_wait_completes_when_the_request_arrives_and_not_when_it_has_a_response() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    sandbox.hold_issuer();
    sandbox.hold();
    let calls = [token_request(&sandbox), echo_request(&sandbox, &token)].map(|request| {
        let client = client.clone();
        tokio::spawn(async move { client.send(request).await.unwrap() })
    });
    within("the token requests", sandbox.wait_token_requests(2)).await;
    within("the API requests", sandbox.wait_api_requests(1)).await;
    within("the issuer holds them", sandbox.wait_issuer_held(1)).await;
    within("the API holds them", sandbox.wait_held(1)).await;
    assert_eq!(sandbox.token_requests()[1].status, None);
    assert_eq!(sandbox.api_requests()[0].verdict, None);
    assert_eq!(sandbox.api_requests()[0].body, "four");
    sandbox.release_issuer();
    sandbox.release();
    for call in calls {
        assert_eq!(call.await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_reset_removes_the_records_and_keeps_the_tokens() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    for request in [session_request(&sandbox, &token), sale_request(&sandbox, &token)] {
        assert!(client.send(request).await.unwrap().status().is_success());
    }
    sandbox.reset_records();
    assert_eq!(sandbox.token_request_count(), 0);
    assert_eq!(sandbox.api_request_count(), 0);
    assert!(sandbox.sessions().is_empty() && sandbox.sales().is_empty());
    assert_eq!(sandbox.issuer_connections() + sandbox.api_connections(), 0);
    let response = client.send(echo_request(&sandbox, &token)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(sandbox.api_request_count(), 1);
}

#[tokio::test]
async fn an_issuer_with_single_token_revokes_the_older_token() {
    let builder = AccessPspSandbox::builder().single_token(true);
    let sandbox = builder.start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let older = new_token(&sandbox, &client).await;
    let newer = new_token(&sandbox, &client).await;
    for (token, status) in [(older, 401), (newer, 200)] {
        let response = client.send(echo_request(&sandbox, &token)).await.unwrap();
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn an_issuer_that_repeats_its_token_returns_the_remaining_lifetime() {
    let builder = AccessPspSandbox::builder().repeat_token(true);
    let sandbox = builder.start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let first = new_token(&sandbox, &client).await;
    sandbox.revoke_all();
    sandbox.advance(Duration::from_secs(1000));
    let again = json(&client.send(token_request(&sandbox)).await.unwrap());
    assert_eq!(again["access_token"], first);
    let rest = again["expires_in"].as_u64().unwrap();
    assert!((700..=801).contains(&rest), "{rest}");
    sandbox.advance(Duration::from_secs(802));
    assert_ne!(new_token(&sandbox, &client).await, first);
}

#[tokio::test]
async fn one_token_is_revoked_by_its_jti() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let first = new_token(&sandbox, &client).await;
    let second = new_token(&sandbox, &client).await;
    assert!(sandbox.revoke(&sandbox.tokens()[0].jti));
    assert!(!sandbox.revoke("no such token"));
    for (token, status) in [(first, 401), (second, 200)] {
        let response = client.send(echo_request(&sandbox, &token)).await.unwrap();
        assert_eq!(response.status(), status);
    }
    let revoked: Vec<bool> = sandbox.tokens().iter().map(|token| token.revoked).collect();
    assert_eq!(revoked, [true, false]);
}

#[tokio::test]
async fn the_servers_listen_on_one_loopback_address_only() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let recorder = sandbox.recorder().await.unwrap();
    for origin in [sandbox.issuer_origin(), sandbox.api_origin(), recorder.origin()] {
        let (host, port) = origin.strip_prefix("https://").unwrap().split_once(':').unwrap();
        assert_eq!(host, "127.0.0.1");
        // A listener on all addresses would accept these connections as well.
        for other in ["127.0.0.2", "::1"] {
            let port = port.parse::<u16>().unwrap();
            assert!(TcpStream::connect((other, port)).await.is_err());
        }
    }
}

#[tokio::test]
async fn dropping_the_handle_frees_the_ports_and_ends_every_task() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    for h2 in [false, true] {
        let sandbox = AccessPspSandbox::start().await.unwrap();
        let client = Plain::trusting(sandbox.ca_pem());
        let client = if h2 { client.http2() } else { client };
        let origins = [sandbox.issuer_origin(), sandbox.api_origin()];
        sandbox.script(Fault::Hang);
        let request = token_request(&sandbox);
        let call = tokio::spawn(async move { client.send(request).await.is_err() });
        within("the token requests", sandbox.wait_token_requests(1)).await;
        drop(sandbox);
        assert!(call.await.unwrap(), "a hanging call ends with an error");
        let alive = || Handle::current().metrics().num_alive_tasks();
        eventually("every task of the sandbox has ended", || alive() <= tasks).await;
        for origin in origins {
            let address = origin.strip_prefix("https://").unwrap();
            assert!(TcpStream::connect(address).await.is_err());
        }
    }
}

#[tokio::test]
async fn no_debug_output_contains_a_secret() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    for request in [session_request(&sandbox, &token), sale_request(&sandbox, &token)] {
        assert!(client.send(request).await.unwrap().status().is_success());
    }
    let recorder = sandbox.recorder().await.unwrap();
    recorder.respond_with(ScriptedResponse::new(StatusCode::OK).body(token.clone()));
    let printed = format!(
        "{sandbox:?} {:?} {:?} {:?} {:?} {:?} {recorder:?} {:?}",
        sandbox.token_requests(),
        sandbox.tokens(),
        sandbox.api_requests(),
        sandbox.sessions(),
        sandbox.sales(),
        Fault::AccessToken(Some(token.clone())),
    );
    let sent = sandbox.sales()[0].body.clone();
    let secrets = [
        sandbox.client_secret(),
        sandbox.client_id(),
        sandbox.api_key(),
        sandbox.token_api_key(),
        &token,
        std::str::from_utf8(&sent).unwrap(),
    ];
    for secret in secrets {
        assert!(!printed.contains(secret), "the output contains a secret");
    }
}
