//! The issuer of these tests: its script, its held requests and its counts.

use std::time::Duration;

use tower_bearer_auth::{ExtensionKey, FetchContext, TokenProvider as _};

use crate::common::{Issuer, Outcome, User, ms, secs, settle, unavailable};

#[tokio::test(start_paused = true)]
async fn the_script_comes_before_the_rule_and_the_times_are_recorded() {
    let issuer = Issuer::new();
    issuer.script_always(Outcome::Fail(unavailable()));
    issuer.script(Outcome::Mint);
    issuer.script(Outcome::Return("scripted"));
    let cx = FetchContext::default();
    let minted = issuer.fetch(&(), &cx).await.unwrap();
    assert_eq!((minted.expose_secret(), minted.lifetime()), ("first.1", Some(secs(1800))));
    issuer.set_lifetime(None);
    let scripted = issuer.fetch(&(), &cx).await.unwrap();
    assert_eq!((scripted.expose_secret(), scripted.lifetime()), ("scripted", None));
    assert!(issuer.fetch(&(), &cx).await.unwrap_err().is_transient());
    assert_eq!((issuer.requests(), issuer.minted(), issuer.dropped(), issuer.running()), (3, 2, 0, 0));
    assert_eq!(issuer.started(), [Duration::ZERO, ms(200), ms(400)]);
    assert_eq!(issuer.ended(), [ms(200), ms(400), ms(600)]);
    assert_eq!((issuer.last_minted_at(), issuer.last_failed_at()), (Some(ms(400)), Some(ms(600))));
}

#[tokio::test(start_paused = true)]
async fn a_held_request_waits_for_its_response_and_a_dropped_one_is_counted() {
    let issuer = Issuer::for_users();
    issuer.script_with(|request| if request.key.0 < 3 { Outcome::Hold } else { Outcome::Mint });
    let fetch = |user| {
        let issuer = issuer.clone();
        tokio::spawn(async move { issuer.fetch(&ExtensionKey(user), &FetchContext::default()).await })
    };
    let (one, two, three) = (fetch(1), fetch(2), fetch(3));
    assert_eq!(three.await.unwrap().unwrap().expose_secret(), "first.3.3");
    issuer.wait_held(2).await;
    assert_eq!(issuer.running(), 2);
    issuer.respond(0, Outcome::Return("of-one"));
    assert_eq!(one.await.unwrap().unwrap().expose_secret(), "of-one");
    two.abort();
    settle().await;
    issuer.release();
    assert_eq!((issuer.requests(), issuer.minted(), issuer.dropped(), issuer.running()), (3, 2, 1, 0));
    assert_eq!(issuer.requested_keys(), [1, 2, 3].map(|user: u32| -> User { ExtensionKey(user) }));
}
