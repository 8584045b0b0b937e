//! What the merchant and its users do.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tower_bearer_auth::BoxError;
use tower_bearer_auth::aeropay::Identity;

use crate::teller::Teller;

pub(crate) async fn tell() -> Result<(), BoxError> {
    let mut at = Teller::start().await?;
    let nothing = || json!({});

    println!("# The merchant creates two users and confirms them");
    let alice = at.enrol("alice").await?;
    let bob = at.enrol("bob").await?;
    at.confirm(&alice).await?;
    at.confirm(&bob).await?;

    println!("# Each acts with a token of their own");
    at.call(Method::GET, "/user", Some(&alice), nothing()).await?;
    at.call(Method::GET, "/aggregatorCredentials", Some(&alice), nothing()).await?;
    at.call(Method::POST, "/transaction", Some(&alice), json!({ "amount": 12, "uuid": "order-1" })).await?;
    at.call(Method::POST, "/transaction", Some(&bob), json!({ "amount": 30, "uuid": "order-2" })).await?;

    println!("# A user's request that names no user goes nowhere, and never as the merchant");
    at.call(Method::GET, "/user", None, nothing()).await?;

    println!("# POST /user disconnects alice, and only alice, until she is confirmed again");
    at.enrol("alice").await?;
    at.call(Method::GET, "/user", Some(&alice), nothing()).await?;
    at.call(Method::GET, "/user", Some(&bob), nothing()).await?;
    at.confirm(&alice).await?;
    at.source.invalidate_for(&Identity::user(alice.clone()));
    at.call(Method::GET, "/user", Some(&alice), nothing()).await?;

    println!("# A refund runs as the merchant");
    at.call(Method::GET, "/reverseTransaction", None, nothing()).await?;

    println!("# Half an hour later bob's token has expired, and a new one is asked for before the request is sent");
    at.wait(Duration::from_secs(1801));
    at.call(Method::POST, "/transaction", Some(&bob), json!({ "amount": 7, "uuid": "order-3" })).await?;

    println!("# Another is refused inside of a 200, and the request is sent once more");
    at.sandbox.revoke_user(bob.as_str());
    at.call(Method::POST, "/transaction", Some(&bob), json!({ "amount": 8, "uuid": "order-4" })).await?;

    println!("# All in all");
    at.tell_token_requests();
    println!("{} requests at the API, {} movements of money", at.sandbox.call_count(), at.sandbox.transactions().len());
    Ok(())
}
