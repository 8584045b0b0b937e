//! What the sandbox does on demand.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault, Recorder, ScriptedResponse};

use crate::plain_client::{Body, Plain, echo_request, json, new_token, token_request, with_token};
use crate::wait::{eventually, within};

#[tokio::test]
async fn scripted_faults_apply_to_one_request_each_then_the_fault_for_all_then_none() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let target = HeaderValue::from_static("https://127.0.0.1:1/");
    sandbox.script(Fault::status(StatusCode::INTERNAL_SERVER_ERROR));
    sandbox.script(Fault::retry_after(StatusCode::SERVICE_UNAVAILABLE, HeaderValue::from_static("2")));
    sandbox.script(Fault::redirect(StatusCode::TEMPORARY_REDIRECT, target.clone()));
    sandbox.script(Fault::body(HeaderValue::from_static("text/html"), "<html>"));
    sandbox.script(Fault::disabled_client());
    sandbox.script_always(Fault::status(StatusCode::FORBIDDEN));
    let mut responses = Vec::new();
    for _ in 0..7 {
        responses.push(client.send(token_request(&sandbox)).await.unwrap());
    }
    let statuses: Vec<u16> = responses.iter().map(|response| response.status().as_u16()).collect();
    assert_eq!(statuses, [500, 503, 307, 200, 403, 403, 403]);
    assert_eq!(responses[1].headers()["retry-after"], "2");
    assert_eq!(responses[2].headers()["location"], target);
    assert_eq!(responses[3].headers()["content-type"], "text/html");
    assert_eq!(responses[3].body(), "<html>");
    assert_eq!(json(&responses[4])["error"], "disabled_client");
    assert!(responses[5].body().is_empty());
    let recorded = sandbox.token_requests();
    let recorded: Vec<u16> = recorded.iter().map(|r| r.status.unwrap().as_u16()).collect();
    assert_eq!(recorded, statuses);
    assert!(sandbox.tokens().is_empty());
    sandbox.clear_script();
    new_token(&sandbox, &client).await;
}

#[tokio::test]
async fn a_fault_changes_one_field_of_the_token_response_and_keeps_the_others() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let text = |text: &str| Some(text.to_owned());
    let rows = [
        (Fault::TokenType(text("DPoP")), "\"token_type\":\"DPoP\"", true),
        (Fault::TokenType(None), "token_type", false),
        (Fault::ExpiresIn(text("\"1800\"")), "\"expires_in\":\"1800\"", true),
        (Fault::ExpiresIn(text("-1e99")), "\"expires_in\":-1e99", true),
        (Fault::ExpiresIn(None), "expires_in", false),
        (Fault::AccessToken(text("a\r\nb")), "\"access_token\":\"a\\r\\nb\"", true),
        (Fault::AccessToken(None), "access_token", false),
    ];
    for (fault, part, is_present) in rows {
        sandbox.script(fault.clone());
        let response = client.send(token_request(&sandbox)).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = std::str::from_utf8(response.body()).unwrap();
        assert_eq!(body.contains(part), is_present, "{fault:?}");
        let fields = json(&response).as_object().unwrap().len();
        assert_eq!(fields, if is_present { 3 } else { 2 }, "{fault:?}");
    }
}

#[tokio::test]
async fn a_fault_in_one_field_still_needs_a_valid_request() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    sandbox.script(Fault::TokenType(None));
    let mut request = token_request(&sandbox);
    *request.body_mut() = Body::default();
    assert_eq!(client.send(request).await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_connection_is_reset_a_body_truncated_and_a_body_sent_slowly() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    for client in [client.clone(), client.http2()] {
        for fault in [Fault::Reset, Fault::TruncatedBody] {
            sandbox.script(fault.clone());
            let response = client.send(token_request(&sandbox)).await;
            assert!(response.is_err(), "{fault:?}");
        }
        sandbox.script(Fault::SlowBody(Duration::from_micros(1)));
        let response = client.send(token_request(&sandbox)).await.unwrap();
        assert_eq!(json(&response)["token_type"], "Bearer");
    }
    let statuses: Vec<_> = sandbox.token_requests().iter().map(|r| r.status).collect();
    let (none, ok) = (None, Some(StatusCode::OK));
    assert_eq!(statuses, [none, ok, ok, none, ok, ok]);
}

