//! The settings for common issuers, as `docs/common-issuers.md` shows them. The code of the page is in the files of `issuers/`.
//! Here it runs against the example response of the issuer's own documentation, on a real socket. Each test says what that
//! documentation asks for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient};
use tower_bearer_auth::{Error, ErrorKind, FetchContext, IssuedToken, TokenProvider};

use crate::support::rsa_key::RsaKey;

static RSA: LazyLock<RsaKey> = LazyLock::new(|| RsaKey::new(2048));

const SECRET: &str = "the-client-secret";

/// An issuer that sends one response to every request, and records the requests.
struct Issuer {
    address: SocketAddr,
    received: Arc<Mutex<Vec<(Parts, Bytes)>>>,
    urls: Arc<Mutex<Vec<String>>>,
}

/// What an issuer received.
struct Received {
    method: String,
    url: String,
    parts: Parts,
    body: String,
}

impl Issuer {
    async fn sending(status: u16, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<(Parts, Bytes)>>> = Arc::default();
        let keep = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let keep = Arc::clone(&keep);
                let service = service_fn(move |request: Request<Incoming>| {
                    let keep = Arc::clone(&keep);
                    async move {
                        let (parts, received) = request.into_parts();
                        let received = received.collect().await.unwrap().to_bytes();
                        keep.lock().push((parts, received));
                        let response = Response::builder().status(status).header("content-type", "application/json");
                        Ok::<_, Infallible>(response.body(Full::<Bytes>::from(body)).unwrap())
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, received, urls: Arc::default() }
    }

    /// The client of this crate, which connects to this issuer whatever the URL is.
    fn client(&self) -> TokenClient {
        let (address, urls) = (self.address, Arc::clone(&self.urls));
        let http = HttpClient::new().unwrap();
        TokenClient::new(tower::service_fn(move |mut request: Request<Bytes>| {
            urls.lock().push(request.uri().to_string());
            let path = request.uri().path_and_query().unwrap().as_str();
            *request.uri_mut() = format!("http://{address}{path}").parse().unwrap();
            http.clone().oneshot(request)
        }))
    }

    /// The one request.
    fn received(&self) -> Received {
        let (parts, body) = self.received.lock().remove(0);
        assert!(self.received.lock().is_empty(), "one request");
        let url = self.urls.lock().first().cloned().unwrap_or_else(|| parts.uri.to_string());
        Received { method: parts.method.to_string(), url, parts, body: String::from_utf8(body.to_vec()).unwrap() }
    }
}

impl Received {
    fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.parts.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} is repeated");
        value
    }

