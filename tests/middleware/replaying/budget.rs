//! Rejections that no new token prevents cost a bounded number of token requests.

use http::StatusCode;
use parking_lot::Mutex;
use tower_bearer_auth::{IssuedToken, TokenSource, from_fn};

use super::*;

const TEN_MINUTES: usize = 600;

// R15, R16: the refresh of a token that no server has accepted needs the whole budget, and that takes a minute.
#[tokio::test(start_paused = true)]
async fn a_permanent_rejection_costs_two_sends_per_call_and_one_token_per_minute() {
    for challenge in ["", INVALID_TOKEN] {
        let (provider, fetches) = issuer(|n| async move { token(n) });
        let api = Api::new(move |_| rejection(challenge));
        let layer = layer(provider);
        let source = layer.source().clone();
        let client = layer.layer(api.clone());
        for _ in 0..TEN_MINUTES {
            let before = api.sends().len();
            let response = client.clone().oneshot(get()).await.unwrap();
            let audit = audit_of(&response);
            let sends = api.sends().len() - before;
            assert_eq!((response.status().as_u16(), usize::from(audit.sends)), (401, sends));
            let expected = if sends == 2 { ReplayOutcome::RejectedAgain } else { ReplayOutcome::BudgetExhausted };
            assert_eq!(audit.replay, expected);
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(fetches.count(), 1 + TEN_MINUTES / 60);
        assert_eq!(api.sends().len(), TEN_MINUTES + TEN_MINUTES / 60);
        let stats = source.stats();
        assert_eq!((stats.fetches, stats.replays), (11, 10));
        assert_eq!(stats.rejections, 610);
        assert_eq!((stats.rejections_of_unaccepted, stats.budget_exhausted), (610, 590));
    }
}

// R16, R64: a new token does not end the rejections, so refreshes after them become rarer: 10, 30, 70, 150 and 310 s after
// the first one.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_always_rejects_beside_one_that_accepts_stays_within_the_budget() {
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let api = Api::new(|request| match request.uri().path() {
        "/good" => response(StatusCode::OK),
        _ => rejection(""),
    });
    let layer = layer(provider);
    let source = layer.source().clone();
    let client = layer.layer(api.clone());
    for second in 0..TEN_MINUTES {
        for (path, status) in [("/good", 200), ("/bad", 401), ("/good", 200)] {
            let before = api.sends().len();
            let request = Request::get(format!("{API}{path}")).body(Body::default()).unwrap();
            let response = client.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "second {second}");
            assert!(api.sends().len() - before <= 2);
        }
        advance(Duration::from_secs(1)).await;
    }
    println!("{} token requests in ten minutes", fetches.count());
    assert_eq!(fetches.count(), 1 + 1 + 5);
    assert_eq!(source.stats().fetches, fetches.count() as u64);
}

// R51: the issuer revokes the older token. Each process revokes the token of the other, within the budget, and the
// counters show it.
#[tokio::test(start_paused = true)]
async fn two_processes_that_revoke_each_others_tokens_stay_within_their_budgets() {
    let minted = Arc::new(AtomicUsize::new(0));
    let latest = Arc::clone(&minted);
    let api = Api::new(move |request| {
        let number: usize = bearer(request).strip_prefix("token-").unwrap().parse().unwrap();
        if number < latest.load(Ordering::SeqCst) { rejection(INVALID_TOKEN) } else { response(StatusCode::OK) }
    });
    let sources = [(); 2].map(|()| {
        let minted = Arc::clone(&minted);
        TokenSource::new(from_fn(move || {
            let number = minted.fetch_add(1, Ordering::SeqCst) + 1;
            async move { token(number) }
        }))
    });
    let mut served = [0, 0];
    for _ in 0..TEN_MINUTES {
        for (process, source) in sources.iter().enumerate() {
            let before = api.sends().len();
            let client = source.layer().allow_origin(API).unwrap().layer(api.clone());
            let response = client.oneshot(get()).await.unwrap();
            served[process] += usize::from(response.status() == 200);
            assert!(api.sends().len() - before <= 2);
        }
        advance(Duration::from_secs(1)).await;
    }
    let fetches = sources.each_ref().map(|source| source.stats().fetches);
    println!("token requests {fetches:?}, served {served:?} of {TEN_MINUTES} each");
    assert_eq!(fetches.iter().sum::<u64>(), minted.load(Ordering::SeqCst) as u64, "counted at the issuer");
    // 12 refreshes within the budget. After that they become rare, so that an hour costs 72 at most.
    assert!(fetches.iter().all(|fetches| *fetches <= 1 + 12 + 5 + 600 / 80), "{fetches:?}");
    assert!(served.iter().all(|served| *served >= 20), "each process is served: {served:?}");
    let [first, second] = sources.map(|source| source.stats());
    assert!(
        first.rejections >= 20 && second.rejections >= 20,
        "tokens that are rejected before they expire are counted"
    );
    assert!(first.budget_exhausted + second.budget_exhausted > 100);
}

