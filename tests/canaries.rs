//! R48: each public type, printed while it holds a secret.
//!
//! It needs the features of every provider.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::future::{Ready, poll_fn, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt};
use tower_bearer_auth::shared::{
    Claim, Identity, MemoryStore, OnStoreFailure, Outcome, SealingKey, Shared, StoreError, Stored,
};
use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{
    AccessPsp, Aeropay, Audit, BasicEncoding, BearerAuthLayer, BoxError, ClientCredentials, ConfigError, Deadline,
    DynProvider, Error, ExtensionKey, FetchContext, FixedToken, IssuedToken, NotReplayed, NotSent, Origins,
    PrivateKeyJwt, RequestHead, ResponseHead, Secret, SigningAlgorithm, SystemClock, TargetApi, TokenProvider,
    TokenSource, aeropay, from_fn, grpc, replay,
};
use tower_bearer_auth_sandbox::{AccessPspSandbox, AeropaySandbox, Fault, Protocols, ScriptedResponse, Verdict};

mod support;
use support::api::Api;
use support::canary;
use support::responses::response_with;

const SECRET: &str = "cZ7kQ9vX-client/secret+1";
const ISSUER_KEY: &str = "pL4mW8tR-issuer-key";
const API_KEY: &str = "hN6bJ2yD-api-key";
const TOKEN: &str = "gT5fV3sE-token.of/the+issuer";
const ELSEWHERE: &str = "uB1xS4aM-callers-own";
const ALL: &[&str] = &[SECRET, ISSUER_KEY, API_KEY, TOKEN, ELSEWHERE];

/// Public names that have no values: traits and aliases.
const NOT_PRINTED: &[&str] = &[
    "BoxError",
    "Clock",
    "RequestKey",
    "TokenProvider",
    "replay::Bodies",
    "replay::Recorded",
    "shared::Shareable",
    "shared::TokenStore",
];

/// The files that export the public types of this package, with the prefix of their names.
const CRATE: [(&str, &str); 7] = [
    ("", "src/lib.rs"),
    ("token_endpoint::", "src/token_endpoint/mod.rs"),
    ("replay::", "src/layer/replay/mod.rs"),
    ("shared::", "src/shared/mod.rs"),
    ("aeropay::", "src/providers/aeropay/mod.rs"),
    ("grpc::", "src/grpc/mod.rs"),
    ("grpc::tonic_0_14::", "src/grpc/tonic_0_14/mod.rs"),
];

/// The same for the sandbox.
const SANDBOX: [(&str, &str); 1] = [("sandbox::", "sandbox/src/lib.rs")];

/// The public names that begin with a capital letter, as these files export them.
fn exported_types(files: &[(&str, &str)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (prefix, file) in files {
        let source = fs::read_to_string(file).unwrap();
        let code: String =
            source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for statement in code.split(';') {
            let Some((_, names)) = statement.split_once("pub use ") else { continue };
            let words = names.split(|c: char| !c.is_alphanumeric() && c != '_');
            found.extend(
                words.filter(|word| word.starts_with(char::is_uppercase)).map(|word| format!("{prefix}{word}")),
            );
        }
        for line in code.lines() {
            let declared = ["pub struct ", "pub enum ", "pub trait "].iter().find_map(|word| line.strip_prefix(word));
            let name = declared.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
            found.extend(name.map(|name| format!("{prefix}{name}")));
        }
    }
    found
}

/// The public types and traits of the committed listing, `scripts/public-api`.
fn listed_types(listing: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in listing.lines() {
        let mut item = line;
        while let Some((_, rest)) = item.strip_prefix("#[").and_then(|attribute| attribute.split_once("] ")) {
            item = rest;
        }
        let declared = ["struct", "enum", "union", "trait", "unsafe trait"]
            .iter()
            .find_map(|word| item.strip_prefix("pub ")?.strip_prefix(word)?.strip_prefix(" tower_bearer_auth::"));
        let path =
            declared.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':')).next());
        found.extend(path.map(|path| path.trim_end_matches(':').to_owned()));
    }
    found
}

