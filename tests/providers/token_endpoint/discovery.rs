//! The metadata of an issuer (RFC 8414): where it is requested, and which metadata is accepted.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{
    BasicEncoding, ClientCredentials, ClientCredentialsBuilder, Error, ErrorKind, FetchContext, PrivateKeyJwt,
    SigningAlgorithm, TokenProvider as _,
};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault, ScriptedResponse};

use super::wire::GOOD;
use crate::support::canary::shown_in;

const OAUTH: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

type Pages = HashMap<String, (u16, String)>;

/// A server with a few pages that records the requests. Any other path is a 404.
struct Site {
    address: SocketAddr,
    pages: Arc<Mutex<Pages>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (pages, requests): (Arc<Mutex<Pages>>, Arc<Mutex<Vec<String>>>) = Default::default();
        let (have, keep) = (Arc::clone(&pages), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (have, keep) = (Arc::clone(&have), Arc::clone(&keep));
                let service = service_fn(move |request: Request<Incoming>| {
                    let line = format!("{} {}", request.method(), request.uri());
                    let page = have.lock().get(request.uri().path()).cloned();
                    keep.lock().push(line);
                    let (status, body) = page.unwrap_or_else(|| (404, "<html>not here</html>".to_owned()));
                    let response = Response::builder().status(status).header("location", "/elsewhere");
                    async move { Ok::<_, Infallible>(response.body(Full::<Bytes>::from(body)).unwrap()) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, pages, requests }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    fn page(&self, path: &str, status: u16, body: impl ToString) {
        self.pages.lock().insert(path.to_owned(), (status, body.to_string()));
    }

    /// The requests since the last call.
    fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock())
    }

    fn document(&self, path: &str) -> Value {
        json!({ "issuer": format!("{}{path}", self.origin()), "token_endpoint": format!("{}/token", self.origin()) })
    }
}

async fn discover(issuer: &str) -> Result<ClientCredentialsBuilder, Error> {
    ClientCredentials::builder().client_id("id").api_origin("https://api.test").discover(issuer).await
}

async fn rejected(issuer: &str) -> Error {
    discover(issuer).await.map(drop).unwrap_err()
}

// RFC 8414 section 3.1, OpenID Connect Discovery section 4.
#[tokio::test]
async fn the_metadata_is_requested_once_from_the_standard_locations() {
    for (path, found, expected) in [
        ("", OAUTH.to_owned(), vec![OAUTH.to_owned()]),
        ("/", OAUTH.to_owned(), vec![OAUTH.to_owned()]),
        ("/tenant/7", format!("{OAUTH}/tenant/7"), vec![format!("{OAUTH}/tenant/7")]),
        ("/tenant/7/", format!("{OAUTH}/tenant/7"), vec![format!("{OAUTH}/tenant/7")]),
        ("", OPENID.to_owned(), vec![OAUTH.to_owned(), OPENID.to_owned()]),
        ("/a", format!("/a{OPENID}"), vec![format!("{OAUTH}/a"), format!("/a{OPENID}")]),
    ] {
        let site = Site::start().await;
        site.page(&found, 200, site.document(path));
        site.page("/token", 200, GOOD);
        let builder = discover(&format!("{}{path}", site.origin())).await.unwrap();
        let expected: Vec<String> = expected.iter().map(|path| format!("GET {path}")).collect();
        assert_eq!(site.take_requests(), expected, "{path}");
        let provider = builder.client_secret("secret").build().unwrap();
        provider.fetch(&(), &FetchContext::default()).await.unwrap();
        provider.fetch(&(), &FetchContext::default()).await.unwrap();
        // It is not requested again.
        assert_eq!(site.take_requests(), ["POST /token", "POST /token"]);
    }
}

// RFC 8414 section 3.3.
#[tokio::test]
async fn metadata_with_another_issuer_is_rejected() {
    let site = Site::start().await;
    let origin = site.origin();
    for (name, issuer, hint) in [
        (json!("https://evil.test/CANARY"), origin.clone(), "character by character"),
        (json!(format!("{origin}/")), origin.clone(), "slash"),
        (json!(origin), format!("{origin}/"), "slash"),
        (json!(origin.to_uppercase()), origin.clone(), "character by character"),
        (json!(format!("{origin}/CANARY")), origin.clone(), "character by character"),
    ] {
        site.page(OAUTH, 200, json!({ "issuer": name, "token_endpoint": format!("{origin}/token") }));
        let error = rejected(&issuer).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{name}");
        assert!(error.hint().unwrap().contains(hint), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
        assert_eq!(site.take_requests().len(), 2);
    }
}

// R60: Django responds to an unknown path with a redirect. Other issuers have a document at each location, with two names.
#[tokio::test]
async fn the_second_location_is_tried_whatever_the_first_one_returns() {
    let site = Site::start().await;
    let origin = site.origin();
    let other = json!({ "issuer": format!("{origin}/CANARY"), "token_endpoint": "https://evil.test" }).to_string();
    let insecure = json!({ "issuer": origin, "token_endpoint": "http://evil.test/CANARY" }).to_string();
    for (status, body, says) in [
        (302, "", "redirects to /elsewhere, which is not followed (HTTP 302)"),
        (404, "", "has no metadata (HTTP 404)"),
        (500, "", "is unavailable (HTTP 500)"),
        (429, "", "limits the rate of token requests (HTTP 429)"),
        (200, "{\"issuer\"", "did not send a complete metadata document (HTTP 200)"),
        (200, &other, "has another issuer in its metadata (HTTP 200)"),
        (200, &insecure, "sent metadata with a token_endpoint that is not https (HTTP 200)"),
    ] {
        site.page(OAUTH, status, body);
        site.page(OPENID, 200, site.document(""));
        drop(discover(&origin).await.unwrap());
        assert_eq!(site.take_requests(), [format!("GET {OAUTH}"), format!("GET {OPENID}")], "{status} {body}");
        site.page(OPENID, 405, "CANARY");
        let error = rejected(&origin).await;
        let expected = format!(
            "the issuer at {origin} has no usable metadata: at the path of RFC 8414 it {says}, and at the path of OpenID \
             Connect it has no metadata (HTTP 405)"
        );
        assert_eq!(error.message(), expected);
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
        site.take_requests();
    }
}

// R26, R41
#[tokio::test]
async fn a_response_that_is_not_metadata_is_an_error() {
    let site = Site::start().await;
    let origin = site.origin();
    let token = format!("{origin}/token");
    let malformed = ErrorKind::MalformedResponse;
    for (status, body, kind) in [
        (200, site.document("").to_string().replace('}', ""), malformed),
        (200, json!({ "token_endpoint": token }).to_string(), malformed),
        (200, json!({ "issuer": origin }).to_string(), malformed),
        (200, json!({ "issuer": 7, "token_endpoint": token }).to_string(), malformed),
        (200, json!({ "issuer": origin, "token_endpoint": "CANARY" }).to_string(), malformed),
        (200, json!({ "issuer": origin, "token_endpoint": "https://u:CANARY@a.test" }).to_string(), malformed),
        (
            200,
            json!({ "issuer": origin, "token_endpoint": "http://a.test/CANARY" }).to_string(),
            ErrorKind::InsecureUrl,
        ),
        (200, format!("{}{}", site.document(""), " ".repeat(64 * 1024)), malformed),
        (302, site.document("").to_string(), ErrorKind::Config),
        (307, site.document("").to_string(), ErrorKind::Config),
        (429, String::new(), ErrorKind::Throttled),
        (500, site.document("").to_string(), ErrorKind::Unavailable),
        (503, String::new(), ErrorKind::Unavailable),
    ] {
        site.page(OAUTH, status, &body);
        site.page("/elsewhere", 200, site.document(""));
        let error = rejected(&origin).await;
        assert_eq!(error.kind(), kind, "{status} {body:.80}: {error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
        // The target of a redirect is not requested.
        assert_eq!(site.take_requests(), [format!("GET {OAUTH}"), format!("GET {OPENID}")], "{status} {body:.80}");
    }
    // No metadata: the statuses that issuers return for unknown paths.
    for status in [400, 401, 403, 404, 405, 410] {
        site.page(OAUTH, status, "CANARY");
        let error = rejected(&origin).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(error.status(), Some(StatusCode::NOT_FOUND));
        assert!(error.hint().unwrap().contains("token URL"), "{error}");
        assert_eq!(site.take_requests().len(), 2);
    }
}

// Some sites return one page for every path.
#[tokio::test]
async fn a_page_at_the_first_location_does_not_hide_the_second() {
    let site = Site::start().await;
    let origin = site.origin();
    let both = [format!("GET {OAUTH}"), format!("GET {OPENID}")];
    for page in ["<!doctype html><title>CANARY</title>", "", "[]", "\"CANARY\"", "null"] {
        site.page(OAUTH, 200, page);
        site.page(OPENID, 200, site.document(""));
        site.page("/token", 200, GOOD);
        let provider = discover(&origin).await.unwrap().client_secret("s").build().unwrap();
        provider.fetch(&(), &FetchContext::default()).await.unwrap();
        assert_eq!(site.take_requests(), [&both[..], &["POST /token".to_owned()]].concat(), "{page}");
        for (status, other, kind) in [
            (200, page.to_owned(), ErrorKind::MalformedResponse),
            (404, page.to_owned(), ErrorKind::MalformedResponse),
            (503, page.to_owned(), ErrorKind::Unavailable),
            (200, json!({ "issuer": "https://CANARY.test" }).to_string(), ErrorKind::Config),
        ] {
            site.page(OPENID, status, other);
            let error = rejected(&origin).await;
            assert_eq!(error.kind(), kind, "{status} {page}: {error}");
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
            assert_eq!(site.take_requests(), both, "{status} {page}");
        }
    }
}

#[tokio::test]
async fn an_invalid_issuer_is_rejected_before_anything_is_sent() {
    for (issuer, reason) in [
        ("", ""),
        ("CANARY", ""),
        ("issuer.test", ""),
        ("https://issuer.test/?CANARY", ""),
        ("https://issuer.test/#CANARY", ""),
        ("https://user:CANARY@issuer.test", ""),
        ("ftp://issuer.test", ""),
        ("http://issuer.test/CANARY", "clear text"),
    ] {
        let error = rejected(issuer).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{issuer}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
        assert!(error.to_string().starts_with("issuer: "), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    }
    let builder = ClientCredentials::builder().token_url("https://issuer.test/token");
    let error = builder.discover("https://issuer.test").await.map(drop).unwrap_err();
    assert!(error.to_string().starts_with("token_url: "), "{error}");
}

#[test]
fn discovery_outside_of_a_runtime_is_an_error() {
    let error = futures::executor::block_on(rejected("https://issuer.test"));
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
}

// Metadata over TLS must name a token endpoint with TLS. The request uses the client of the builder.
#[tokio::test]
async fn an_https_issuer_cannot_name_a_clear_text_token_endpoint_on_loopback() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let issuer = sandbox.issuer_origin();
    let document = |token_url: &str| {
        let text = json!({ "issuer": issuer, "token_endpoint": token_url }).to_string();
        sandbox.script(Fault::Response(ScriptedResponse::new(StatusCode::OK).json(text)));
    };
    let discovery = || {
        let client = HttpClient::builder().roots_pem(sandbox.ca_pem()).build().unwrap();
        ClientCredentials::builder().http_client(client).discover(&issuer)
    };
    document("http://127.0.0.1:1/token");
    assert_eq!(discovery().await.map(drop).unwrap_err().kind(), ErrorKind::InsecureUrl);
    document(&sandbox.token_url());
    let found = discovery().await.unwrap();
    let provider = found
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .api_origin(sandbox.api_origin())
        .build()
        .unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    assert_eq!(
        sandbox.token_requests().iter().map(|r| r.path.as_str()).collect::<Vec<_>>(),
        [OAUTH, OPENID, OAUTH, "/oauth/token"]
    );
}

#[tokio::test]
async fn a_method_that_the_issuer_does_not_list_is_rejected_and_the_listed_ones_are_named() {
    let site = Site::start().await;
    let listing = async |methods: Value| {
        let mut document = site.document("");
        document["token_endpoint_auth_methods_supported"] = methods;
        site.page(OAUTH, 200, document);
        discover(&site.origin()).await.unwrap()
    };
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let signer = || PrivateKeyJwt::new(SigningAlgorithm::Es256, key.as_str());
    let post = |b: ClientCredentialsBuilder| b.client_secret("s").build();
    let basic = |b: ClientCredentialsBuilder| b.client_secret("s").client_secret_basic(BasicEncoding::Form).build();
    let signed = |b: ClientCredentialsBuilder| b.private_key_jwt(signer()).build();
    let tls = |b: ClientCredentialsBuilder| b.mutual_tls().http_client(HttpClient::new().unwrap()).build();
    post(listing(json!(["client_secret_basic", "client_secret_post"])).await).unwrap();
    basic(listing(json!(["client_secret_basic"])).await).unwrap();
    signed(listing(json!(["private_key_jwt"])).await).unwrap();
    tls(listing(json!(["tls_client_auth"])).await).unwrap();
    tls(listing(json!(["self_signed_tls_client_auth"])).await).unwrap();
    // The standard's default for a missing list is Basic only. Many issuers without a list accept more.
    post(listing(Value::Null).await).unwrap();
    for error in [
        post(listing(json!(["private_key_jwt", "CANARY", "client_secret_basic"])).await).unwrap_err(),
        tls(listing(json!(["private_key_jwt", "client_secret_basic"])).await).unwrap_err(),
    ] {
        assert_eq!(error.setting(), "client_authentication");
        assert!(error.to_string().starts_with("client_authentication: "), "{error}");
        assert_eq!(error.hint(), Some("use a method that it lists: client_secret_basic, private_key_jwt"));
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    }
    basic(listing(json!(["private_key_jwt"])).await).unwrap_err();
    signed(listing(json!(["client_secret_post"])).await).unwrap_err();
    post(listing(json!([])).await).unwrap_err();
    // The list does not apply to a token URL that was set afterwards.
    post(listing(json!([])).await.token_url("https://other.test/token")).unwrap();
}

// RFC 8705 section 5.
#[tokio::test]
async fn only_mutual_tls_uses_the_alias_of_the_issuer() {
    let site = Site::start().await;
    let mut document = site.document("");
    document["mtls_endpoint_aliases"] = json!({ "token_endpoint": format!("{}/mtls/token", site.origin()) });
    site.page(OAUTH, 200, document);
    site.page("/token", 200, GOOD);
    site.page("/mtls/token", 200, GOOD);
    let by_certificate = discover(&site.origin()).await.unwrap().mutual_tls().http_client(HttpClient::new().unwrap());
    by_certificate.build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap();
    let by_secret = discover(&site.origin()).await.unwrap().client_secret("s");
    by_secret.build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap();
    let requests = site.take_requests();
    assert_eq!((requests[1].as_str(), requests[3].as_str()), ("POST /mtls/token", "POST /token"));
}

// RFC 8705 section 5 applies only to clients with a certificate.
#[tokio::test]
async fn an_invalid_alias_for_mutual_tls_is_an_error_for_mutual_tls_only() {
    let site = Site::start().await;
    for (alias, kind) in [
        ("http://issuer.test/CANARY", ErrorKind::InsecureUrl),
        ("CANARY", ErrorKind::MalformedResponse),
        ("https://user:CANARY@issuer.test", ErrorKind::MalformedResponse),
    ] {
        let mut document = site.document("");
        document["mtls_endpoint_aliases"] = json!({ "token_endpoint": alias });
        site.page(OAUTH, 200, document);
        site.page("/token", 200, GOOD);
        let by_secret = discover(&site.origin()).await.unwrap().client_secret("s");
        by_secret.build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap();
        let by_certificate = discover(&site.origin()).await.unwrap().mutual_tls();
        let error = by_certificate.http_client(HttpClient::new().unwrap()).build().unwrap_err();
        assert_eq!(error.setting(), "mutual_tls", "{alias}: {error}");
        let source = Error::find(StdError::source(&error).unwrap()).unwrap();
        assert_eq!(source.kind(), kind, "{alias}: {error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
        assert_eq!(site.take_requests().iter().filter(|line| line.starts_with("POST")).count(), 1);
    }
}

// R48: an issuer can put anything into its metadata, so none of it is printed.
#[tokio::test]
async fn nothing_of_the_metadata_is_printed() {
    const CANARY: &str = "gT5fV3sE-canary.of/the+issuer";
    let site = Site::start().await;
    let mut document = site.document("");
    document["token_endpoint"] = json!(format!("{}/token?{CANARY}", site.origin()));
    document["token_endpoint_auth_methods_supported"] = json!([CANARY]);
    site.page(OAUTH, 200, document);
    let builder = discover(&site.origin()).await.unwrap().client_secret("s");
    let mut shown = format!("{builder:?} {builder:#?}");
    let error = builder.build().unwrap_err();
    shown.push_str(&format!("{error} {error:?} {error:#?}"));
    assert_eq!(shown_in(&shown, &[CANARY]), None, "{shown}");
}
