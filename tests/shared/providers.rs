//! R92 and R94 for the providers of this crate: which settings make another record.

use std::sync::Arc;

use http::{Response, StatusCode};
use parking_lot::Mutex;
use tower_bearer_auth::aeropay::{Credentials, Identity as Key};
use tower_bearer_auth::shared::{Identity, MemoryStore, Shareable, Shared};
use tower_bearer_auth::{
    Aeropay, BasicEncoding, ClientCredentials, ClientCredentialsBuilder, Error, FetchContext, IssuedToken, Secret,
    SecretValue, TokenProvider, TokenSource, aeropay, from_fn,
};

use crate::faulty_store::Server;
use crate::support::api::Api;
use crate::support::responses::response_with;
use crate::world::{KEY, key};

/// An issuer that counts its tokens.
fn issuer() -> Api {
    let count = Mutex::new(0);
    Api::new(move |_| {
        *count.lock() += 1;
        let body = format!(r#"{{"access_token":"token-{}","token_type":"Bearer","expires_in":1800}}"#, *count.lock());
        response_with(StatusCode::OK, body)
    })
}

fn client(issuer: &Api) -> ClientCredentialsBuilder {
    ClientCredentials::builder()
        .token_url("https://issuer.test/token")
        .client_id("orders")
        .client_secret("secret")
        .api_origin("https://api.test")
        .http_client(issuer.clone())
}

/// The token of a fetch, and the name of its record.
async fn fetched<P: Shareable>(provider: P, key_of: &P::Key, server: &Server) -> (String, String) {
    let before = server.names();
    let shared = Shared::builder(provider, server.handle()).sealing_key(key(KEY)).build().unwrap();
    let token = shared.fetch(key_of, &FetchContext::default()).await.unwrap().expose_secret().to_owned();
    let new = server.names().into_iter().find(|name| !before.contains(name));
    (token, new.unwrap_or_default())
}

// R92
#[tokio::test(start_paused = true)]
async fn equal_clients_share_their_tokens_and_each_setting_that_matters_makes_another_record() {
    let (issuer, server) = (issuer(), Server::default());
    let (first, name) = fetched(client(&issuer).build().unwrap(), &(), &server).await;
    assert_eq!(name.len(), 43);
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')), "{name}");
    // Other processes: settings that do not change the token change nothing.
    let same = [client(&issuer), client(&issuer).label("another"), client(&issuer).api_origin("https://other.test")];
    for builder in same {
        assert_eq!(fetched(builder.build().unwrap(), &(), &server).await, (first.clone(), String::new()));
    }
    let others = [
        client(&issuer).token_url("https://issuer.test/realms/other/token"),
        client(&issuer).token_url("https://issuer.test/token?realm=other"),
        client(&issuer).client_id("order"),
        client(&issuer).client_secret("secrets"),
        client(&issuer).scope("read"),
        client(&issuer).scope("read write"),
        client(&issuer).audience("read"),
        client(&issuer).resource("https://api.test/read"),
        client(&issuer).resource("https://api.test/read").resource("https://api.test/write"),
        client(&issuer).parameter("tenant", "a"),
        client(&issuer).parameter("tenant", "b"),
        client(&issuer).parameter("tenan", "ta"),
        client(&issuer).scope("read").audience("read"),
        client(&issuer).token_header("x-api-key", "key"),
        client(&issuer).client_secret_basic(BasicEncoding::Percent),
        client(&issuer).client_secret_basic(BasicEncoding::Raw),
        client(&issuer).accept_token_type("a"),
        client(&issuer).parameter("token_types", "a"),
    ];
    let count = others.len();
    let mut names = vec![name];
    for builder in others {
        let (_, name) = fetched(builder.build().unwrap(), &(), &server).await;
        assert!(!name.is_empty() && !names.contains(&name), "the record number {} is one of another", names.len());
        names.push(name);
    }
    assert_eq!(issuer.sends().len(), 1 + count);
}

// R94
#[tokio::test(start_paused = true)]
async fn a_secret_that_changes_makes_another_record() {
    let (issuer, server) = (issuer(), Server::default());
    let secret = Arc::new(Mutex::new("old"));
    let build = || {
        let secret = Arc::clone(&secret);
        let loaded = Secret::from_fn(move || Ok(SecretValue::from(*secret.lock())));
        client(&issuer).client_secret(loaded).build().unwrap()
    };
    let (old, _) = fetched(build(), &(), &server).await;
    assert_eq!(fetched(build(), &(), &server).await.0, old);
    *secret.lock() = "new";
    let (new, name) = fetched(build(), &(), &server).await;
    assert!(new != old && !name.is_empty());
    *secret.lock() = "old";
    assert_eq!(fetched(build(), &(), &server).await.0, old);
}

#[cfg(feature = "private-key-jwt")]
#[tokio::test(start_paused = true)]
async fn a_client_with_a_private_key_shares_its_tokens_with_those_of_the_same_key() {
    use tower_bearer_auth::{PrivateKeyJwt, SigningAlgorithm};

    // R92, R94
    let (issuer, server) = (issuer(), Server::default());
    let pems = [(); 2].map(|()| rcgen::KeyPair::generate().unwrap().serialize_pem());
    let build = |pem: &str| {
        let signer = PrivateKeyJwt::new(SigningAlgorithm::Es256, pem);
        let builder = ClientCredentials::builder().token_url("https://issuer.test/token").client_id("orders");
        builder.private_key_jwt(signer).api_origin("https://api.test").http_client(issuer.clone()).build().unwrap()
    };
    let (first, _) = fetched(build(&pems[0]), &(), &server).await;
    // Each assertion is another one, and the record is the same.
    assert_eq!(fetched(build(&pems[0]), &(), &server).await.0, first);
    assert_ne!(fetched(build(&pems[1]), &(), &server).await.0, first);
}

fn merchant(issuer: &Api, id: u64, secret: &str) -> Aeropay {
    Aeropay::builder()
        .environment(aeropay::Environment::Sandbox)
        .api_key("key")
        .api_secret(secret)
        .merchant_id(id)
        .credentials_for(|_| Ok(Credentials::new("key", "secret")))
        .http_client(issuer.clone())
        .build()
        .unwrap()
}

// R92: LiteLLM #31474, openlark #168
#[tokio::test(start_paused = true)]
async fn no_user_and_no_merchant_gets_the_token_of_another_one() {
    let count = Mutex::new(0);
    let issuer = Api::new(move |_| -> Response<_> {
        *count.lock() += 1;
        let body = format!(r#"{{"data":{{"success":1}},"token":"token-{}","TTL":1800}}"#, *count.lock());
        response_with(StatusCode::OK, body)
    });
    let server = Server::default();
    let keys = [
        (1057, Key::merchant()),
        (1057, Key::user("27bccca2")),
        (1057, Key::user("27bccca")),
        (1057, Key::user("")),
        (1058, Key::merchant()),
        (1058, Key::user("27bccca2")),
    ];
    let mut names = Vec::new();
    for (id, identity) in &keys {
        let shared = merchant(&issuer, *id, "secret").identity(identity).await.unwrap();
        let provider = from_fn(|| async { IssuedToken::bearer("a") }).identified_by(shared);
        let (_, name) = fetched(provider, &(), &server).await;
        assert!(!name.is_empty() || !names.is_empty(), "{identity:?}");
        names.push(name);
    }
    let distinct: std::collections::BTreeSet<&String> = names.iter().filter(|name| !name.is_empty()).collect();
    assert_eq!(distinct.len(), keys.len(), "{names:?}");
    // The same merchant of a platform, named in the key.
    let named = merchant(&issuer, 1, "secret").identity(&Key::merchant().at("1057")).await.unwrap();
    let provider = from_fn(|| async { IssuedToken::bearer("b") }).identified_by(named);
    assert_eq!(fetched(provider, &(), &server).await, ("a".to_owned(), String::new()));
    let other_secret = merchant(&issuer, 1057, "another").identity(&Key::merchant()).await.unwrap();
    let provider = from_fn(|| async { IssuedToken::bearer("c") }).identified_by(other_secret);
    assert_eq!(fetched(provider, &(), &server).await.0, "c");
}

// R92
#[tokio::test(start_paused = true)]
async fn a_shared_provider_in_an_arc_and_one_that_is_chosen_at_run_time_work_too() {
    let issuer = issuer();
    let store = MemoryStore::new();
    let shared = || {
        let provider = Arc::new(client(&issuer).label("orders").build().unwrap());
        Shared::builder(provider, store.clone()).sealing_key(key(KEY)).build().unwrap()
    };
    assert_eq!(shared().label(), "orders");
    assert!(format!("{:?}", shared()).contains("orders"));
    let chosen = TokenSource::new(tower_bearer_auth::DynProvider::new(shared()));
    assert_eq!(chosen.token().await.unwrap().expose_secret(), "token-1");
    assert_eq!(TokenSource::new(shared()).token().await.unwrap().expose_secret(), "token-1");
}

// R92: a token in another scheme keeps it.
#[tokio::test(start_paused = true)]
async fn a_token_keeps_its_scheme_in_the_store() {
    let server = Server::default();
    for (at, token) in
        [IssuedToken::bearer("a:b|c"), IssuedToken::raw("a:b|c"), IssuedToken::with_scheme("Token", "a:b|c")]
            .into_iter()
            .enumerate()
    {
        let token = token.unwrap();
        let identity = || Identity::new("https://issuer.test").field("scheme", at.to_string());
        let expected = {
            let token = token.clone();
            TokenSource::new(from_fn(move || std::future::ready(Ok(token.clone())))).token().await.unwrap()
        };
        for _ in 0..2 {
            let token = token.clone();
            let provider = from_fn(move || std::future::ready(Ok(token.clone()))).identified_by(identity());
            let shared = Shared::builder(provider, server.handle()).sealing_key(key(KEY)).build().unwrap();
            let got = TokenSource::new(shared).token().await.unwrap();
            assert_eq!(got.header_value(), expected.header_value());
            assert_eq!(got.expose_secret(), "a:b|c");
            assert!(got.header_value().is_sensitive());
        }
    }
    assert_eq!(server.tokens().len(), 3);
}

/// An unsigned JWT with these claims and this id.
fn assertion(issuer: &str, subject: &str, id: u32) -> String {
    use base64::Engine as _;
    let encode = |json: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
    let claims = format!(r#"{{"iss":"{issuer}","sub":"{subject}","jti":"{id}"}}"#);
    format!("{}.{}.c2lnbmF0dXJl", encode(r#"{"alg":"RS256"}"#.to_owned()), encode(claims))
}

// R94: the assertion of workload identity differs in each pod.
#[tokio::test(start_paused = true)]
async fn processes_with_assertions_for_one_subject_share_a_token() {
    let (issuer, server) = (issuer(), Server::default());
    let build = |assertion: String| {
        let builder = ClientCredentials::builder().token_url("https://issuer.test/token").client_id("orders");
        builder.client_assertion(assertion).api_origin("https://api.test").http_client(issuer.clone()).build().unwrap()
    };
    let (first, _) = fetched(build(assertion("https://k8s.test", "orders", 1)), &(), &server).await;
    assert_eq!(fetched(build(assertion("https://k8s.test", "orders", 2)), &(), &server).await.0, first);
    let others = [
        assertion("https://k8s.test", "other", 3),
        assertion("https://other.test", "orders", 4),
        "no.jwt.at-all".to_owned(),
        "neither.is.this".to_owned(),
    ];
    for other in others {
        assert!(!fetched(build(other), &(), &server).await.1.is_empty());
    }
    assert_eq!(issuer.sends().len(), 5);
}

// R92, R98
#[tokio::test(start_paused = true)]
async fn each_api_of_one_client_has_a_record_of_its_own() {
    use tower_bearer_auth::TargetApi;

    let (issuer, server) = (issuer(), Server::default());
    let build = || client(&issuer).scope("default").build_keyed().unwrap();
    let (own, _) = fetched(build(), &TargetApi::new(), &server).await;
    let (read, _) = fetched(build(), &TargetApi::new().scope("read"), &server).await;
    assert_ne!(own, read);
    // The same scope, however it is set.
    assert_eq!(fetched(build(), &TargetApi::new().scope("default"), &server).await.0, own);
    assert_eq!(fetched(client(&issuer).scope("read").build().unwrap(), &(), &server).await.0, read);
    assert_eq!(issuer.sends().len(), 2);
}

/// A client of an issuer that rejects every client.
fn rejected(code: &'static str) -> Api {
    Api::new(move |_| response_with(StatusCode::UNAUTHORIZED, format!(r#"{{"error":"{code}"}}"#)))
}

/// The error of a process whose issuer rejects it, and the result of another process after that.
async fn one_rejected_and_another(
    build: [ClientCredentialsBuilder; 2],
    code: &'static str,
) -> (Error, Result<String, Error>) {
    let server = Server::default();
    let token = |builder: ClientCredentialsBuilder, issuer: Api| {
        let provider = builder.http_client(issuer).build().unwrap();
        let shared = Shared::builder(provider, server.handle()).sealing_key(key(KEY)).build().unwrap();
        async move { TokenSource::new(shared).token().await.map(|token| token.expose_secret().to_owned()) }
    };
    let [wrong, right] = build;
    let error = token(wrong, rejected(code)).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
    (error, token(right, issuer()).await)
}

// R95
#[tokio::test(start_paused = true)]
async fn a_process_with_other_settings_does_not_keep_the_others_from_the_issuer() {
    let post = || client(&issuer());
    let basic = |encoding| client(&issuer()).client_secret_basic(encoding);
    let by_assertion = |id| {
        let builder = ClientCredentials::builder().token_url("https://issuer.test/token").client_id("orders");
        builder.client_assertion(assertion("https://k8s.test", "orders", id)).api_origin("https://api.test")
    };
    let by_certificate = || {
        let builder = ClientCredentials::builder().token_url("https://issuer.test/token").client_id("orders");
        builder.mutual_tls().api_origin("https://api.test")
    };
    for code in ["invalid_client", "unauthorized_client"] {
        let cases = [
            [basic(BasicEncoding::Percent), post()],
            [basic(BasicEncoding::Percent), basic(BasicEncoding::Raw)],
            // The file with the assertion of one pod is out of date.
            [by_assertion(1), by_assertion(2)],
            // The certificate of one process has expired.
            [by_certificate(), by_certificate()],
        ];
        for (number, case) in cases.into_iter().enumerate() {
            let (_, token) = one_rejected_and_another(case, code).await;
            assert_eq!(token.as_deref().unwrap(), "token-1", "case {number}");
        }
    }
    // The same secret, sent in the same way, is wrong for all of them.
    let (error, other) = one_rejected_and_another([post(), post()], "invalid_client").await;
    assert_eq!(other.unwrap_err().to_string(), error.to_string());
}

// R95
#[cfg(feature = "private-key-jwt")]
#[tokio::test(start_paused = true)]
async fn a_process_with_another_key_id_or_audience_does_not_keep_the_others_from_the_issuer() {
    use tower_bearer_auth::{PrivateKeyJwt, SigningAlgorithm};

    let pem = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&pem).unwrap().pem();
    let pem = pem.serialize_pem();
    let signer = || PrivateKeyJwt::new(SigningAlgorithm::Es256, pem.as_str());
    let by = |signer| {
        let builder = ClientCredentials::builder().token_url("https://issuer.test/token").client_id("orders");
        builder.private_key_jwt(signer).api_origin("https://api.test")
    };
    let others = [
        signer().key_id("1"),
        signer().audience("https://issuer.test"),
        signer().lifetime(std::time::Duration::from_secs(600)),
        signer().certificate(certificate.as_str()),
        signer().certificate_sha1(certificate.as_str()),
    ];
    for other in others {
        let (_, token) = one_rejected_and_another([by(other), by(signer())], "invalid_client").await;
        assert_eq!(token.unwrap(), "token-1");
    }
    let (error, other) = one_rejected_and_another([by(signer()), by(signer())], "invalid_client").await;
    assert_eq!(other.unwrap_err().to_string(), error.to_string());
}
