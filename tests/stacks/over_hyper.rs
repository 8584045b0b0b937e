//! hyper-util's pooled client.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::replay::Cloned;

use super::*;

// R4, R19, R20, R22
#[tokio::test]
async fn a_hyper_client_survives_expired_and_revoked_tokens() {
    for http in [Http::One, Http::Two] {
        let stage = Stage::set().await;
        let client = stage.source.layer().bodies(Cloned).layer(https::client::<Full<Bytes>>(&stage.sandbox, http));
        is_shared(&client);
        through_expiries_and_a_revocation(&stage, http, || {
            let request = Request::put(stage.echo()).body(Full::from("the same body twice")).unwrap();
            let call = is_sent(client.clone().oneshot(request));
            async move {
                let response = call.await.unwrap();
                let status = response.status();
                response.into_body().collect().await.unwrap();
                status
            }
        })
        .await;
        assert!(stage.sandbox.api_requests().iter().all(|request| request.body == "the same body twice"));
    }
}
