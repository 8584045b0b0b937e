//! reqwest as a tower stack, and reqwest with a `TokenSource` and without the layer. The TLS configuration names its
//! cryptography.

use http::{Request, Response, header};
use reqwest::{Body, Client, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tower::{ServiceBuilder, ServiceExt as _};
use tower_bearer_auth::replay::{Buffered, ReplayBody};

use super::*;

fn client(stage: &Stage, http: Http) -> Client {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(stage.sandbox.ca_pem().as_bytes()).unwrap()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = match http {
        Http::One => vec!["http/1.1".into()],
        Http::Two => vec!["h2".into()],
    };
    let builder = Client::builder().tls_backend_preconfigured(tls);
    builder.redirect(redirect::Policy::none()).no_proxy().build().unwrap()
}

// R4, R19, R20, R22
#[tokio::test]
async fn a_reqwest_stack_survives_expired_and_revoked_tokens() {
    for http in [Http::One, Http::Two] {
        let stage = Stage::set().await;
        let wrap: fn(ReplayBody<Body>) -> Body = Body::wrap;
        let stack = ServiceBuilder::new()
            .layer(stage.source.layer().bodies(Buffered::new(1024, wrap)))
            .map_response(Response::<Body>::from)
            .filter(|request: Request<Body>| reqwest::Request::try_from(request))
            .service(client(&stage, http));
        is_shared(&stack);
        through_expiries_and_a_revocation(&stage, http, || {
            let request = Request::put(stage.echo()).body(Body::from("the same body twice")).unwrap();
            let call = is_sent(stack.clone().oneshot(request));
            async move { call.await.unwrap().status() }
        })
        .await;
        assert!(stage.sandbox.api_requests().iter().all(|request| request.body == "the same body twice"));
    }
}

/// Does what the layer does, without it.
async fn by_hand(client: Client, source: TokenSource<AccessPsp>, url: String) -> StatusCode {
    let mut token = source.token().await.unwrap();
    let mut response = client.get(&url).header(header::AUTHORIZATION, token.header_value()).send().await.unwrap();
    if response.status() == StatusCode::UNAUTHORIZED && source.reject(&(), &token) {
        token = source.token().await.unwrap();
        response = client.get(&url).header(header::AUTHORIZATION, token.header_value()).send().await.unwrap();
    }
    if response.status().is_success() {
        source.accept(&token);
    }
    response.status()
}

// R4, R22: `accept` and `reject` lead to the same counts without the layer.
#[tokio::test]
async fn a_source_without_the_layer_survives_an_expired_and_a_revoked_token() {
    for http in [Http::One, Http::Two] {
        let stage = Stage::set().await;
        let client = client(&stage, http);
        is_shared(&stage.source);
        let burst = || {
            let call = || is_sent(by_hand(client.clone(), stage.source.clone(), stage.echo()));
            let calls: Vec<_> = (0..CALLS).map(|_| tokio::spawn(call())).collect();
            async move {
                for call in calls {
                    assert_eq!(within("a response", call).await.unwrap(), StatusCode::OK);
                }
            }
        };
        burst().await;
        stage.age(OVER);
        burst().await;
        assert_eq!((stage.sandbox.token_request_count(), stage.judged(Verdict::Accepted)), (2, 2 * CALLS));
        stage.sandbox.hold();
        let responses = burst();
        within("the API holds them", stage.sandbox.wait_held(CALLS)).await;
        stage.sandbox.revoke_all();
        stage.sandbox.release();
        responses.await;
        assert_eq!((stage.sandbox.token_request_count(), stage.judged(Verdict::Revoked)), (3, CALLS));
        assert_eq!(stage.sandbox.api_request_count(), 4 * CALLS);
        assert!(stage.sandbox.api_requests().iter().all(|request| request.version == version_of(http)));
        assert_eq!(stage.source.stats().fetches, 3);
        no_process_default();
    }
}
