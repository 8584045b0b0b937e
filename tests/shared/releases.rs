//! What the processes of two releases have in common: the names of their records, and what is in them.
//!
//! During a rolling deploy, two releases run side by side. If the newer one uses another name, the issuer gets twice as many token
//! requests, and with [`OnStoreFailure::Fail`](tower_bearer_auth::shared::OnStoreFailure::Fail) each half of the fleet may revoke
//! the token of the other. Another implementation, in another language, computed the names and the records in this file.
//!
//! A change needs another `FORMAT` in `src/shared/identity.rs` or `src/shared/record.rs`, and a line in the changelog. The format
//! is part of what the name is computed from, and it is authenticated in a record. So no two formats have a name in common.

use tower_bearer_auth::ErrorKind;

use crate::faulty_store::Record;
use crate::world::{World, ms, secs};

#[cfg(all(feature = "client-credentials", feature = "private-key-jwt", feature = "aeropay"))]
mod names {
    use tower_bearer_auth::shared::{Identity, Shareable, Shared};
    use tower_bearer_auth::{
        Aeropay, BasicEncoding, ClientCredentials, ClientCredentialsBuilder, FetchContext, IssuedToken, PrivateKeyJwt,
        Secret, SecretValue, SigningAlgorithm, TargetApi, TokenProvider as _, aeropay, from_fn,
    };

    use crate::faulty_store::Server;
    use crate::support::api::Api;
    use crate::support::responses::response;
    use crate::world::{KEY, key};

    async fn name_of(identity: Identity) -> String {
        let server = Server::default();
        let provider = from_fn(|| async { IssuedToken::bearer("a") }).identified_by(identity);
        let shared = Shared::builder(provider, server.handle()).namespace("production").sealing_key(key(KEY));
        shared.build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap();
        server.names().remove(0)
    }

    fn nobody() -> Api {
        Api::new(|_| response(http::StatusCode::NOT_FOUND))
    }

    fn client() -> ClientCredentialsBuilder {
        let builder = ClientCredentials::builder().token_url("https://issuer.test/token").client_id("orders");
        builder.scope("read").api_origin("https://api.test").http_client(nobody())
    }

    // R92, R94
    #[tokio::test(start_paused = true)]
    async fn two_releases_have_one_name_for_the_record_of_a_client() {
        // {"alg":"RS256"}, {"iss":"https://k8s.test","sub":"orders"}
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2s4cy50ZXN0Iiwic3ViIjoib3JkZXJzIn0.c2ln";
        // A key from a function is checked when it signs, and here nothing is signed.
        let private_key = Secret::from_fn(|| Ok(SecretValue::from("a private key")));
        let signer = PrivateKeyJwt::new(SigningAlgorithm::Es256, private_key).key_id("2026-11");
        let secret = || client().client_secret("secret");
        let all = secret()
            .accept_token_type("a")
            .accept_token_type("other")
            .resource("https://api.test/a")
            .resource("https://api.test/b")
            .audience("orders")
            .parameter("tenant", "a")
            .token_header("x-api-key", "header-key");
        let forms = [
            ("client_secret_post", secret(), "5FKQGCFMyD7BEtVEpFtfjbQdEEkQDp5XzWG5mcgeWjY"),
            (
                "client_secret_basic, percent",
                secret().client_secret_basic(BasicEncoding::Percent),
                "ahfu2pFIxTE2UyjHM9n77sPY9E_pGvfVHBz5A1bkII0",
            ),
            (
                "client_secret_basic, raw",
                secret().client_secret_basic(BasicEncoding::Raw),
                "2mlEPM0uoTIa43YaBPVEWxGbBMmCEEsuRXOzbF-e0Us",
            ),
            ("private_key_jwt", client().private_key_jwt(signer), "m99Tn6a_ElIz1rsHCUNaGNjbOSXMzQlJqmpW_SsuAoY"),
            ("client_assertion, a JWT", client().client_assertion(jwt), "h2iwtX8Hfw44MYt62IIN5MvdmB0_4Vvjz98uGNdXtWQ"),
            (
                "client_assertion, not a JWT",
                client().client_assertion("an.opaque.assertion"),
                "LSFhl1cilJ5ezBbZ6kzpBou5I2nkYRMfXNY1D7TRE9o",
            ),
            ("mutual TLS", client().mutual_tls(), "2LpKIKlICWFlCvz5sXUu27OhQbxggW1bK1lcPJJT2B8"),
            ("all settings", all, "8ZZmUtVLgdu5gORSzZczFoUJtl61cuAaTF-pYKR-x1k"),
        ];
        let mut changed = Vec::new();
        for (form, builder, expected) in forms {
            let name = name_of(builder.build().unwrap().identity(&()).await.unwrap()).await;
            if name != expected {
                changed.push(format!("{form}: {name} was {expected}"));
            }
        }
        assert!(changed.is_empty(), "two releases share no token: {changed:#?}");
        // A client with a key for each API has the same names.
        let keyed = client().client_secret("secret").scope("none").build_keyed().unwrap();
        let identity = keyed.identity(&TargetApi::new().scope("read")).await.unwrap();
        assert_eq!(name_of(identity).await, "5FKQGCFMyD7BEtVEpFtfjbQdEEkQDp5XzWG5mcgeWjY");
    }