const LISTING: &str = include_str!("golden/public-api.txt");

#[derive(Default)]
struct Printed(BTreeMap<String, Vec<String>>);

impl Printed {
    fn add(&mut self, name: &str, value: &impl Debug) {
        self.0.entry(name.to_owned()).or_default().push(format!("{value:?}\n{value:#?}"));
    }

    fn config_error(&mut self, error: ConfigError) {
        self.add("ConfigError", &error);
        self.0.entry("ConfigError".to_owned()).or_default().push(error.to_string());
        self.error(&error.into());
    }

    fn error(&mut self, error: &Error) {
        self.add("Error", error);
        self.0.entry("Error".to_owned()).or_default().push(error.to_string());
        let mut cause = std::error::Error::source(error);
        while let Some(next) = cause {
            self.0.entry("Error".to_owned()).or_default().push(format!("{next}\n{next:?}"));
            cause = next.source();
        }
    }
}

/// An API that sends this body to every request.
fn api(body: &'static str) -> Api {
    Api::new(move |_| response_with(StatusCode::OK, body))
}

/// A client whose token requests all get this body.
fn issuer(body: &'static str) -> TokenClient {
    let service =
        tower::service_fn(move |_: Request<Bytes>| ready(Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(body)))));
    TokenClient::new(service)
}

const GOOD: &str = r#"{"access_token":"gT5fV3sE-token.of/the+issuer","token_type":"Bearer","expires_in":1800}"#;
const ECHO: &str = r#"{"error":"cZ7kQ9vX-client/secret+1","error_description":"pL4mW8tR-issuer-key"}"#;

fn provider(body: &'static str, printed: &mut Printed) -> AccessPsp {
    let builder = AccessPsp::builder()
        .client_id("id")
        .client_secret(SECRET)
        .token_api_key(ISSUER_KEY)
        .api_key(API_KEY)
        .token_url("https://issuer.test/token")
        .api_origin("https://api.test")
        .http_client(issuer(body));
    printed.add("AccessPspBuilder", &builder);
    builder.build().unwrap()
}

async fn print_the_core(printed: &mut Printed) {
    let access_psp = provider(GOOD, printed);
    printed.add("AccessPsp", &access_psp);
    printed.add("IssuedToken", &access_psp.fetch(&(), &FetchContext::default()).await.unwrap());

    let builder = TokenSource::builder(access_psp);
    printed.add("TokenSourceBuilder", &builder);
    let source = builder.build();
    let token = source.token().await.unwrap();
    assert_eq!(token.expose_secret(), TOKEN);
    printed.add("TokenFuture", &source.token());
    printed.add("Token", &token);
    printed.add("Token", &token.header_value());
    printed.add("TokenSource", &source);
    printed.add("SourceStats", &source.stats());
    printed.add("TokenStatus", &source.status());
    printed.add("TokenState", &source.status().state);

    let layer = source.layer().audit_all().bodies(replay::Cloned);
    printed.add("BearerAuthLayer", &layer);
    let mut service = layer.layer(api(GOOD));
    let request = Request::post("https://api.test/x?uB1xS4aM-callers-own")
        .header("authorization", ELSEWHERE)
        .extension(ELSEWHERE)
        .body(Full::<Bytes>::from(ELSEWHERE))
        .unwrap();
    printed.add("RequestHead", &RequestHead::of(&request));
    let plain = source.layer().layer(());
    printed.add("BearerAuth", &plain);
    let future = ServiceExt::<Request<Full<Bytes>>>::ready(&mut service).await.unwrap().call(request);
    printed.add("ResponseFuture", &future);
    let response = future.await.unwrap();
    printed.add("ResponseHead", &ResponseHead::of(&response));
    let audit = Audit::of(&response).unwrap();
    printed.add("Audit", audit);
    printed.add("ReplayOutcome", &audit.replay);

    let failing = TokenSource::new(provider(ECHO, printed));
    printed.error(&failing.token().await.unwrap_err());
    printed.add("TokenStatus", &failing.status());
    let not_sent = failing.layer().layer(api(GOOD)).oneshot(Request::new(Full::<Bytes>::default())).await.unwrap_err();
    printed.add("NotSent", not_sent.downcast_ref::<NotSent>().unwrap());
    printed.0.entry("NotSent".to_owned()).or_default().push(not_sent.to_string());
    let panicking = TokenSource::new(from_fn(|| async { panic!("{SECRET} {TOKEN}") }));
    printed.error(&panicking.token().await.unwrap_err());
    let error = IssuedToken::bearer(format!("{TOKEN}\r\n")).unwrap_err();
    printed.add("ErrorKind", &error.kind());
    printed.error(&error);
    printed.config_error(Origins::none().allow(&format!("https://{SECRET}@host")).unwrap_err());
}

