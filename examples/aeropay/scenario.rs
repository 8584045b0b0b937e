//! What the merchant and its users do.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tower_bearer_auth::BoxError;

use crate::client::PrintingClient;

pub(crate) async fn run() -> Result<(), BoxError> {
    let mut client = PrintingClient::start().await?;
    let nothing = || json!({});

    println!("# The merchant creates two users and confirms them");
    let alice = client.create_user("alice").await?;
    let bob = client.create_user("bob").await?;
    client.confirm(&alice).await?;
    client.confirm(&bob).await?;

    println!("# Each user has a token");
    client.call(Method::GET, "/user", Some(&alice), nothing()).await?;
    client.call(Method::GET, "/aggregatorCredentials", Some(&alice), nothing()).await?;
    client.call(Method::POST, "/transaction", Some(&alice), json!({ "amount": 12, "uuid": "order-1" })).await?;
    client.call(Method::POST, "/transaction", Some(&bob), json!({ "amount": 30, "uuid": "order-2" })).await?;

    println!("# A request of a user that names no user is not sent. It never uses the merchant's token");
    client.call(Method::GET, "/user", None, nothing()).await?;

    println!("# POST /user disconnects alice until she is confirmed again. bob stays connected");
    client.create_user("alice").await?;
    client.call(Method::GET, "/user", Some(&alice), nothing()).await?;
    client.call(Method::GET, "/user", Some(&bob), nothing()).await?;
    client.confirm(&alice).await?;
    // The token request failed permanently, so the next one starts after a backoff of 2.5 to 5 seconds. Until then, requests have
    // the rejected token.
    client.advance(Duration::from_secs(5));
    client.call(Method::GET, "/user", Some(&alice), nothing()).await?;

    println!("# A refund uses the merchant's token");
    client.call(Method::GET, "/reverseTransaction", None, nothing()).await?;

    println!("# After half an hour bob's token has expired. A new one is fetched before the request is sent");
    client.advance(Duration::from_secs(1801));
    client.call(Method::POST, "/transaction", Some(&bob), json!({ "amount": 7, "uuid": "order-3" })).await?;

    println!("# The server rejects bob's token in a 200. The request is replayed with a new token");
    client.sandbox.revoke_user(bob.as_str());
    client.call(Method::POST, "/transaction", Some(&bob), json!({ "amount": 8, "uuid": "order-4" })).await?;

    println!("# Summary");
    client.print_token_requests();
    println!(
        "{} requests at the API, {} transactions",
        client.sandbox.api_request_count(),
        client.sandbox.transactions().len()
    );
    Ok(())
}