    /// The fields of the form, in order. Every issuer wants a `POST`, and JSON in the response.
    #[track_caller]
    fn form(&self) -> Vec<(String, String)> {
        assert_eq!(self.method, "POST");
        assert_eq!(self.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(self.header("accept"), Some("application/json"));
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    #[track_caller]
    fn has_form(&self, expected: &[(&str, &str)]) {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(self.form(), expected);
    }

    /// The id and the secret of HTTP Basic.
    fn basic(&self) -> Option<String> {
        let encoded = self.header("authorization")?.strip_prefix("Basic ")?;
        Some(String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap())
    }
}

/// The header and the claims of a JWT, if its signature is valid.
#[track_caller]
fn verified(jwt: &str, algorithm: Algorithm) -> (Value, Value) {
    let mut rules = Validation::new(algorithm);
    (rules.validate_exp, rules.validate_aud) = (false, false);
    rules.required_spec_claims.clear();
    let key = DecodingKey::from_rsa_raw_components(&RSA.n, &RSA.e);
    let claims = jsonwebtoken::decode(jwt, &key, &rules).unwrap().claims;
    let header = URL_SAFE_NO_PAD.decode(jwt.split('.').next().unwrap()).unwrap();
    (serde_json::from_slice(&header).unwrap(), claims)
}

async fn fetch<P: TokenProvider<Key = ()>>(provider: &P) -> Result<IssuedToken, Error> {
    provider.fetch(&(), &FetchContext::default()).await
}

async fn token<P: TokenProvider<Key = ()>>(provider: &P) -> (String, Option<Duration>) {
    let token = fetch(provider).await.unwrap();
    (token.expose_secret().to_owned(), token.lifetime())
}

fn allowed(provider: &impl TokenProvider) -> String {
    format!("{:?}", provider.origins())
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

// R98. https://auth0.com/docs/secure/tokens/access-tokens/get-access-tokens
mod auth0 {
    use super::*;

    include!("issuers/auth0.rs");

    #[tokio::test]
    async fn auth0_gets_the_audience() {
        let body = r#"{"access_token":"eyJz93a...k4laUWw","token_type":"Bearer","expires_in":86400}"#;
        let issuer = Issuer::sending(200, body).await;
        let provider = auth0(SECRET.into(), issuer.client()).unwrap();
        assert_eq!(token(&provider).await, ("eyJz93a...k4laUWw".to_owned(), seconds(86_400)));
        assert_eq!(allowed(&provider), "[https://orders.example]");
        let received = issuer.received();
        assert_eq!(received.url, "https://example.eu.auth0.com/oauth/token");
        assert_eq!(received.basic(), None);
        received.has_form(&[
            ("grant_type", "client_credentials"),
            ("client_id", "SSpuX3Gl0WuMRLCgP6HWYZ5jHWCHhPcu"),
            ("client_secret", SECRET),
            ("audience", "https://orders.example/api"),
        ]);
        // The code of the page's table of errors.
        let denied = Issuer::sending(403, r#"{"error":"access_denied","error_description":"..."}"#).await;
        let error = fetch(&auth0(SECRET.into(), denied.client()).unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidCredentials, Some("access_denied")));
    }
}

// https://auth0.com/docs/secure/tokens/access-tokens/get-access-tokens
mod auth0_apis {
    use super::*;
    use crate::support::api::Api;
    use crate::support::responses::{bearer, response};

    include!("issuers/auth0_apis.rs");

    // R30, R98
    #[tokio::test]
    async fn each_client_of_auth0_sends_the_token_of_its_own_api() {
        let issuer = Api::new(|request| {
            let fields = form_urlencoded::parse(request.body()).into_owned();
            let audience = fields.into_iter().find(|(name, _)| name == "audience").unwrap().1;
            let body = serde_json::json!({ "access_token": audience, "token_type": "Bearer", "expires_in": 86400 });
            Response::new(Full::from(body.to_string()))
        });
        let source = auth0_apis(SECRET.into(), issuer.clone()).unwrap();
        for name in ["orders", "stock", "billing"] {
            let (api, audience) = (Api::new(|_| response(http::StatusCode::OK)), format!("https://{name}.example/api"));
            let target = TargetApi::new().audience(audience.as_str());
            assert!(!source.check_ready(&target).is_ready());
            source.warm_up_for(&target).await.unwrap();
            assert!(source.check_ready(&target).is_ready());
            for _ in 0..2 {
                let request = Request::get(format!("https://{name}.example/items")).body(Full::<Bytes>::default());
                client_of(&source, with_target(&target), api.clone()).oneshot(request.unwrap()).await.unwrap();
            }
            let sent: Vec<String> = api.sends().iter().map(|request| bearer(request).to_owned()).collect();
            assert_eq!(sent, [audience.as_str(), audience.as_str()]);
        }
        assert_eq!(issuer.sends().len(), 3);
    }
}

// R98. https://developer.okta.com/docs/guides/implement-oauth-for-okta-serviceapp/main/
mod okta {
    use super::*;

    include!("issuers/okta.rs");

    pub(super) const BODY: &str =
        r#"{"access_token":"eyJhbG[...]1LQ","token_type":"Bearer","expires_in":3600,"scope":"customScope"}"#;

    #[tokio::test]
    async fn a_custom_authorization_server_of_okta_gets_the_secret_in_a_header() {
        let issuer = Issuer::sending(200, BODY).await;
        let provider = okta(SECRET.into(), issuer.client()).unwrap();
        assert_eq!(token(&provider).await, ("eyJhbG[...]1LQ".to_owned(), seconds(3600)));
        let received = issuer.received();
        assert_eq!(received.url, "https://example.okta.com/oauth2/default/v1/token");
        assert_eq!(received.basic(), Some(format!("0oar95zt9zIpYuz6A0h7:{SECRET}")));
        received.has_form(&[("grant_type", "client_credentials"), ("scope", "orders.read")]);
        let wrong = r#"{"error":"invalid_scope","error_description":"One or more scopes are not configured for the authorization server resource."}"#;
        let wrong = Issuer::sending(400, wrong).await;
        let error = fetch(&okta(SECRET.into(), wrong.client()).unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidRequest, Some("invalid_scope")));
    }
}

// R98. https://developer.okta.com/docs/guides/implement-oauth-for-okta-serviceapp/main/
mod okta_api {
    use super::okta::BODY;
    use super::*;

    include!("issuers/okta_api.rs");

    #[tokio::test]
    async fn the_org_authorization_server_of_okta_gets_a_signed_assertion() {
        let issuer = Issuer::sending(200, BODY).await;
        let provider = okta_api(Secret::from(RSA.pkcs8()), issuer.client()).unwrap();
        token(&provider).await;
        let received = issuer.received();
        assert_eq!(received.url, "https://example.okta.com/oauth2/v1/token");
        assert_eq!(received.basic(), None);
        let form = received.form();
        let names: Vec<&str> = form.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["grant_type", "client_id", "client_assertion_type", "client_assertion", "scope"]);
        assert_eq!(form[2].1, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert_eq!(form[4].1, "okta.users.read");
        let (header, claims) = verified(&form[3].1, Algorithm::RS256);
        assert_eq!((&header["kid"], &claims["aud"]), (&"jwks1".into(), &received.url.as_str().into()));
        let id = &Value::from("0oar95zt9zIpYuz6A0h7");
        assert_eq!((&claims["iss"], &claims["sub"]), (id, id));
        // At most an hour.
        assert!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap() <= 3600);
    }
}

// R98. https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow
mod entra {
    use super::*;

