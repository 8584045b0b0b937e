//! `rejected_when`: a function of the layer decides whether a response rejects the token.

use tower_bearer_auth::replay::Mode;
use tower_bearer_auth::{Rejection, ResponseHead, TokenState, from_fn};

use super::*;

/// Responds to the first token with `status`, and accepts every other token.
fn api(status: u16) -> Api {
    Api::new(move |request| {
        let status = if bearer(request) == "token-1" { status } else { 200 };
        response(StatusCode::from_u16(status).unwrap())
    })
}

fn minting() -> impl TokenProvider<Key = ()> {
    issuer(|n| async move { token(n) }).0
}

fn when(status: u16, rejection: Rejection) -> impl Fn(&ResponseHead<'_>) -> Option<Rejection> + Send + Sync + 'static {
    move |response| (response.status() == status).then_some(rejection)
}

// R63: object_store #296 (403), iceberg-python #234 (419), starrocks #77546 (501).
#[tokio::test(start_paused = true)]
async fn a_function_can_make_any_status_a_rejection() {
    use Rejection::{InvalidToken, Unspecified};
    for status in [403, 419, 501] {
        for (rejection, method, sends) in
            [(Unspecified, "GET", 2), (Unspecified, "POST", 1), (InvalidToken, "POST", 2), (InvalidToken, "GET", 2)]
        {
            let api = api(status);
            let layer = BearerAuthLayer::new(minting()).allow_origin(API).unwrap();
            let layer = layer.rejected_when(when(status, rejection));
            let source = layer.source().clone();
            let mut request = get(API);
            *request.method_mut() = method.parse().unwrap();
            let response = layer.layer_over(api.clone()).oneshot(request).await.unwrap();
            assert_eq!(response.status(), if sends == 2 { 200 } else { status }, "{status} {rejection:?} {method}");
            assert_eq!((api.sends().len(), source.stats().rejections), (sends, 1), "{status} {rejection:?} {method}");
        }
    }
    // Without the function, a new token does not help.
    for status in [403, 419, 501] {
        let api = api(status);
        let layer = BearerAuthLayer::new(minting()).allow_origin(API).unwrap();
        let response = layer.layer_over(api.clone()).oneshot(get(API)).await.unwrap();
        assert_eq!((response.status().as_u16(), api.sends().len()), (status, 1));
    }
}

// R63: `None` asks the provider, and a mark of a layer below is asked first.
#[tokio::test(start_paused = true)]
async fn a_mark_is_asked_first_then_the_function_then_the_provider() {
    let calls = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&calls);
    let layer =
        BearerAuthLayer::new(minting()).allow_origin(API).unwrap().rejected_when(when(401, Rejection::Unspecified));
    // The second function replaces the first one.
    let layer = layer.rejected_when(move |response| {
        count.fetch_add(1, Ordering::SeqCst);
        when(403, Rejection::Unspecified)(response)
    });
    // The status, the mark, how often the request is sent, and how often the function is called.
    let table: [(u16, Option<Option<Rejection>>, usize, usize); 7] = [
        (200, None, 1, 1),
        (401, None, 2, 2),
        (403, None, 2, 2),
        (403, Some(None), 1, 0),
        (401, Some(None), 1, 0),
        (200, Some(Some(Rejection::InvalidToken)), 2, 1),
        (403, Some(Some(Rejection::InvalidToken)), 2, 1),
    ];
    for (status, mark, sends, asked) in table {
        layer.source().rotate();
        calls.store(0, Ordering::SeqCst);
        let first = AtomicUsize::new(0);
        let api = Api::new(move |_| {
            if first.fetch_add(1, Ordering::SeqCst) > 0 {
                return response(StatusCode::OK);
            }
            let mut response = response(StatusCode::from_u16(status).unwrap());
            if let Some(mark) = mark {
                Rejection::mark(&mut response, mark);
            }
            response
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        layer.clone().layer_over(api.clone()).oneshot(get(API)).await.unwrap();
        assert_eq!((api.sends().len(), calls.load(Ordering::SeqCst)), (sends, asked), "{status} {mark:?}");
    }
}

// R63: if both the function and the provider see a rejection, the function decides how strong it is.
#[tokio::test(start_paused = true)]
async fn the_function_takes_precedence_over_the_provider() {
    use Rejection::{InvalidToken, Unspecified};
    for (challenge, rejection, sends) in [("", InvalidToken, 2), (INVALID_TOKEN, Unspecified, 1)] {
        let api = Api::new(move |_| crate::support::responses::rejection(challenge));
        let layer = BearerAuthLayer::new(minting()).allow_origin(API).unwrap().rejected_when(when(401, rejection));
        let mut request = get(API);
        *request.method_mut() = http::Method::POST;
        layer.layer_over(api.clone()).oneshot(request).await.unwrap();
        assert_eq!(api.sends().len(), sends, "{challenge} {rejection:?}");
    }
}

// R63: a response that was not stamped is not shown to the function, and the settings do not print it.
#[tokio::test(start_paused = true)]
async fn the_function_sees_only_responses_to_stamped_requests() {
    let layer = BearerAuthLayer::new(from_fn(|| async { token(1) })).allow_origin(API).unwrap();
    let layer = layer.rejected_when(|_| panic!("the request was not stamped"));
    assert!(format!("{layer:?}").contains("rejected_when: true"), "{layer:?}");
    let client = layer.layer_over(Api::new(ok));
    let mut request = get(API);
    request.extensions_mut().insert(tower_bearer_auth::Unauthenticated);
    assert_eq!(client.clone().oneshot(request).await.unwrap().status(), 200);
    assert_eq!(client.oneshot(get("https://elsewhere.test/")).await.unwrap().status(), 200);
}

// R63, rule 12: a status of 200 does not count as an acceptance if the response rejects the token.
#[tokio::test(start_paused = true)]
async fn a_200_that_rejects_the_token_does_not_accept_it() {
    let (provider, _) = issuer(|n| async move { if n == 1 { token(n) } else { Err(Error::permanent("down")) } });
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().replay(Mode::Never);
    let layer = layer.rejected_when(when(200, Rejection::InvalidToken));
    let source = layer.source().clone();
    let client = layer.layer_over(api(200));
    for _ in 0..3 {
        assert_eq!(client.clone().oneshot(get(API)).await.unwrap().status(), 200);
        // Lets the fetch of the first rejection fail.
        tokio::task::yield_now().await;
    }
    assert_eq!(source.stats().rejections, 3);
    assert_eq!(source.status().state, TokenState::Rejected, "three rejections without an acceptance");
}
