//! A service that is used again caches the token that it stamped last. It must not stamp that token for too long.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use tower_bearer_auth::RefreshPolicy;

use super::*;
use crate::support::time::Paused;

/// Sends one request and returns the stamped header.
async fn stamped<S>(service: &mut S, api: &Api) -> String
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
{
    service.ready().await.unwrap().call(get("https://api.example.com/x")).await.unwrap();
    api.sends().last().unwrap().headers()[AUTHORIZATION].to_str().unwrap().to_owned()
}

// R50
#[tokio::test(start_paused = true)]
async fn a_cached_token_is_not_stamped_after_rotate_or_invalidate() {
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let source = TokenSource::new(provider);
    let api = Api::new(ok);
    let layer = source.layer().allow_origin(API).unwrap();
    let mut service = ServiceBuilder::new().layer(layer).service(api.clone());
    for _ in 0..4 {
        assert_eq!(stamped(&mut service, &api).await, "Bearer token-1");
    }
    source.rotate();
    for _ in 0..4 {
        assert_eq!(stamped(&mut service, &api).await, "Bearer token-2");
    }
    source.invalidate();
    assert_eq!(stamped(&mut service, &api).await, "Bearer token-3");
    assert_eq!(fetches.count(), 3);
    // The first request after each change waited. The other six did not.
    assert_eq!((source.stats().hits, source.stats().waits), (6, 3));
}

// R40, R37: the cached token follows the same clocks and the same refresh window.
#[tokio::test(start_paused = true)]
async fn a_cached_token_is_refreshed_in_its_window_and_not_stamped_after_its_end() {
    let (provider, fetches) = issuer(|n| async move {
        match n {
            2 => Err(Error::transient("down")),
            n => token(n),
        }
    });
    let clock = Paused::start();
    let builder = TokenSource::builder(provider).clock(clock);
    let source = builder.refresh(RefreshPolicy::default()).build();
    let api = Api::new(ok);
    let mut service = ServiceBuilder::new().layer(source.layer().allow_origin(API).unwrap()).service(api.clone());
    let at = |seconds| Duration::from_secs(seconds);
    for second in [0, 10, 20, 890] {
        clock.go_to(at(second)).await;
        assert_eq!(stamped(&mut service, &api).await, "Bearer token-1");
    }
    assert_eq!(fetches.count(), 1);
    // The window is the second half of the lifetime. Its start is random within its first tenth.
    clock.go_to(at(1000)).await;
    assert_eq!(stamped(&mut service, &api).await, "Bearer token-1");
    tokio::task::yield_now().await;
    assert_eq!(fetches.count(), 2, "a request in the window starts a fetch");
    // `usable_until` is 30 s before `expires_at`.
    clock.go_to(at(1770)).await;
    assert_eq!(stamped(&mut service, &api).await, "Bearer token-3");
}

// R22: the token of another service of the same source is rejected.
#[tokio::test(start_paused = true)]
async fn a_cached_token_is_not_stamped_after_another_service_was_rejected() {
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let bad = Arc::new(Mutex::new("none".to_owned()));
    let judged = Arc::clone(&bad);
    let api =
        Api::new(
            move |request| {
                if bearer(request) == *judged.lock() { rejection(INVALID_TOKEN) } else { response(StatusCode::OK) }
            },
        );
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap();
    let service = ServiceBuilder::new().layer(layer).service(api.clone());
    let (mut one, mut other) = (service.clone(), service);
    for service in [&mut one, &mut other] {
        for _ in 0..3 {
            assert_eq!(stamped(service, &api).await, "Bearer token-1");
        }
    }
    *bad.lock() = "token-1".to_owned();
    assert_eq!(stamped(&mut one, &api).await, "Bearer token-2");
    let before = api.sends().len();
    assert_eq!(stamped(&mut other, &api).await, "Bearer token-2");
    assert_eq!(api.sends().len() - before, 1, "the rejected token is not stamped again");
    assert_eq!(fetches.count(), 2);
}

// R50
#[tokio::test(start_paused = true)]
async fn services_that_are_cloned_for_each_request_stamp_no_withdrawn_token() {
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let source = TokenSource::new(provider);
    let api = Api::new(ok);
    let service = ServiceBuilder::new().layer(source.layer().allow_origin(API).unwrap()).service(api.clone());
    for _ in 0..8 {
        assert_eq!(stamped(&mut service.clone(), &api).await, "Bearer token-1");
    }
    source.rotate();
    for _ in 0..8 {
        assert_eq!(stamped(&mut service.clone(), &api).await, "Bearer token-2");
    }
    source.invalidate();
    for _ in 0..8 {
        assert_eq!(stamped(&mut service.clone(), &api).await, "Bearer token-3");
    }
    assert_eq!(fetches.count(), 3);
    assert_eq!((source.stats().hits, source.stats().waits), (21, 3));
}

// R30: such a service caches no token, because the next request may have another key.
#[tokio::test(start_paused = true)]
async fn a_service_with_several_users_never_stamps_the_token_of_the_user_before() {
    let api = Api::new(ok);
    let mut service = BearerAuthLayer::new(Keyed::default()).layer_over(api.clone());
    for user in [1_u32, 1, 1, 2, 2, 2, 1] {
        let mut request = get(API);
        request.extensions_mut().insert(user);
        tower::ServiceExt::<Request<Body>>::ready(&mut service).await.unwrap().call(request).await.unwrap();
        let sends = api.sends();
        let stamped = sends.last().unwrap().headers()["authorizationtoken"].to_str().unwrap();
        assert!(stamped.starts_with(&format!("Bearer user-{user}-")), "user {user} was sent with {stamped}");
    }
}