/// A provider that keeps the context of each fetch.
#[derive(Clone, Default)]
struct Contexts(Arc<parking_lot::Mutex<Vec<FetchContext>>>);

impl TokenProvider for Contexts {
    type Key = ();

    async fn fetch(&self, (): &(), cx: &FetchContext) -> Result<IssuedToken, Error> {
        self.0.lock().push(cx.clone());
        IssuedToken::bearer(TOKEN)
    }
}

/// An API that rejects every token. It rotates the credentials while a replay waits for it.
#[derive(Clone)]
struct Rotating {
    source: TokenSource<AccessPsp>,
    calls: Arc<AtomicUsize>,
}

impl Service<Request<Full<Bytes>>> for Rotating {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.calls.load(Ordering::SeqCst) > 0 {
            self.source.rotate();
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let response = Response::builder().status(401).header("www-authenticate", "Bearer error=\"invalid_token\"");
        ready(Ok(response.body(Full::default()).unwrap()))
    }
}

/// A replay that `rotate` prevents. The issuer echoes the secrets in its third response.
async fn not_replayed() -> NotReplayed {
    let requests = AtomicUsize::new(0);
    let client = TokenClient::new(tower::ServiceBuilder::new().buffer(1).service_fn(move |_: Request<Bytes>| {
        let body = match requests.fetch_add(1, Ordering::SeqCst) {
            0 => GOOD.to_owned(),
            1 => GOOD.replace("issuer", "issuer2"),
            _ => ECHO.to_owned(),
        };
        ready(Ok::<_, BoxError>(Response::builder().status(if body == ECHO { 400 } else { 200 }).body(body).unwrap()))
    }));
    let builder = AccessPsp::builder().client_id("id").client_secret(SECRET).token_api_key(ISSUER_KEY);
    let builder = builder.token_url("https://issuer.test/token").api_origin("https://api.test");
    let source = TokenSource::new(builder.http_client(client).build().unwrap());
    let api = Rotating { source: source.clone(), calls: Arc::default() };
    let request = Request::get("/").body(Full::default()).unwrap();
    let error = source.layer().bodies(replay::Cloned).layer(api).oneshot(request).await.unwrap_err();
    *error.downcast::<NotReplayed>().unwrap()
}

