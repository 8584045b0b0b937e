//! The contract of `TokenStore`.

use tower_bearer_auth::shared::contract;

use crate::server::Server;

// R86 to R91: what the flow of a fetch relies on.
pub(crate) async fn one_server() {
    let server = Server::start(&[]);
    contract::run(&server.store()).await.unwrap();
    assert!(server.keys().await.iter().all(|key| key.starts_with("tba:{")));
}