    include!("issuers/entra.rs");

    pub(super) const URL: &str = "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token";
    pub(super) const CLIENT: &str = "97e0a5b7-d745-40b6-94fe-5f77d35c6e05";
    pub(super) const SCOPE: &str = "https://graph.microsoft.com/.default";
    pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    const TOKEN: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsIng1dCI6Ik1uQ19WWmNBVGZNNXBP...";
    pub(super) const BODY: &str = r#"{
  "token_type": "Bearer",
  "expires_in": 3599,
  "access_token": "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsIng1dCI6Ik1uQ19WWmNBVGZNNXBP..."
}"#;

    #[tokio::test]
    async fn entra_gets_the_secret_and_the_default_scope_of_the_api() {
        let issuer = Issuer::sending(200, BODY).await;
        let provider = by_secret(SECRET.into(), issuer.client()).unwrap();
        assert_eq!(token(&provider).await, (TOKEN.to_owned(), seconds(3599)));
        let received = issuer.received();
        assert_eq!((received.url.as_str(), received.basic()), (URL, None));
        received.has_form(&[
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("client_secret", SECRET),
            ("scope", SCOPE),
        ]);
        let wrong = Issuer::sending(
            400,
            r#"{"error":"invalid_scope","error_description":"AADSTS70011: ...","error_codes":[70011]}"#,
        )
        .await;
        let error = fetch(&by_secret(SECRET.into(), wrong.client()).unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidRequest, Some("invalid_scope")));
    }

    #[tokio::test]
    async fn entra_gets_the_assertion_of_the_platform() {
        let issuer = Issuer::sending(200, BODY).await;
        let token_file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("azure-identity-token");
        std::fs::write(&token_file, "eyJhbGciOiJSUzI1NiJ9.platform").unwrap();
        token(&by_workload_identity(&token_file, issuer.client()).unwrap()).await;
        issuer.received().has_form(&[
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("client_assertion_type", TYPE),
            ("client_assertion", "eyJhbGciOiJSUzI1NiJ9.platform"),
            ("scope", SCOPE),
        ]);
    }

    #[tokio::test]
    async fn entra_gets_the_scope_of_one_api_for_each_token() {
        let issuer = Issuer::sending(200, BODY).await;
        let (provider, vault) = for_many_apis(SECRET.into(), issuer.client()).unwrap();
        provider.fetch(&vault, &FetchContext::default()).await.unwrap();
        issuer.received().has_form(&[
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("client_secret", SECRET),
            ("scope", "https://vault.azure.net/.default"),
        ]);
        assert_eq!(allowed(&provider), "[https://graph.microsoft.com, https://orders.vault.azure.net]");
    }
}