async fn print_the_rest_of_the_core(printed: &mut Printed) {
    printed.add("Secret", &Secret::new(SECRET));
    printed.add("SecretValue", &Secret::new(SECRET).load().await.unwrap());
    printed.add("Secret", &Secret::from_fn(|| Ok(SECRET.into())));
    let file = std::env::temp_dir().join(format!("tower-bearer-auth-canary-{}", std::process::id()));
    fs::write(&file, SECRET).unwrap();
    printed.add("Secret", &Secret::from_file(&file).unwrap());
    fs::write(&file, [SECRET.as_bytes(), &[0xff]].concat()).unwrap();
    printed.config_error(Secret::from_file(&file).unwrap_err());
    fs::remove_file(&file).unwrap();

    printed.add("DynProvider", &DynProvider::new(FixedToken::new(TOKEN).unwrap()));
    let contexts = Contexts::default();
    let source = TokenSource::new(contexts.clone());
    source.token().await.unwrap();
    source.invalidate();
    source.token().await.unwrap();
    for context in contexts.0.lock().iter() {
        printed.add("FetchContext", context);
        printed.add("FetchReason", &context.reason());
    }

    let not_replayed = not_replayed().await;
    printed.add("NotReplayed", &not_replayed);
    printed.0.entry("NotReplayed".to_owned()).or_default().push(not_replayed.to_string());
    printed.error(not_replayed.error());

    printed.add("FixedToken", &FixedToken::new(TOKEN).unwrap());
    printed.add("FromFn", &from_fn(|| async { IssuedToken::bearer(TOKEN) }));
    printed.add("Origins", &Origins::none().allow("https://api.test").unwrap());
    printed.add("Rejection", &tower_bearer_auth::Rejection::Unspecified);
    printed.add("OnForeignOrigin", &tower_bearer_auth::OnForeignOrigin::Fail);
    printed.add("Unauthenticated", &tower_bearer_auth::Unauthenticated);
    printed.add("ExtensionKey", &ExtensionKey(7));
    printed.add("SystemClock", &SystemClock);
    printed.add("Now", &tower_bearer_auth::Clock::now(&SystemClock));
    printed.add("RefreshPolicy", &tower_bearer_auth::RefreshPolicy::default());
    let builder = ClientCredentials::builder()
        .client_id("id")
        .client_secret(SECRET)
        .token_header("x-api-key", ISSUER_KEY)
        .api_header("x-api-key", API_KEY)
        .token_url("https://issuer.test/token?uB1xS4aM-callers-own")
        .api_origin("https://api.test")
        .http_client(issuer(GOOD));
    printed.add("ClientCredentialsBuilder", &builder);
    printed.add("ClientCredentials", &builder.build().unwrap());
    printed.add("BasicEncoding", &BasicEncoding::Percent);
    printed.add("TargetApi", &TargetApi::new().scope("read").resource(format!("https://api.test/?{ELSEWHERE}")));
    let by_header = || {
        ClientCredentials::builder()
            .client_id("id")
            .client_secret(SECRET)
            .client_secret_basic(BasicEncoding::Form)
            .resource(format!("https://api.test/?{ELSEWHERE}"))
            .parameter("organization", ISSUER_KEY)
            .token_url("https://issuer.test/token")
            .api_origin("https://api.test")
            .http_client(issuer(ECHO))
    };
    printed.add("ClientCredentialsBuilder", &by_header());
    printed.add("SigningAlgorithm", &SigningAlgorithm::Es256);
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let signer = PrivateKeyJwt::new(SigningAlgorithm::Es256, key.as_str());
    printed.add("PrivateKeyJwt", &signer);
    let signing = ClientCredentials::builder()
        .client_id("id")
        .private_key_jwt(signer)
        .token_url(format!("https://issuer.test/token?{ELSEWHERE}"))
        .api_origin("https://api.test")
        .http_client(issuer(ECHO));
    printed.add("ClientCredentialsBuilder", &signing);
    let signing = signing.build().unwrap();
    printed.add("ClientCredentials", &signing);
    printed.error(&signing.fetch(&(), &FetchContext::default()).await.unwrap_err());
    let damaged = key.replacen("MIG", "CAN", 1);
    let damaged = PrivateKeyJwt::new(SigningAlgorithm::Es256, damaged);
    printed.config_error(by_header().private_key_jwt(damaged.clone()).build().unwrap_err());
    printed.add("PrivateKeyJwt", &damaged);
    let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    for text in printed.0.values().flatten() {
        assert_eq!(canary::shown_in(text, &lines), None, "{text}");
    }
    printed.add("ClientCredentials", &by_header().build().unwrap());
    printed.error(&by_header().build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap_err());
    printed.config_error(by_header().resource(format!("https://user:{ELSEWHERE}@host")).build().unwrap_err());
    printed.config_error(by_header().parameter("password", SECRET).build().unwrap_err());

    printed.add("replay::Off", &replay::Off);
    printed.add("replay::Empty", &replay::Empty);
    printed.add("replay::Cloned", &replay::Cloned);
    printed.add("replay::Mode", &replay::Mode::Safe);
    let shown = Arc::new(parking_lot::Mutex::new(String::new()));
    let show = Arc::clone(&shown);
    let wrap = move |body: replay::ReplayBody<Full<Bytes>>| {
        *show.lock() = format!("{body:?}");
        Full::default()
    };
    let bodies = replay::Buffered::new(1024, wrap);
    printed.add("replay::Buffered", &bodies);
    let source = TokenSource::new(FixedToken::new(TOKEN).unwrap());
    let service = source.layer().bodies(bodies).layer(api(GOOD));
    service.oneshot(Request::post("/").body(Full::from(SECRET)).unwrap()).await.unwrap();
    assert!(!shown.lock().is_empty());
    printed.0.entry("replay::ReplayBody".into()).or_default().push(shown.lock().clone());
}

