//! A status that comes too late for a replay.

use futures::future::join_all;
use tower_bearer_auth::TokenState;

use super::*;

// R4, R73: one refresh for all streams of one token.
#[tokio::test(start_paused = true)]
async fn a_hundred_streams_that_end_with_status_16_make_one_token_request() {
    let server = Server::new([Data(b"\0\0\0\0\x01m"), Wait(secs(1)), Status("16")]);
    let (client, issuer, source) = client(&server, unchanged).await;
    let streams = (0..100).map(|_| {
        let client = client.clone();
        async { read(client.oneshot(call()).await.unwrap()).await.1.unwrap() }
    });
    assert_eq!(join_all(streams).await, ["16"; 100]);
    tokio::time::sleep(secs(1)).await;
    let stats = source.stats();
    assert_eq!((issuer.requests(), stats.rejections, stats.tokens_rejected_early), (2, 100, 1));
    // A stream of the old token that ends later has no effect on the new one.
    assert_eq!(source.token().await.unwrap().expose_secret(), "first.2");
}

// R73: the body of a call that is given up shows nothing. Nor does one that is polled after its end.
#[tokio::test(start_paused = true)]
async fn the_token_is_rejected_at_most_once_and_not_after_a_drop() {
    let steps = [Data(b"\0\0\0\0\x01m"), Pending, Status("16"), Status("16"), Status("16")];
    let server = Server::new(steps);
    let (client, issuer, source) = client(&server, unchanged).await;
    let mut response = client.clone().oneshot(call()).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    settle().await;
    assert_eq!((issuer.requests(), source.stats().rejections), (1, 0), "dropped before its trailers");

    let mut response = client.oneshot(call()).await.unwrap();
    while response.body_mut().frame().await.is_some() {}
    settle().await;
    assert_eq!((issuer.requests(), source.stats().rejections), (2, 1));
}

// R73: the trailers are there, but the caller never reads them.
#[tokio::test(start_paused = true)]
async fn status_16_that_was_read_ahead_after_a_message_counts_if_the_body_is_dropped() {
    let server = Server::new([Data(b"\0\0\0\0\x01m"), Status("16")]);
    let (client, issuer, source) = client(&server, unchanged).await;
    drop(client.oneshot(call()).await.unwrap());
    settle().await;
    assert_eq!((issuer.requests(), source.stats().rejections), (2, 1));
}

// R16, R73: an API that always ends its calls with 16, whatever the token. A 401 in its place costs as much.
#[tokio::test(start_paused = true)]
async fn late_rejections_of_every_token_have_the_same_budget_as_others() {
    let mut token_requests = Vec::new();
    for status in [None, Some("16")] {
        let issuer = Issuer::new();
        let layer = BearerAuthLayer::new(issuer.clone()).allow_origin(API).unwrap().replay(Mode::Never).bodies(Cloned);
        let client = grpc::layer(layer).layer(service_fn(move |_: Call| {
            let (head, body) = match status {
                None => (401, Script::new([])),
                Some(status) => (200, Script::new([Pending, Status(status)])),
            };
            let response = Response::builder().status(head).header("content-type", "application/grpc");
            std::future::ready(Ok::<_, BoxError>(response.body(body).unwrap()))
        }));
        for _ in 0..600 {
            let _ = client.clone().oneshot(call()).await.unwrap().into_body().collect().await;
            tokio::time::sleep(secs(1)).await;
        }
        token_requests.push(issuer.requests());
    }
    assert!(token_requests[0] < 20, "{token_requests:?}");
    assert_eq!(token_requests[0], token_requests[1]);
}

// R65, R73: what comes at the end of a long stream says nothing about a token that was checked at its start.
#[tokio::test(start_paused = true)]
async fn a_long_stream_does_not_accept_a_token_that_was_rejected_meanwhile() {
    let server =
        Server::new([Data(b"\0\0\0\0\x01m"), Wait(secs(1)), Data(b"\0\0\0\0\x01m"), Wait(secs(1)), Status("0")]);
    let (client, issuer, source) = client(&server, unchanged).await;
    let mut stream = client.oneshot(call()).await.unwrap().into_body();
    stream.frame().await.unwrap().unwrap();
    let token = source.token().await.unwrap();
    issuer.set_latency(secs(60));
    for _ in 0..3 {
        source.reject(&(), &token);
    }
    while stream.frame().await.is_some() {}
    assert_eq!(source.status().state, TokenState::Rejected);
}
