//! Two layers of this crate in one stack.

use tower_bearer_auth::replay::{Cloned, Mode};
use tower_bearer_auth::{NotReplayed, NotSent, Rejection};

use super::*;

/// Counts the tokens of the inner layer in `authorization` and of the outer layer in `x-outer`.
struct Outer(AtomicUsize);

impl TokenProvider for Outer {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        token(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn header(&self) -> HeaderName {
        HeaderName::from_static("x-outer")
    }
}

fn outer() -> BearerAuthLayer<Outer> {
    BearerAuthLayer::new(Outer(AtomicUsize::new(0))).allow_origin(API).unwrap()
}

fn inner() -> BearerAuthLayer<impl TokenProvider<Key = ()>> {
    BearerAuthLayer::new(issuer(|n| async move { token(n) }).0).allow_origin(API).unwrap()
}

fn request(method: &str) -> Request<Body> {
    let mut request = Request::new(Body::from("body"));
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = format!("{API}/pay").parse().unwrap();
    request
}

fn tokens(api: &Api) -> Vec<(String, String)> {
    let text = |request: &Request<Bytes>, name| request.headers()[name].to_str().unwrap().replace("Bearer ", "");
    api.sends().iter().map(|sent| (text(sent, "x-outer"), text(sent, "authorization"))).collect()
}

// R102: each rejection, method and mode of both layers. Before, a request was sent three times.
#[tokio::test(start_paused = true)]
async fn two_layers_send_a_rejected_request_at_most_twice() {
    for challenge in ["", INVALID_TOKEN] {
        for method in ["GET", "POST"] {
            for (outer_mode, inner_mode) in [Mode::Never, Mode::Safe, Mode::Always]
                .into_iter()
                .flat_map(|a| [(a, Mode::Never), (a, Mode::Safe), (a, Mode::Always)])
            {
                let api = Api::new(move |_| rejection(challenge));
                let (outer, inner) =
                    (outer().replay(outer_mode).bodies(Cloned), inner().replay(inner_mode).bodies(Cloned));
                let (outer_source, inner_source) = (outer.source().clone(), inner.source().clone());
                let client = outer.layer_over(inner.layer_over(api.clone()));
                let response = client.oneshot(request(method)).await.unwrap();
                let case = format!("{challenge} {method} {outer_mode} {inner_mode}");
                let replays = |mode| match mode {
                    Mode::Never => false,
                    Mode::Always => true,
                    _ => method == "GET" || challenge == INVALID_TOKEN,
                };
                let expected = if replays(outer_mode) || replays(inner_mode) { 2 } else { 1 };
                assert_eq!(api.sends().len(), expected, "{case}");
                let audit = Audit::of(&response).unwrap();
                assert_eq!((usize::from(audit.sends), response.status().as_u16()), (expected, 401), "{case}");
                assert_eq!(audit.replay == ReplayOutcome::RejectedAgain, expected == 2, "{case} {audit:?}");
                // Both layers know that their token was rejected.
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(outer_source.stats().rejections > 0 && inner_source.stats().rejections > 0, "{case}");
            }
        }
    }
}

// R102: the token of the outer layer is revoked. The inner layer uses up the replay, and the next request succeeds.
#[tokio::test(start_paused = true)]
async fn after_a_replay_of_the_inner_layer_the_outer_one_renews_its_token_for_the_next_request() {
    let api = Api::new(|request| match request.headers()["x-outer"] == "Bearer token-1" {
        true => rejection(INVALID_TOKEN),
        false => response(StatusCode::OK),
    });
    let client = outer().layer_over(inner().layer_over(api.clone()));
    let response = client.clone().oneshot(get(API)).await.unwrap();
    assert_eq!((response.status(), Audit::of(&response).unwrap().sends), (StatusCode::UNAUTHORIZED, 2));
    let pair = |outer: &str, inner: &str| (outer.to_owned(), inner.to_owned());
    assert_eq!(tokens(&api), [pair("token-1", "token-1"), pair("token-1", "token-2")]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let response = client.oneshot(get(API)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(tokens(&api)[2], pair("token-2", "token-2"));
}

// R102: only the outer layer reads the response as a rejection. Its replay carries both tokens, and is not replayed below.
#[tokio::test(start_paused = true)]
async fn a_replay_of_the_outer_layer_is_not_replayed_by_the_inner_one() {
    let sent = AtomicUsize::new(0);
    let api = Api::new(move |_| match sent.fetch_add(1, Ordering::SeqCst) {
        0 => response(StatusCode::FORBIDDEN),
        _ => rejection(INVALID_TOKEN),
    });
    let outer = outer().rejected_when(|head| (head.status() == 403).then_some(Rejection::InvalidToken));
    let inner = inner();
    let inner_source = inner.source().clone();
    let response = outer.layer_over(inner.layer_over(api.clone())).oneshot(get(API)).await.unwrap();
    let audit = Audit::of(&response).unwrap();
    assert_eq!((api.sends().len(), audit.sends, audit.replay), (2, 2, ReplayOutcome::RejectedAgain));
    let pair = |outer: &str, inner: &str| (outer.to_owned(), inner.to_owned());
    assert_eq!(tokens(&api), [pair("token-1", "token-1"), pair("token-2", "token-1")]);
    assert_eq!((inner_source.stats().rejections, inner_source.stats().replays), (1, 0));
}

// R102: the audit of an outer layer does not hide that the inner one has sent the request twice.
#[tokio::test(start_paused = true)]
async fn the_audit_of_the_outer_layer_counts_the_sends_of_the_inner_one() {
    let api = Api::new(|request| match request.headers()["authorization"] == "Bearer token-1" {
        true => rejection(INVALID_TOKEN),
        false => response(StatusCode::OK),
    });
    // The middle layer stamps the request in the first case, and does not in the second one.
    for allowed in [API, "https://elsewhere.test"] {
        let before = api.sends().len();
        let middle = BearerAuthLayer::new(Outer(AtomicUsize::new(0))).allow_origin(allowed).unwrap().audit_all();
        let outermost = inner().rejected_when(|_| Some(Rejection::InvalidToken)).if_not_present();
        let stack = outermost.layer_over(middle.layer_over(inner().layer_over(api.clone())));
        let response = stack.oneshot(get(API)).await.unwrap();
        let audit = Audit::of(&response).unwrap();
        assert_eq!((api.sends().len() - before, audit.sends), (2, 2), "{allowed}");
    }
}

// R102: the request was sent once, so the error must not say that it was not sent.
#[tokio::test(start_paused = true)]
async fn an_inner_layer_without_a_token_for_the_replay_does_not_make_a_sent_request_unsent() {
    let api = Api::new(|_| response(StatusCode::FORBIDDEN));
    let outer = outer().rejected_when(|_| Some(Rejection::InvalidToken));
    // The inner token lives for a second, and the next one does not arrive.
    let (provider, _) = issuer(|n| async move {
        match n {
            1 => Ok(token(n)?.expires_in(Duration::from_secs(2))),
            _ => Err(Error::permanent("revoked").with_kind(ErrorKind::InvalidCredentials)),
        }
    });
    let inner = BearerAuthLayer::new(provider).allow_origin(API).unwrap();
    let inner_source = inner.source().clone();
    inner_source.warm_up().await.unwrap();
    let rotated = inner_source.clone();
    let below = tower::ServiceBuilder::new()
        .map_response(move |response| {
            rotated.rotate();
            response
        })
        .service(inner.layer_over(api.clone()));
    let error = outer.layer_over(below).oneshot(get(API)).await.unwrap_err();
    assert_eq!(api.sends().len(), 1);
    let not_replayed = error.downcast_ref::<NotReplayed>().unwrap();
    assert_eq!(not_replayed.error().kind(), ErrorKind::InvalidCredentials);
    assert!(not_replayed.to_string().contains("a second layer did not send the replay"), "{not_replayed}");
    assert!(Error::find(&*error).is_none() && error.downcast_ref::<NotSent>().is_none());
}