// R98. https://learn.microsoft.com/en-us/entra/identity-platform/certificate-credentials
mod entra_certificate {
    use super::super::certificates::FIRST;
    use super::entra::{BODY, CLIENT, SCOPE, TYPE, URL};
    use super::*;

    include!("issuers/entra_certificate.rs");

    #[tokio::test]
    async fn entra_gets_an_assertion_with_the_thumbprint_of_the_certificate() {
        let issuer = Issuer::sending(200, BODY).await;
        let pem = Secret::from(format!("{}{}", RSA.pkcs8(), FIRST.pem()));
        token(&by_certificate(pem, issuer.client()).unwrap()).await;
        let received = issuer.received();
        let form = received.form();
        let assertion = form.iter().find(|(name, _)| name == "client_assertion").unwrap().1.clone();
        received.has_form(&[
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("client_assertion_type", TYPE),
            ("client_assertion", &assertion),
            ("scope", SCOPE),
        ]);
        let (header, claims) = verified(&assertion, Algorithm::PS256);
        assert_eq!(header, serde_json::json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": FIRST.x5t_s256() }));
        let claim = |name: &str| claims[name].as_str().unwrap().to_owned();
        assert_eq!([claim("aud"), claim("iss"), claim("sub")], [URL, CLIENT, CLIENT].map(str::to_owned));
        assert!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap() <= 600);
    }
}

// R98. https://www.keycloak.org/docs/latest/server_admin/index.html#_service_accounts
mod keycloak {
    use super::*;

    include!("issuers/keycloak.rs");

    #[tokio::test]
    async fn keycloak_gets_the_secret_at_the_url_of_the_realm() {
        let body = r#"{"access_token":"2YotnFZFEjr1zCsicMWpAA","token_type":"Bearer","expires_in":60,"refresh_expires_in":0,"not-before-policy":0,"scope":"email profile"}"#;
        let issuer = Issuer::sending(200, body).await;
        let provider = keycloak(SECRET.into(), issuer.client()).unwrap();
        assert_eq!(token(&provider).await, ("2YotnFZFEjr1zCsicMWpAA".to_owned(), seconds(60)));
        let received = issuer.received();
        assert_eq!(received.url, "https://keycloak.example/realms/demo/protocol/openid-connect/token");
        received.has_form(&[
            ("grant_type", "client_credentials"),
            ("client_id", "orders-job"),
            ("client_secret", SECRET),
        ]);
        let body =
            r#"{"error":"unauthorized_client","error_description":"Client not enabled to retrieve service account"}"#;
        let disabled = Issuer::sending(401, body).await;
        let error = fetch(&keycloak(SECRET.into(), disabled.client()).unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidRequest, Some("unauthorized_client")));
    }
}

// R98. https://cloud.google.com/compute/docs/access/authenticate-workloads
mod google {
    use super::*;

    include!("issuers/google.rs");

    fn client() -> reqwest::Client {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
        builder.no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
    }

    #[tokio::test]
    async fn the_metadata_server_of_google_gets_a_get_with_its_header() {
        let body = r#"{"access_token":"ya29.example","expires_in":3599,"token_type":"Bearer"}"#;
        let issuer = Issuer::sending(200, body).await;
        let provider = google(client(), &issuer.address.to_string());
        assert_eq!(token(&provider).await, ("ya29.example".to_owned(), seconds(3599)));
        let received = issuer.received();
        assert_eq!(received.url, "/computeMetadata/v1/instance/service-accounts/default/token");
        assert_eq!((received.method.as_str(), received.body.as_str()), ("GET", ""));
        assert_eq!(received.header("metadata-flavor"), Some("Google"));
    }

    #[tokio::test]
    async fn an_error_of_the_metadata_server_is_transient_only_if_a_retry_can_help() {
        for (status, body, transient) in [
            (404, "", false),
            (403, "", false),
            (429, "", true),
            (503, "", true),
            (200, "<html>", true),
            (200, r#"{"access_token":"ya29.example"}"#, true),
        ] {
            let issuer = Issuer::sending(status, body).await;
            let error = fetch(&google(client(), &issuer.address.to_string())).await.unwrap_err();
            assert_eq!(error.is_transient(), transient, "{status}: {error:?}");
        }
    }
}

// R98. https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_client_credentials_flow.htm
mod salesforce {
    use super::*;

