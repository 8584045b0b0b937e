//! A response future that is polled after completion panics, as tower's futures do.

use std::sync::Mutex;

use futures::FutureExt as _;

use super::*;

/// Sends `request` through a layer over `api`, and polls the future once more after it has completed.
async fn poll_after_completion(api: Api, request: Request<Body>, expected: Result<u16, ErrorKind>) {
    let (provider, _) = issuer(|n| async move { token(n) });
    let mut client = BearerAuthLayer::new(provider).allow_origin(API).unwrap().layer_over(api);
    let mut future = Box::pin(Service::<Request<Body>>::call(&mut client, request));
    let outcome = (&mut future).await;
    assert_eq!(outcome.map(|response| response.status().as_u16()).map_err(|error| kind(&error).unwrap()), expected);
    let _ = future.now_or_never();
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`ResponseFuture` polled after completion")]
async fn after_a_response() {
    poll_after_completion(Api::new(ok), get(API), Ok(200)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`ResponseFuture` polled after completion")]
async fn after_a_request_that_was_not_sent() {
    poll_after_completion(Api::new(ok), get("http://api.example.com"), Err(ErrorKind::InsecureUrl)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`ResponseFuture` polled after completion")]
async fn after_a_request_without_a_token() {
    poll_after_completion(Api::new(ok), get("https://elsewhere.test"), Ok(200)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`ResponseFuture` polled after completion")]
async fn after_a_replay() {
    let first = Mutex::new(true);
    let api = Api::new(move |_| match std::mem::take(&mut *first.lock().unwrap()) {
        true => rejection(INVALID_TOKEN),
        false => response(StatusCode::OK),
    });
    poll_after_completion(api, get(API), Ok(200)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`ResponseFuture` polled after completion")]
async fn after_a_rejection_that_was_not_replayed() {
    let request = Request::post(API).body(Body::new(Bytes::from("money"))).unwrap();
    poll_after_completion(Api::new(|_| rejection("")), request, Ok(401)).await;
}