async fn print_grpc(printed: &mut Printed) {
    printed.add("Deadline", &Deadline::after(Duration::from_secs(1)));
    let source = TokenSource::new(FixedToken::new(TOKEN).unwrap());
    let layer = grpc::layer(source.layer());
    printed.add("grpc::GrpcLayer", &layer);
    printed.add("grpc::GrpcService", &layer.layer(()));
    let mut service = layer.layer(api(GOOD));
    let request = || Request::post("/").header("authorization", ELSEWHERE).body(Full::<Bytes>::default()).unwrap();
    let response = service.call(request());
    printed.add("grpc::GrpcFuture", &response);
    printed.add("grpc::GrpcBody", response.await.unwrap().body());

    let layer = grpc::tonic_0_14::StatusLayer::new();
    printed.add("grpc::tonic_0_14::StatusLayer", &layer);
    printed.add("grpc::tonic_0_14::StatusService", &layer.layer(()));
    let mut service = layer.layer(service);
    printed.add("grpc::tonic_0_14::StatusFuture", &service.call(request()));
}

const AEROPAY: &str = r#"{"TTL":1800,"token":"gT5fV3sE-token.of/the+issuer"}"#;
const AEROPAY_ECHO: &str =
    r#"{"success":false,"code":"pL4mW8tR-issuer-key","error":{"message":"cZ7kQ9vX-client/secret+1"}}"#;

fn aeropay(body: &'static str, printed: &mut Printed) -> Aeropay {
    let builder = Aeropay::builder()
        .environment(aeropay::Environment::Sandbox)
        .api_key(API_KEY)
        .api_secret(SECRET)
        .merchant_id(1057)
        .token_header("x-api-key", ISSUER_KEY)
        .http_client(issuer(body));
    printed.add("AeropayBuilder", &builder);
    printed.add("aeropay::AeropayBuilder", &builder);
    builder.build().unwrap()
}