    include!("issuers/salesforce.rs");

    #[tokio::test]
    async fn salesforce_sends_no_lifetime_and_a_token_with_an_exclamation_mark() {
        let body = r#"{"access_token":"00DXX.example!AQ4A.example","signature":"your_signature","scope":"api","instance_url":"https://example.my.salesforce.com","id":"https://example.my.salesforce.com/id/00D/005","token_type":"Bearer","issued_at":"4564564565767"}"#;
        let issuer = Issuer::sending(200, body).await;
        let provider = salesforce(SECRET.into(), issuer.client()).unwrap();
        assert_eq!(token(&provider).await, ("00DXX.example!AQ4A.example".to_owned(), seconds(7200)));
        let received = issuer.received();
        assert_eq!(received.url, "https://example.my.salesforce.com/services/oauth2/token");
        received.has_form(&[
            ("grant_type", "client_credentials"),
            ("client_id", "3MVG9.consumer.key"),
            ("client_secret", SECRET),
        ]);
        let body = r#"{"error":"invalid_grant","error_description":"no client credentials user enabled"}"#;
        let without_user = Issuer::sending(400, body).await;
        let error = fetch(&salesforce(SECRET.into(), without_user.client()).unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidRequest, Some("invalid_grant")));
    }
}

// R98. https://cloud.google.com/apigee/docs/api-platform/security/oauth/access-tokens
mod apigee {
    use super::*;

    include!("issuers/apigee.rs");

    #[tokio::test]
    async fn apigee_has_its_own_name_for_the_type_and_a_lifetime_in_quotes() {
        let body = r#"{
  "issued_at" : "1466025769306",
  "application_name" : "716bbe61-f14a-4d85-9b56-a62ff8e0d347",
  "scope" : "",
  "status" : "approved",
  "api_product_list" : "[helloworld_oauth2-Product]",
  "expires_in" : "3599",
  "token_type" : "BearerToken",
  "client_id" : "xNnREu1DNGfiwzQZ5HUN8IAUwZSW1GZW",
  "access_token" : "example.access.token",
  "organization_name" : "myOrg",
  "refresh_token_expires_in" : "0",
  "refresh_count" : "0"
}"#;
        let issuer = Issuer::sending(200, body).await;
        let provider = apigee(SECRET.into(), issuer.client()).unwrap();
        assert_eq!(token(&provider).await, ("example.access.token".to_owned(), seconds(3599)));
        let received = issuer.received();
        assert_eq!(received.url, "https://api.example/oauth/token");
        assert_eq!(received.basic(), Some(format!("xNnREu1DNGfiwzQZ5HUN8IAUwZSW1GZW:{SECRET}")));
        received.has_form(&[("grant_type", "client_credentials")]);
        let wrong =
            Issuer::sending(401, r#"{"ErrorCode" : "invalid_client", "Error" :"Client credentials are invalid"}"#)
                .await;
        let error = fetch(&apigee(SECRET.into(), wrong.client()).unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidCredentials, None));
    }
}

// R98. https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
mod github {
    use super::*;

    include!("issuers/github.rs");

