//! Replays that wait for the inner service while the tokens change.

use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::*;

/// A service that is not ready while its gate is closed.
#[derive(Clone)]
struct Gated {
    inner: Api,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    closed: AtomicBool,
    waker: AtomicWaker,
}

impl Gate {
    fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
        self.waker.wake();
    }
}

impl tower::Service<Request<Body>> for Gated {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = <Api as tower::Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.gate.waker.register(cx.waker());
        if self.gate.closed.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.inner.call(request)
    }
}

/// An API that rejects `rejected`, and a gate that closes then.
fn closing_after(rejected: &'static str) -> (Arc<Gate>, Api) {
    let gate = Arc::new(Gate::default());
    let closes = Arc::clone(&gate);
    let api = Api::new(move |request| {
        if bearer(request) != rejected {
            return response(StatusCode::OK);
        }
        closes.closed.store(true, Ordering::SeqCst);
        rejection(INVALID_TOKEN)
    });
    (gate, api)
}

// R20: the API does not know the new token yet, so the request is replayed with the old one. While the replay waits for the
// inner service, the new token is tried again. A replay with it would be rejected for the same reason.
#[tokio::test(start_paused = true)]
async fn a_replay_never_carries_the_rejected_token_even_if_that_is_current_again() {
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let (gate, api) = closing_after("token-2");
    let layer = layer(provider);
    let client = layer.layer(Gated { inner: api.clone(), gate: Arc::clone(&gate) });
    assert_eq!(client.clone().oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(layer.source().refresh(&()).await.unwrap().generation(), 2);

    let call = tokio::spawn(client.oneshot(get()));
    eventually("the new token is rejected", || layer.source().stats().rejections == 1).await;
    assert_eq!(layer.source().token().await.unwrap().generation(), 1, "the old token is current again");
    advance(Duration::from_secs(2)).await;
    assert_eq!(layer.source().token().await.unwrap().generation(), 2, "the new token is tried again");
    assert!(!call.is_finished(), "the replay waits for the inner service");
    gate.open();

    let response = call.await.unwrap().unwrap();
    assert_eq!((response.status(), audit_of(&response).replay), (StatusCode::OK, ReplayOutcome::Replayed));
    let tokens: Vec<_> = api.sends().iter().map(|sent| bearer(sent).to_owned()).collect();
    assert_eq!(tokens, ["token-1", "token-2", "token-1"]);
    assert_eq!(fetches.count(), 2);
}

/// What happens while a replay waits for the inner service.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Nothing,
    Invalidate,
    /// Another caller gets a new token.
    Refresh,
    Rotate,
    /// The token of the replay expires.
    Expire,
}

// R20, R40, R50: a replay carries the newest token. It keeps the one that it waited for only if that is still good.
#[tokio::test(start_paused = true)]
async fn a_replay_carries_the_token_that_is_current_when_the_inner_service_is_ready() {
    // A token is for its waiters only if `invalidate` was called during its fetch.
    let cases = [
        (false, Meanwhile::Nothing, "token-2", 2),
        (false, Meanwhile::Invalidate, "token-3", 3),
        (false, Meanwhile::Refresh, "token-3", 3),
        (false, Meanwhile::Rotate, "token-3", 3),
        (false, Meanwhile::Expire, "token-3", 3),
        (true, Meanwhile::Nothing, "token-2", 2),
        (true, Meanwhile::Refresh, "token-3", 3),
        (true, Meanwhile::Rotate, "token-3", 3),
        (true, Meanwhile::Expire, "token-3", 3),
    ];
    for (for_waiters, meanwhile, expected, token_requests) in cases {
        let case = format!("for waiters only: {for_waiters}, {meanwhile:?}");
        let (provider, fetches) = issuer(|n| async move {
            sleep(Duration::from_millis(100)).await;
            token(n)
        });
        let (gate, api) = closing_after("token-1");
        let layer = layer(provider);
        let source = layer.source().clone();
        source.warm_up().await.unwrap();
        let call = tokio::spawn(layer.layer(Gated { inner: api.clone(), gate: Arc::clone(&gate) }).oneshot(get()));
        eventually("the token is rejected", || source.stats().rejections == 1).await;
        if for_waiters {
            source.invalidate();
        }
        sleep(Duration::from_millis(200)).await;
        assert_eq!((fetches.count(), call.is_finished()), (2, false), "{case}");
        match meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Invalidate => source.invalidate(),
            Meanwhile::Refresh => {
                source.invalidate();
                source.warm_up().await.unwrap();
            }
            Meanwhile::Rotate => source.rotate(),
            Meanwhile::Expire => sleep(Duration::from_secs(3600)).await,
        }
        gate.open();
        let response = call.await.unwrap().unwrap();
        assert_eq!(
            (response.status(), audit_of(&response).replay),
            (StatusCode::OK, ReplayOutcome::Replayed),
            "{case}"
        );
        let tokens: Vec<_> = api.sends().iter().map(|sent| bearer(sent).to_owned()).collect();
        assert_eq!(tokens, ["token-1", expected], "{case}");
        assert_eq!(fetches.count(), token_requests, "{case}");
    }
}

// R50, R80: the rotation came before the fetch of the token, or its provider rotated. So the token is not withdrawn.
#[tokio::test(start_paused = true)]
async fn after_a_rotation_a_replay_with_an_expired_token_of_the_new_credentials_is_sent() {
    for by_provider in [false, true] {
        let rotate = Arc::new(std::sync::OnceLock::<Box<dyn Fn() + Send + Sync>>::new());
        let in_fetch = Arc::clone(&rotate);
        let (provider, fetches) = issuer(move |n| {
            let rotate = Arc::clone(&in_fetch);
            async move {
                if by_provider && n == 3 {
                    rotate.get().unwrap()();
                }
                if n > 3 { Err(Error::permanent("down")) } else { token(n) }
            }
        });
        let (gate, api) = closing_after("token-2");
        let layer = layer(provider);
        let source = layer.source().clone();
        rotate
            .set(Box::new({
                let source = source.clone();
                move || source.rotate()
            }))
            .ok()
            .unwrap();
        source.warm_up().await.unwrap();
        source.rotate();
        source.warm_up().await.unwrap();
        let call = tokio::spawn(layer.layer(Gated { inner: api.clone(), gate: Arc::clone(&gate) }).oneshot(get()));
        eventually("there is a new token", || source.stats().fetches_succeeded == 3).await;
        sleep(Duration::from_secs(3600)).await;
        gate.open();
        assert_eq!(call.await.unwrap().unwrap().status(), 200);
        let tokens: Vec<_> = api.sends().iter().map(|sent| bearer(sent).to_owned()).collect();
        assert_eq!((tokens, fetches.count()), (vec!["token-2".to_owned(), "token-3".to_owned()], 4));
    }
}
