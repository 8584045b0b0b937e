//! `Rejection::mark`: a layer below decides whether a response rejects the token.

use tower_bearer_auth::{Rejection, ResponseHead};

use super::*;

/// A provider for which only a 418 is a rejection. It counts the responses that it checks.
#[derive(Default)]
struct Teapot {
    checked: std::sync::Arc<AtomicUsize>,
    minted: AtomicUsize,
}

impl TokenProvider for Teapot {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        token(self.minted.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        self.checked.fetch_add(1, Ordering::SeqCst);
        (response.status() == 418).then_some(Rejection::InvalidToken)
    }
}

/// Responds to the first token with `status` and `marks`, in this order, and accepts every other token.
fn marking(status: u16, marks: &'static [Option<Rejection>]) -> Api {
    Api::new(move |request| {
        if bearer(request) != "token-1" {
            return response(StatusCode::OK);
        }
        let mut response = response(StatusCode::from_u16(status).unwrap());
        for mark in marks {
            Rejection::mark(&mut response, *mark);
        }
        response
    })
}

const INVALID: Option<Rejection> = Some(Rejection::InvalidToken);

#[tokio::test(start_paused = true)]
async fn the_last_mark_is_checked_before_the_provider() {
    let cases: [(u16, &[Option<Rejection>], usize, usize); 7] = [
        (418, &[], 2, 2),
        (200, &[], 1, 1),
        (200, &[INVALID], 2, 1),
        (418, &[None], 1, 0),
        (418, &[INVALID, None], 1, 0),
        (200, &[None, INVALID], 2, 1),
        (200, &[None, None], 1, 0),
    ];
    for (status, marks, sends, checked) in cases {
        let provider = Teapot::default();
        let count = std::sync::Arc::clone(&provider.checked);
        let api = marking(status, marks);
        let client = BearerAuthLayer::new(provider).allow_origin(API).unwrap().layer_over(api.clone());
        client.oneshot(get(API)).await.unwrap();
        // The response to a replay has no mark, so the provider checks it.
        assert_eq!((api.sends().len(), count.load(Ordering::SeqCst)), (sends, checked), "{status} {marks:?}");
    }
}

// After a 401, two stacked layers still send a request three times.
#[tokio::test(start_paused = true)]
async fn the_first_of_two_stacked_layers_removes_the_mark() {
    let api = Api::new(|request| {
        let mut response = response(StatusCode::OK);
        if bearer(request) == "token-1" {
            Rejection::mark(&mut response, Some(Rejection::InvalidToken));
        }
        response
    });
    for never in [false, true] {
        let (inner_provider, inner_fetches) = issuer(|n| async move { token(n) });
        let inner = BearerAuthLayer::new(inner_provider).allow_origin(API).unwrap();
        let inner = if never { inner.replay(tower_bearer_auth::replay::Mode::Never) } else { inner };
        let outer = BearerAuthLayer::new(Keyed::default());
        let source = outer.source().clone();
        let before = api.sends().len();
        let mut request = get(API);
        request.extensions_mut().insert(7_u32);
        let response = outer.layer_over(inner.clone().layer_over(api.clone())).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let expected = if never { 1 } else { 2 };
        assert_eq!(api.sends().len() - before, expected);
        // The fetch has no waiter, and `inner` keeps it running.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!((inner_fetches.count(), source.stats().fetches, source.stats().rejections), (2, 1, 0));
    }
}