async fn print_aeropay(printed: &mut Printed) {
    let provider = aeropay(AEROPAY, printed);
    printed.add("Aeropay", &provider);
    printed.add("aeropay::Aeropay", &provider);
    let layer = aeropay::layer(BearerAuthLayer::new(provider).audit_all().bodies(replay::Cloned));
    let client = layer.layer(api(AEROPAY));
    let request =
        Request::get("/user").extension(aeropay::UserId::new("user-17")).body(Full::<Bytes>::from(ELSEWHERE)).unwrap();
    let response = client.oneshot(request).await.unwrap();
    let audit = Audit::of(&response).unwrap();
    assert!(audit.generation.is_some());
    printed.add("Audit", audit);
    printed.add("aeropay::Identity", audit.key::<aeropay::Identity>().unwrap());
    printed.add("aeropay::RejectionBody", response.body());

    let failing = TokenSource::new(aeropay(AEROPAY_ECHO, printed));
    printed.error(&failing.token_for(&aeropay::Identity::merchant()).await.unwrap_err());

    printed.add("aeropay::Credentials", &aeropay::Credentials::new(API_KEY, SECRET));
    printed.add("aeropay::Environment", &aeropay::Environment::Sandbox);
    printed.add("aeropay::Scope", &aeropay::Scope::Merchant);
    printed.add("aeropay::TokenScope", &aeropay::TokenScope::Merchant);
    printed.add("aeropay::UserId", &aeropay::UserId::new("user-17"));
    printed.add("aeropay::MerchantId", &aeropay::MerchantId::new("1057"));
    printed.add("aeropay::MerchantIdForm", &aeropay::MerchantIdForm::Number);
    printed.add("aeropay::ApiVersion", &aeropay::ApiVersion::V2);
    printed.add("aeropay::Endpoint", &failing.provider().endpoints().first());
    let rejections = aeropay::RejectionLayer::new(aeropay::ApiVersion::V2);
    printed.add("aeropay::RejectionLayer", &rejections);
    let mut service = rejections.layer(api(AEROPAY));
    let request = Request::get("/").header("authorization", ELSEWHERE).body(Full::<Bytes>::default()).unwrap();
    printed.add("aeropay::RejectionFuture", &service.call(request));
    printed.add("aeropay::RejectionService", &rejections.layer(()));
}

async fn print_the_token_endpoint(printed: &mut Printed) {
    let client = issuer(GOOD);
    printed.add("token_endpoint::TokenClient", &client);
    let endpoint = TokenEndpoint::new("https://issuer.test/token?uB1xS4aM-callers-own", client).unwrap();
    printed.add("token_endpoint::TokenEndpoint", &endpoint);
    let request = TokenRequest::form(&[("client_secret", SECRET)])
        .header(HeaderName::from_static("x-api-key"), HeaderValue::from_static(ISSUER_KEY));
    printed.add("token_endpoint::TokenRequest", &request);
    printed.add("token_endpoint::EndpointResponse", &endpoint.call(request).await.unwrap());

    let sandbox = AccessPspSandbox::builder().require_client_certificate().start().await.unwrap();
    let (chain, key) = sandbox.client_identity_pem().unwrap();
    let builder = HttpClient::builder().roots_pem(sandbox.ca_pem()).identity_pem(chain, key);
    printed.add("token_endpoint::HttpClientBuilder", &builder);
    let mut client = builder.build().unwrap();
    printed.add("token_endpoint::HttpClient", &client);
    let proxied = |host: &str| HttpClient::builder().proxy(format!("http://user:{SECRET}@{host}"));
    printed.add("token_endpoint::HttpClientBuilder", &proxied("proxy.test"));
    printed.add("token_endpoint::HttpClient", &proxied("proxy.test").build().unwrap());
    printed.config_error(proxied("").build().unwrap_err());
    poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
    let form = "grant_type=client_credentials";
    let response = client.call(Request::post(sandbox.token_url()).body(Bytes::from(form)).unwrap()).await.unwrap();
    printed.add("token_endpoint::ResponseBody", response.body());

    // The sandbox makes its own secrets.
    let secrets = [sandbox.client_secret(), sandbox.api_key(), key.lines().nth(1).unwrap()];
    let mut own = Printed::default();
    let aeropay = AeropaySandbox::start().await.unwrap();
    printed.add("sandbox::AeropaySandbox", &aeropay);
    assert_eq!(canary::shown_in(&format!("{aeropay:?}"), &[aeropay.api_secret(), aeropay.api_key()]), None);
    own.add("", &sandbox);
    own.add("", &client);
    own.add("", &HttpClient::builder().identity_pem(chain, key));
    for text in own.0.values().flatten() {
        assert_eq!(canary::shown_in(text, &secrets), None, "{text}");
    }
    print_the_sandbox(printed, &sandbox);
}