    // R92, R94
    #[tokio::test(start_paused = true)]
    async fn two_releases_have_one_name_for_the_record_of_a_merchant_and_of_a_user() {
        let provider = Aeropay::builder()
            .environment(aeropay::Environment::Sandbox)
            .api_key("key")
            .api_secret("secret")
            .merchant_id(1057)
            .http_client(nobody())
            .build()
            .unwrap();
        for (key, expected) in [
            (aeropay::Identity::merchant(), "oUv_AMCtFgRFlZl4BtsKY0TuvsrKTn-UvRmaVAODl70"),
            (aeropay::Identity::user("27bccca2"), "j8w01dWBnpJi64AENJWh6eBi2o5hCnvUGxPrEuSTPUs"),
        ] {
            assert_eq!(name_of(provider.identity(&key).await.unwrap()).await, expected, "{key:?}");
        }
    }
}

/// A record that another release sealed with the key of these tests.
fn record(is_token: bool, keep: std::time::Duration, hex: &str) -> Record {
    let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    // The name is that of a process of these tests, with its namespace and its secret.
    let name = "Eb8VI3Zm9QT7QStUdI13AmHzkE6KlDSXT6ZFcUjQbQ4".to_owned();
    Record { name, is_token, version: *b"an older release", bytes, keep }
}

// R93
#[tokio::test(start_paused = true)]
async fn a_process_takes_the_token_of_another_release() {
    let world = World::new();
    let token = record(
        true,
        ms(1_799_800),
        "0100000000001b7678000102030405060708090a0b0c0d0e0f101112131415161740943f606aba3aef5f639434d3dfc4dff25baaac3602cf\
         e1b80834e68b84fa45bea0a3cc5352024c197c613c22161be83ae8b534de327968c3cddb",
    );
    world.server.put(&token).await;
    let process = world.process();
    assert_eq!(process.token().await.unwrap(), "of-an-older-release");
    assert_eq!((world.requests(), process.stats().store_unopened), (0, 0));
}

// R93, R95
#[tokio::test(start_paused = true)]
async fn a_process_adopts_the_failure_that_another_release_has_noted() {
    let world = World::new();
    let note = record(
        false,
        secs(4),
        "010000000000000fa0000102030405060708090a0b0c0d0e0f101112131415161742943f61fba15ec63115f558babb9b74877caba82a13d4\
         a0bb1d19898cc7e348b6acb5be425b074c167b04924aaaf19bda165185b29ce521a6bc8ac89ab9d6428d0625ab28e864bc8d5241a6b5ae13\
         213f8e8eb1bb7d99b222f0e9eb4ffe013ceedf2e69176af9b4581f180e0bc95eab74f9e18c",
    );
    world.server.put(&note).await;
    let process = world.process();
    let error = process.source.token().await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::InvalidCredentials, Some(http::StatusCode::UNAUTHORIZED)));
    assert_eq!((error.code(), error.hint()), (Some("invalid_client"), Some("set the right secret")));
    assert_eq!((world.requests(), process.stats().store_unopened), (0, 0));
}