    const BODY: &str = r#"{
  "token": "ghs_example",
  "expires_at": "2016-07-11T22:14:10Z",
  "permissions": { "issues": "write", "contents": "read" },
  "repository_selection": "selected"
}"#;

    fn app(issuer: &Issuer) -> GitHubApp {
        GitHubApp::new("Iv1.8a61f9b3a7aba766", Secret::from(RSA.pkcs1()), 17, issuer.client()).unwrap()
    }

    /// An hour before the token of the example expires.
    #[derive(Clone)]
    struct Then(tower_bearer_auth::Now);

    impl Clock for Then {
        fn now(&self) -> tower_bearer_auth::Now {
            self.0
        }
    }

    #[tokio::test]
    async fn github_gets_the_signed_token_of_the_app_and_sends_an_instant() {
        let issuer = Issuer::sending(201, BODY).await;
        let expires_at = UNIX_EPOCH + Duration::from_secs(1_468_275_250);
        let mut now = SystemClock.now();
        now.wall = expires_at - Duration::from_secs(3600);
        let source = tower_bearer_auth::TokenSource::builder(app(&issuer)).clock(Then(now)).build();
        let token = source.token().await.unwrap();
        assert_eq!((token.expose_secret(), token.expires_at()), ("ghs_example", expires_at));
        assert_eq!(allowed(source.provider()), "[https://api.github.com]");
        let received = issuer.received();
        assert_eq!(received.method, "POST");
        assert_eq!(received.url, "https://api.github.com/app/installations/17/access_tokens");
        assert_eq!(received.header("accept"), Some("application/vnd.github+json"));
        assert_eq!(received.header("x-github-api-version"), Some("2022-11-28"));
        // GitHub rejects a request without this header.
        assert!(received.header("user-agent").unwrap().starts_with("tower-bearer-auth/"));
        let jwt = received.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
        let (header, claims) = verified(jwt, Algorithm::RS256);
        assert_eq!((&header["alg"], &claims["iss"]), (&"RS256".into(), &"Iv1.8a61f9b3a7aba766".into()));
        // From 60 seconds ago to at most 10 minutes from now.
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 600);
    }

    #[tokio::test]
    async fn an_error_of_github_prints_neither_the_key_nor_the_response() {
        for (status, body, kind) in [
            (
                401,
                r#"{"message":"CANARY","documentation_url":"https://docs.github.com/rest"}"#,
                ErrorKind::InvalidCredentials,
            ),
            (404, r#"{"message":"CANARY"}"#, ErrorKind::Config),
            (201, r#"{"token":"CANARY","expires_at":"soon"}"#, ErrorKind::MalformedResponse),
            (201, "CANARY", ErrorKind::MalformedResponse),
        ] {
            let issuer = Issuer::sending(status, body).await;
            let error = fetch(&app(&issuer)).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
        }
        let issuer = Issuer::sending(201, BODY).await;
        let app = GitHubApp::new("Iv1.8a61f9b3a7aba766", Secret::from("CANARY"), 17, issuer.client()).unwrap();
        let error = fetch(&app).await.unwrap_err();
        assert!(error.to_string().starts_with("key: "), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
    }
}

const PAGE: &str = include_str!("../../../docs/common-issuers.md");

/// The sections of the page, with the files of their code.
const SECTIONS: [(&str, &[&str]); 8] = [
    ("Auth0", &[include_str!("issuers/auth0.rs"), include_str!("issuers/auth0_apis.rs")]),
    ("Okta", &[include_str!("issuers/okta.rs"), include_str!("issuers/okta_api.rs")]),
    ("Microsoft Entra ID", &[include_str!("issuers/entra.rs"), include_str!("issuers/entra_certificate.rs")]),
    ("Keycloak", &[include_str!("issuers/keycloak.rs")]),
    ("Google metadata servers", &[include_str!("issuers/google.rs")]),
    ("Salesforce", &[include_str!("issuers/salesforce.rs")]),
    ("Apigee", &[include_str!("issuers/apigee.rs")]),
    ("GitHub", &[include_str!("issuers/github.rs")]),
];

// R98
#[test]
fn the_page_has_the_code_that_ran_here_and_every_section_has_the_same_parts() {
    let sections: Vec<(&str, &str)> =
        PAGE.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect();
    for (name, code) in SECTIONS {
        let (_, section) = sections.iter().find(|(title, _)| *title == name).unwrap();
        let blocks: Vec<&str> = section.split("```\n").skip(1).step_by(2).collect();
        assert_eq!(blocks, code, "{name}");
        let parts: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        // A heading of its own for each part would be the same label eight times.
        assert!(parts.is_empty(), "{name}");
        let at = ["| setting |", "```\n", "**What differs.**", "| error |", "**Source.**"]
            .map(|part| section.find(part).unwrap_or_else(|| panic!("{name}: {part}")));
        assert!(at.is_sorted(), "{name}: {at:?}");
        let source = &section[at[4]..];
        assert!(source.contains("https://") && source.contains("2026-11-28"), "{name}");
        assert!(source.replace('\n', " ").contains("not tried against"), "{name}");
    }
    assert_eq!(sections.len(), SECTIONS.len());
}