fn print_the_sandbox(printed: &mut Printed, sandbox: &AccessPspSandbox) {
    printed.add("sandbox::AccessPspSandbox", sandbox);
    printed.add("sandbox::AccessPspSandboxBuilder", &AccessPspSandbox::builder().require_token_api_key());
    printed.add("sandbox::ScriptedResponse", &ScriptedResponse::new(StatusCode::OK).body(TOKEN));
    printed.add("sandbox::Fault", &Fault::AccessToken(Some(TOKEN.into())));
    printed.add("sandbox::Fault", &Fault::body(HeaderValue::from_static("text/plain"), TOKEN));
    printed.add("sandbox::AeropaySandboxBuilder", &AeropaySandbox::builder());
    printed.add("sandbox::Protocols", &Protocols::Both);
    printed.add("sandbox::Verdict", &Verdict::Accepted);
}

/// A sealing key, as hexadecimal digits.
const SEALING_KEY: &str = "9d5ed678fe57bcca610140957afab571a3b1c8d2f4e6071829304b5c6d7e8f90";

async fn print_shared(printed: &mut Printed) {
    let key = SealingKey::from_hex(SEALING_KEY).unwrap();
    printed.add("shared::SealingKey", &key);
    let wrong = SealingKey::from_hex(format!("x{}", &SEALING_KEY[1..])).unwrap_err();
    assert!(!format!("{wrong} {wrong:?}").contains(&SEALING_KEY[1..9]));
    printed.config_error(wrong);
    let identity =
        Identity::new(format!("https://issuer.test/?key={SECRET}")).field("user", ELSEWHERE).credential(SECRET);
    printed.add("shared::Identity", &identity);
    let store = MemoryStore::new();
    let provider = from_fn(|| async { IssuedToken::bearer(TOKEN) }).identified_by(identity);
    printed.add("FromFn", &provider);
    let builder = Shared::builder(provider, store.clone()).sealing_key(key.clone()).also_accept(key);
    printed.add("shared::SharedBuilder", &builder);
    let shared = builder.build().unwrap();
    printed.add("shared::Shared", &shared);
    printed.add("TokenSource", &TokenSource::new(shared).token().await.unwrap());
    printed.add("shared::MemoryStore", &store);
    let stored = Stored { version: [1; 16], bytes: TOKEN.into(), left: std::time::Duration::ZERO };
    printed.add("shared::Stored", &stored);
    printed.add("shared::Claim", &Claim::Token(stored));
    let nothing = Outcome::Nothing;
    printed.add("shared::Outcome", &nothing);
    let token = Outcome::Token { version: [1; 16], bytes: TOKEN.as_bytes(), keep: std::time::Duration::ZERO };
    printed.add("shared::Outcome", &token);
    printed.add("shared::OnStoreFailure", &OnStoreFailure::Fail);
    printed.add("shared::StoreError", &StoreError::new("connection refused"));
}

