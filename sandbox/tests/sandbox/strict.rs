//! What the sandbox rejects, row by row.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Request};
use tower_bearer_auth_sandbox::{AccessPspSandbox, ScriptedResponse, Verdict};

use crate::plain_client::{
    Body, FORM, JSON, Plain, echo_request, json, new_token, post, sale_request, session_request, token_form,
    token_request, with_token,
};

/// `{"alg":"none"}` in base64url.
const ALG_NONE: &str = "eyJhbGciOiJub25lIn0";
/// `{"alg":"HS256"}` in base64url.
const ALG_HS256: &str = "eyJhbGciOiJIUzI1NiJ9";

#[tokio::test]
async fn a_token_request_that_is_not_as_documented_is_rejected() {
    let builder = AccessPspSandbox::builder().allow_scope("payments");
    let sandbox = builder.start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let good = token_form(sandbox.client_id(), sandbox.client_secret());
    let json_body = serde_json::json!({
        "grant_type": "client_credentials",
        "client_id": sandbox.client_id(),
        "client_secret": sandbox.client_secret(),
    })
    .to_string();
    let without = |name: &str| {
        let kept = good.split('&').filter(|field| !field.starts_with(name));
        kept.collect::<Vec<_>>().join("&")
    };
    let twice = |name: &str| {
        let field = good.split('&').find(|field| field.starts_with(name));
        format!("{good}&{}", field.unwrap())
    };
    let invalid = "invalid_request";
    let plus = |rest: &str| format!("{good}{rest}");
    let rows = [
        ("no grant_type", FORM, without("grant_type"), 400, invalid),
        ("no client_id", FORM, without("client_id"), 400, invalid),
        ("no client_secret", FORM, without("client_secret"), 400, invalid),
        ("two grant_type", FORM, twice("grant_type"), 400, invalid),
        ("two client_id", FORM, twice("client_id"), 400, invalid),
        ("two client_secret", FORM, twice("client_secret"), 400, invalid),
        ("another grant", FORM, good.replace("client_credentials", "password"), 400, invalid),
        ("empty id", FORM, token_form("", sandbox.client_secret()), 400, invalid),
        ("empty secret", FORM, token_form(sandbox.client_id(), ""), 400, invalid),
        ("empty scope", FORM, plus("&scope="), 400, invalid),
        ("a scope that is not allowed", FORM, plus("&scope=all"), 400, invalid),
        ("two scopes", FORM, plus("&scope=payments&scope=payments"), 400, invalid),
        ("an unknown field", FORM, plus("&audience=x"), 400, invalid),
        ("bytes that are not UTF-8", FORM, plus("&scope=%ff"), 400, invalid),
        ("an empty body", FORM, String::new(), 400, invalid),
        ("JSON with its content type", JSON, json_body.clone(), 400, invalid),
        ("JSON with the content type of a form", FORM, json_body, 400, invalid),
        ("a form with the content type of JSON", JSON, good.clone(), 400, invalid),
        ("a form with the content type of text", "text/plain", good.clone(), 400, invalid),
        ("another charset", &format!("{FORM}; charset=latin1"), good.clone(), 400, invalid),
        ("a wrong id", FORM, token_form("no-such-client", sandbox.client_secret()), 401, "invalid_client"),
        ("a wrong secret", FORM, token_form(sandbox.client_id(), "guess"), 401, "invalid_client"),
    ];
    for (case, content_type, body, status, error) in rows {
        let request = post(&sandbox.token_url(), content_type, body);
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), status, "{case}");
        assert_eq!(json(&response), serde_json::json!({ "error": error }), "{case}");
    }
    assert!(sandbox.tokens().is_empty());
    let charset = format!("{FORM}; charset=UTF-8");
    for (content_type, body) in [(FORM, plus("&scope=payments")), (&charset, good.clone())] {
        let response = client.send(post(&sandbox.token_url(), content_type, body)).await;
        assert_eq!(response.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_token_request_with_a_wrong_method_path_or_header_is_rejected() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let changed = |change: &dyn Fn(&mut Request<Body>)| {
        let mut request = token_request(&sandbox);
        change(&mut request);
        request
    };
    let uri = |suffix: &str| format!("{}{suffix}", sandbox.token_url()).parse().unwrap();
    let rows = [
        ("GET", changed(&|r| *r.method_mut() = Method::GET), 405),
        ("PUT", changed(&|r| *r.method_mut() = Method::PUT), 405),
        ("another path", changed(&|r| *r.uri_mut() = uri("/")), 404),
        ("a query", changed(&|r| *r.uri_mut() = uri("?scope=")), 400),
        ("HTTP Basic", changed(&|r| add(r, "authorization", "Basic aTpz")), 400),
        ("a bearer token", changed(&|r| add(r, "authorization", "Bearer x")), 400),
        ("two types", changed(&|r| add(r, "content-type", FORM)), 400),
        ("no type", changed(&|r| remove(r, "content-type")), 400),
    ];
    for (case, request, status) in rows {
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), status, "{case}");
        assert_eq!(response.headers().contains_key("allow"), status == 405, "{case}");
    }
    assert!(sandbox.tokens().is_empty());
}