#[tokio::test]
async fn a_reset_closes_all_streams_of_its_connection() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem()).http2();
    sandbox.script(Fault::Hang);
    let mut first = client.connect(&sandbox.issuer_origin()).await.unwrap();
    let mut second = first.another_stream();
    let request = token_request(&sandbox);
    let hanging = tokio::spawn(async move { first.send(request).await.is_err() });
    within("the token requests", sandbox.wait_token_requests(1)).await;
    sandbox.script(Fault::Reset);
    assert!(second.send(token_request(&sandbox)).await.is_err());
    assert!(hanging.await.unwrap());
}

#[tokio::test]
async fn the_servers_wait_for_the_latency() {
    let builder = AccessPspSandbox::builder().latency(Duration::from_secs(3600));
    let sandbox = builder.start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let deadline = Duration::from_millis(5);
    let early = tokio::time::timeout(deadline, client.send(token_request(&sandbox)));
    assert!(early.await.is_err());
    sandbox.set_latency(Duration::ZERO);
    let token = new_token(&sandbox, &client).await;
    sandbox.set_api_latency(Duration::from_secs(3600));
    let early = tokio::time::timeout(deadline, client.send(echo_request(&sandbox, &token)));
    assert!(early.await.is_err());
}

#[tokio::test]
async fn an_early_rejection_does_not_wait_for_the_body() {
    let sandbox = AccessPspSandbox::builder().plain_http().start().await.unwrap();
    sandbox.reject_early(true);
    let address = sandbox.api_origin().replace("http://", "");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!("POST /echo HTTP/1.1\r\nhost: {address}\r\ncontent-length: 9\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = [0; 12];
    stream.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 401");
    assert!(sandbox.api_requests()[0].body.is_empty());

    sandbox.reject_early(false);
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    within("the API requests", sandbox.wait_api_requests(2)).await;
    assert_eq!(sandbox.api_requests()[1].verdict, None);
    stream.write_all(b"nine here").await.unwrap();
    stream.read_exact(&mut response).await.unwrap();
    assert_eq!(sandbox.api_requests()[1].body, "nine here");
}

#[tokio::test]
async fn a_scripted_api_response_goes_to_an_accepted_request_which_has_no_effect() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = Plain::trusting(sandbox.ca_pem());
    let token = new_token(&sandbox, &client).await;
    sandbox.script_api(ScriptedResponse::new(StatusCode::BAD_GATEWAY).body("later"));
    let rejected = client.send(echo_request(&sandbox, "x")).await.unwrap();
    assert_eq!(rejected.status(), 401);
    let scripted = client.send(echo_request(&sandbox, &token)).await.unwrap();
    assert_eq!(scripted.status(), 502);
    assert_eq!(scripted.body(), "later");
    let ordinary = client.send(echo_request(&sandbox, &token)).await.unwrap();
    assert_eq!(ordinary.status(), 200);
}

#[tokio::test]
async fn a_recorder_keeps_every_byte_and_sends_the_configured_response() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let recorders = [sandbox.recorder().await.unwrap(), Recorder::start().await.unwrap()];
    let client = Plain::trusting(sandbox.ca_pem());
    for recorder in recorders {
        recorder.respond_with(ScriptedResponse::new(StatusCode::CREATED).body("made"));
        let mut connection = client.connect(&recorder.origin()).await.unwrap();
        for body in ["one", ""] {
            let url = format!("{}/path", recorder.origin());
            let request = Request::post(url).body(Body::from(body)).unwrap();
            let response = connection.send(with_token(request, "canary")).await.unwrap();
            assert_eq!(response.status(), 201);
            assert_eq!(response.body(), "made");
        }
        within("the requests", recorder.wait_requests(2)).await;
        assert_eq!(recorder.request_count(), 2);
        assert_eq!(recorder.connections(), 1);
        let first: Bytes = recorder.requests()[0].clone();
        assert!(first.starts_with(b"POST /path HTTP/1.1\r\n") && first.ends_with(b"\r\n\r\none"));
        assert!(recorder.has_received(b"Bearer canary") && !recorder.has_received(b"Bearer Canary"));
    }
}

#[tokio::test]
async fn a_recorder_reads_chunked_bodies_and_several_requests_in_one_write() {
    let recorder = Recorder::start().await.unwrap();
    let address = recorder.origin().replace("http://", "");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let plain = b"GET / HTTP/1.1\r\n\r\n";
    stream.write_all(&[&chunked[..], plain].concat()).await.unwrap();
    within("the requests", recorder.wait_requests(2)).await;
    assert_eq!(recorder.requests(), [&chunked[..], plain]);
    // An incomplete request is a leak as well.
    stream.write_all(b"GET / HTTP/1.1\r\ncanary").await.unwrap();
    eventually("the incomplete request has arrived", || recorder.has_received(b"canary")).await;
    assert_eq!(recorder.request_count(), 2);
}