// R48
#[tokio::test]
async fn no_public_type_prints_a_secret() {
    let mut printed = Printed::default();
    print_the_core(&mut printed).await;
    print_the_rest_of_the_core(&mut printed).await;
    print_grpc(&mut printed).await;
    print_aeropay(&mut printed).await;
    print_the_token_endpoint(&mut printed).await;
    print_shared(&mut printed).await;

    // Records of the sandbox contain what tests send. Its own tests cover them.
    let elsewhere = [
        "ApiRequest",
        "MintedToken",
        "Recorder",
        "Sale",
        "Session",
        "IssuerRequest",
        "AeropayApiRequest",
        "AeropayIssuerRequest",
    ];
    let rows: BTreeSet<String> = printed.0.keys().cloned().collect();
    let types: BTreeSet<String> =
        [listed_types(LISTING), exported_types(&CRATE), exported_types(&SANDBOX)].into_iter().flatten().collect();
    let without: Vec<_> = types
        .iter()
        .filter(|name| !rows.contains(*name) && !NOT_PRINTED.contains(&name.as_str()))
        .filter(|name| !name.strip_prefix("sandbox::").is_some_and(|name| elsewhere.contains(&name)))
        .collect();
    assert!(without.is_empty(), "public types without a row here: {without:?}");
    for (name, texts) in &printed.0 {
        for text in texts {
            assert_eq!(canary::shown_in(text, ALL), None, "{name}: {text}");
        }
    }
    println!("{} types printed", printed.0.len());
}

/// More public types than this make the crate hard to learn.
const MAX_TYPES: usize = 100;

// A tool outside of the gate makes the listing. The exports of the sources show whether it is current.
#[test]
fn the_committed_listing_matches_the_sources() {
    // An alias.
    let not_listed = ["BoxError"].map(str::to_owned).into();
    let exported: BTreeSet<String> = exported_types(&CRATE).difference(&not_listed).cloned().collect();
    assert_eq!(listed_types(LISTING), exported, "run scripts/public-api --write and commit the listing");
    assert!(exported.len() <= MAX_TYPES, "{} public types, the limit is {MAX_TYPES}", exported.len());
}

#[test]
fn the_types_of_a_listing_are_found() {
    let listing = "pub mod tower_bearer_auth::a\n#[must_use] #[non_exhaustive] pub struct tower_bearer_auth::a::One<T>(_)\n\
                   pub trait tower_bearer_auth::Two: core::fmt::Debug\npub enum tower_bearer_auth::Three\n\
                   impl tower_bearer_auth::Three\npub fn tower_bearer_auth::Three::enum(&self)\n";
    assert_eq!(listed_types(listing), ["Three", "Two", "a::One"].map(str::to_owned).into());
}

#[test]
fn the_exported_types_are_found() {
    let listed: BTreeSet<String> = exported_types(&CRATE).into_iter().chain(exported_types(&SANDBOX)).collect();
    for name in
        ["Error", "BearerAuthLayer", "Token", "token_endpoint::HttpClient", "replay::Buffered", "sandbox::Fault"]
    {
        assert!(listed.contains(name), "{name}: {listed:?}");
    }
    // An empty list would make the test above meaningless.
    assert!(listed.len() > 45, "{listed:?}");
}

#[test]
fn the_detector_finds_every_form() {
    const SECRET: &str = "xQ8w/Zt4-canary+7";
    struct Leaks;
    impl std::fmt::Debug for Leaks {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_tuple("Leaks").field(&SECRET).finish()
        }
    }
    let percent: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    for leak in [
        format!("{Leaks:?}"),
        percent,
        STANDARD.encode(SECRET),
        URL_SAFE_NO_PAD.encode(SECRET),
        format!("{:?}", SECRET.as_bytes()),
        format!("{:?}", bytes::Bytes::from(SECRET)),
        SECRET[..canary::FRAGMENT].to_owned(),
        SECRET[SECRET.len() - canary::FRAGMENT..].to_owned(),
    ] {
        assert!(canary::shown_in(&leak, &[SECRET]).is_some(), "{leak}");
    }
}

#[test]
fn the_detector_accepts_a_text_without_a_secret() {
    let text = "the issuer rejects the client's credentials (HTTP 401)";
    assert_eq!(canary::shown_in(text, &["xQ8w/Zt4-canary+7", SECRET, ISSUER_KEY, API_KEY, TOKEN, ELSEWHERE]), None);
}