#[tokio::test]
async fn an_invalid_token_is_rejected_and_the_record_has_the_reason() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let foreign = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let elsewhere = new_token(&foreign, &Plain::trusting(foreign.ca_pem())).await;
    sandbox.set_lifetime(Duration::from_secs(60));
    let expired = new_token(&sandbox, &client).await;
    // The expiry is rounded up to whole seconds. After 61 seconds the token has been expired for one second or less.
    sandbox.advance(Duration::from_secs(61));
    let revoked = new_token(&sandbox, &client).await;
    sandbox.revoke_all();
    let good = new_token(&sandbox, &client).await;
    let parts: Vec<&str> = good.split('.').collect();
    let (head, claims, signature) = (parts[0], parts[1], parts[2]);
    let old_claims = expired.split('.').nth(1).unwrap();

    let bearer = |token: &str| format!("Bearer {token}");
    let rows = [
        ("no token", vec![], Verdict::Missing),
        ("foreign signature", vec![bearer(&elsewhere)], Verdict::BadSignature),
        ("expired by a second", vec![bearer(&expired)], Verdict::Expired),
        ("revoked", vec![bearer(&revoked)], Verdict::Revoked),
        ("alg none, unsigned", vec![bearer(&format!("{ALG_NONE}.{claims}."))], Verdict::BadSignature),
        ("alg none, signed", vec![bearer(&format!("{ALG_NONE}.{claims}.{signature}"))], Verdict::BadSignature),
        ("another algorithm", vec![bearer(&format!("{ALG_HS256}.{claims}.{signature}"))], Verdict::BadSignature),
        ("other claims", vec![bearer(&format!("{head}.{old_claims}.{signature}"))], Verdict::BadSignature),
        ("no signature", vec![bearer(&format!("{head}.{claims}"))], Verdict::Malformed),
        ("a dot too many", vec![bearer(&format!("{good}."))], Verdict::Malformed),
        ("opaque", vec![bearer("opaque")], Verdict::Malformed),
        ("no scheme", vec![good.clone()], Verdict::Malformed),
        ("lower case", vec![format!("bearer {good}")], Verdict::Malformed),
        ("two spaces", vec![format!("Bearer  {good}")], Verdict::BadSignature),
        ("another scheme", vec![format!("Token {good}")], Verdict::Malformed),
        ("twice", vec![bearer(&good), bearer(&good)], Verdict::Duplicate),
    ];
    for (case, values, verdict) in rows {
        for client in [client.clone(), client.clone().http2()] {
            let mut request = session_request(&sandbox, "");
            remove(&mut request, "authorization");
            for value in &values {
                add(&mut request, "authorization", value);
            }
            sandbox.reset_records();
            let response = client.send(request).await.unwrap();
            assert_eq!(response.status(), 401, "{case}");
            assert!(!response.headers().contains_key("www-authenticate"), "{case}");
            assert_eq!(json(&response)["message"], "Unauthorized", "{case}");
            assert_eq!(sandbox.api_requests()[0].verdict, Some(verdict), "{case}");
            assert!(sandbox.sessions().is_empty(), "{case}");
        }
    }
    let response = client.send(session_request(&sandbox, &good)).await;
    assert_eq!(response.unwrap().status(), 201);
}

#[tokio::test]
async fn an_api_request_that_is_not_as_documented_is_rejected_and_has_no_effect() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    let session = |content_type: &str, body: &'static str| {
        let url = format!("{}/wallets/wsps/sessions", sandbox.api_origin());
        with_token(post(&url, content_type, body), &token)
    };
    let sale = |change: &dyn Fn(&mut Request<Body>)| {
        let mut request = sale_request(&sandbox, &token);
        change(&mut request);
        request
    };
    let set = |name: &'static str, value: &'static str| {
        sale(&move |r| {
            remove(r, name);
            add(r, name, value);
        })
    };
    let key = "idempotency-key";
    let rows = [
        ("session, a form", session(FORM, "a=b"), 415, "39999"),
        ("session, a form with the content type of JSON", session(JSON, "a=b"), 400, "29999"),
        ("session, JSON with the content type of a form", session(FORM, "{}"), 415, "39999"),
        ("session, an array", session(JSON, "[]"), 400, "29999"),
        ("session, no body", session(JSON, ""), 400, "29999"),
        ("session, incomplete JSON", session(JSON, r#"{"a":"#), 400, "29999"),
        ("sale, no idempotency key", sale(&|r| remove(r, key)), 400, "30000"),
        ("sale, empty key", set(key, ""), 400, "29999"),
        ("sale, no UUID", set(key, "order-1"), 400, "29999"),
        ("sale, short", set(key, "01234567-89ab-4def-8123-456789abcde"), 400, "29999"),
        ("sale, no hex", set(key, "g1234567-89ab-4def-8123-456789abcdef"), 400, "29999"),
        ("sale, no dashes", set(key, "0123456789ab4def8123456789abcdef"), 400, "29999"),
        ("sale, two keys", sale(&|r| add(r, key, "11234567-89ab-4def-8123-456789abcdef")), 400, "29999"),
        ("sale, no accept", sale(&|r| remove(r, "accept")), 400, "30000"),
        ("sale, a form", set("content-type", FORM), 415, "39999"),
        ("sale, no type", sale(&|r| remove(r, "content-type")), 415, "39999"),
        ("sale, no JSON object", sale(&|r| *r.body_mut() = Body::from("1")), 400, "29999"),
    ];
    for (case, request, status, code) in rows {
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), status, "{case}");
        let info = &json(&response)["responseInfo"];
        assert_eq!(info["responseCode"], code, "{case}");
        let texts = info.as_object().unwrap().values();
        assert_eq!(texts.filter(|value| value.is_string()).count(), 5, "{case}");
    }
    let forbidden = [
        ("sale, no x-api-key", sale(&|r| remove(r, "x-api-key"))),
        ("sale, wrong x-api-key", set("x-api-key", "guess")),
        ("sale, two x-api-key", sale(&|r| add(r, "x-api-key", "guess"))),
    ];
    for (case, request) in forbidden {
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 403, "{case}");
        assert_eq!(json(&response)["message"], "Forbidden", "{case}");
    }
    assert!(sandbox.sessions().is_empty() && sandbox.sales().is_empty());
}