// R24
#[tokio::test(start_paused = true)]
async fn a_new_token_that_is_rejected_is_reported_and_kept() {
    for accepted_before in [false, true] {
        let (provider, fetches) = issuer(|n| async move { token(n) });
        let (api, revoked) = revocable(INVALID_TOKEN);
        let layer = layer(provider);
        let source = layer.source().clone();
        let client = layer.layer(api.clone());
        if accepted_before {
            assert_eq!(client.clone().oneshot(get()).await.unwrap().status(), 200);
        }
        revoked.up_to(2);
        let audit = audit_of(&client.clone().oneshot(get()).await.unwrap());
        assert_eq!((audit.generation, audit.sends, audit.replay), (Some(2), 2, ReplayOutcome::RejectedAgain));
        let stats = source.stats();
        assert_eq!((stats.rejections, stats.rejections_of_unaccepted), (2, if accepted_before { 1 } else { 2 }));
        // A rejected replay uses no budget and removes no token.
        assert_eq!(source.peek().unwrap().generation(), 2);
        let audit = audit_of(&client.clone().oneshot(get()).await.unwrap());
        assert_eq!((audit.generation, audit.sends, audit.replay), (Some(2), 1, ReplayOutcome::BudgetExhausted));
        // When every server accepts the token, requests succeed without another fetch.
        revoked.up_to(1);
        assert_eq!(client.oneshot(get()).await.unwrap().status(), 200);
        assert_eq!(fetches.count(), 2);
    }
}

// Only a 2xx shows that a token was accepted, and for gRPC only without an error in its headers.
#[tokio::test(start_paused = true)]
async fn only_a_success_marks_a_token_as_accepted() {
    let grpc = |status: &'static str| {
        let mut response = response(StatusCode::OK);
        response.headers_mut().insert("grpc-status", status.parse().unwrap());
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response
    };
    let table: [(Response<Body>, bool); 6] = [
        (response(StatusCode::OK), true),
        (response(StatusCode::NO_CONTENT), true),
        (grpc("0"), true),
        (grpc("5"), false),
        (response(StatusCode::NOT_FOUND), false),
        (response(StatusCode::FORBIDDEN), false),
    ];
    for (first, expected) in table {
        let (provider, _) = issuer(|n| async move { token(n) });
        let reject = Arc::new(Mutex::new(false));
        let (rejects, what) = (Arc::clone(&reject), format!("{first:?}"));
        let api = Api::new(move |_| if *rejects.lock() { rejection(INVALID_TOKEN) } else { first.clone() });
        let layer = layer(provider);
        let source = layer.source().clone();
        let client = layer.layer(api);
        client.clone().oneshot(get()).await.unwrap();
        *reject.lock() = true;
        client.oneshot(get()).await.unwrap();
        // The first rejection was of that token, the second of the next one.
        assert_eq!(source.stats().rejections_of_unaccepted, if expected { 1 } else { 2 }, "{what}");
    }
}

// The fetch takes longer than its token lives. The caller gets the rejection.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_returns_an_expired_token_counts_as_failed() {
    let (provider, _) = issuer(|n| async move {
        if n == 1 {
            return token(n);
        }
        sleep(Duration::from_secs(5)).await;
        Ok(IssuedToken::bearer("token-2")?.expires_in(Duration::from_secs(4)))
    });
    let (api, revoked) = revocable("");
    let client = layer(provider).layer(api.clone());
    assert_eq!(client.clone().oneshot(get()).await.unwrap().status(), 200);
    revoked.up_to(1);
    let response = client.oneshot(get()).await.unwrap();
    assert_eq!(audit_of(&response).replay, ReplayOutcome::RefreshFailed(ErrorKind::Unavailable));
    assert_eq!((response.status(), api.sends().len()), (StatusCode::UNAUTHORIZED, 2));
}