#[tokio::test]
async fn unknown_paths_and_methods_are_rejected() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    let rows = [
        ("GET", "/nowhere", 404),
        ("POST", "/oauth/token", 404),
        ("GET", "/wallets/wsps/sessions", 405),
        ("POST", "/wallets/wsps/sessions/1", 405),
        ("GET", "/wallets/wsps/sessions/1", 404),
        ("GET", "/uc/v1/wallet/sale", 405),
        ("DELETE", "/echo", 200),
    ];
    for (method, path, status) in rows {
        let url = format!("{}{path}", sandbox.api_origin());
        let request = Request::builder().method(method).uri(url);
        let request = with_token(request.body(Body::default()).unwrap(), &token);
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn the_issuer_requires_its_api_key_if_the_builder_says_so() {
    let builder = AccessPspSandbox::builder().require_token_api_key();
    let sandbox = builder.start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let keys = [(None, 403), (Some(sandbox.api_key()), 403), (Some(sandbox.token_api_key()), 200)];
    for (key, status) in keys {
        let mut request = token_request(&sandbox);
        if let Some(key) = key {
            add(&mut request, "x-api-key", key);
        }
        assert_eq!(client.send(request).await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn a_client_without_the_required_certificate_is_rejected() {
    let builder = AccessPspSandbox::builder().require_client_certificate();
    let sandbox = builder.start().await.unwrap();
    let stranger = Plain::trusting(sandbox.ca_pem());
    assert!(stranger.send(token_request(&sandbox)).await.is_err());
    assert_eq!(sandbox.token_request_count(), 0);
    let (certificate, key) = sandbox.client_identity_pem().unwrap();
    let known = stranger.identity(certificate, key);
    let response = known.send(token_request(&sandbox)).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_client_that_trusts_another_authority_does_not_connect() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let other = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(other.ca_pem());
    assert!(client.send(token_request(&sandbox)).await.is_err());
    assert_eq!(sandbox.issuer_connections(), 1);
    assert_eq!(sandbox.token_request_count(), 0);
}

#[tokio::test]
async fn a_valid_token_is_rejected_on_demand_with_the_scripted_response() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    let status_of = async || {
        let response = client.send(echo_request(&sandbox, &token)).await;
        response.unwrap().status().as_u16()
    };
    sandbox.reject_next(2);
    assert_eq!([status_of().await, status_of().await, status_of().await], [401, 401, 200]);
    sandbox.reject_always(true);
    assert_eq!(status_of().await, 401);
    assert_eq!(sandbox.api_requests()[3].verdict, Some(Verdict::Scripted));
    let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
    sandbox.reject_with(ScriptedResponse::challenge(challenge.clone()));
    let response = client.send(echo_request(&sandbox, &token)).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], challenge);
    sandbox.reject_always(false);
    assert_eq!(status_of().await, 200);
}

// A server of the test's own, for example for gRPC, rejects what the server of the sandbox rejects.
#[tokio::test]
async fn judge_counts_the_scripted_rejections() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    let valid = echo_request(&sandbox, &token);
    let judge = || sandbox.judge(valid.headers());
    sandbox.reject_next(1);
    assert_eq!(sandbox.judge(&Default::default()), Verdict::Missing);
    assert_eq!([judge(), judge()], [Verdict::Scripted, Verdict::Accepted]);
    sandbox.reject_always(true);
    assert_eq!([judge(), judge()], [Verdict::Scripted; 2]);
    assert_eq!(sandbox.api_request_count(), 0);
}

fn add(request: &mut Request<Body>, name: &'static str, value: &str) {
    let value = value.parse().unwrap();
    request.headers_mut().append(HeaderName::from_static(name), value);
}

fn remove(request: &mut Request<Body>, name: &str) {
    request.headers_mut().remove(name);
}
