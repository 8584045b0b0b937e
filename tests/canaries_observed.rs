//! R48: at TRACE, no provider reports a secret or a token: on success, on each failure, on a replay and on a panic.
//!
//! The servers run on another thread, which is not observed, because they log every header that they receive. On the
//! observed thread, the client's other crates report too: h2 and hyper-util with `tracing`, rustls with `log`. (hyper's
//! own tracing is behind a compiler cfg.)
//!
//! The logger of the `log` crate is global, so these tests have a binary of their own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer as _, Service, ServiceExt as _};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{
    Aeropay, BasicEncoding, BearerAuthLayer, BoxError, ClientCredentials, Error, FixedToken, IssuedToken,
    PrivateKeyJwt, SigningAlgorithm, TokenProvider, TokenSource, aeropay, from_fn, replay,
};
use tower_bearer_auth_sandbox::{AccessPspSandbox, AeropaySandbox, Fault, ScriptedResponse};

mod support;
use support::canary::shown_in;
use support::https::{self, Http};
use support::strict_issuer::{ReceivedRequest, StrictIssuer};
use support::telemetry::Capture;
use support::time::Ahead;

/// Secrets that no server has. They are in URLs, bodies, panics and errors.
const SECRET: &str = "cZ7kQ9vX-client/secret+1";
const TOKEN: &str = "gT5fV3sE-token.of/the+issuer";
const ELSEWHERE: &str = "uB1xS4aM-callers-own";

/// Collects the records of the `log` crate for each thread.
struct Log;

thread_local!(static LOGGED: RefCell<String> = const { RefCell::new(String::new()) });

impl Log {
    fn start() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            log::set_logger(&Self).unwrap();
            log::set_max_level(log::LevelFilter::Trace);
        });
    }

    fn text() -> String {
        LOGGED.with_borrow(String::clone)
    }
}

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        use std::fmt::Write as _;
        // A thread that is ending has no text any more.
        let _ = LOGGED.try_with(|text| writeln!(text.borrow_mut(), "{} {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

struct Servers {
    psp: AccessPspSandbox,
    aeropay: AeropaySandbox,
    /// Accepts every second request and echoes the others.
    strict: StrictIssuer,
    /// Opens no tunnel and echoes the request.
    proxy: String,
    _runtime: Runtime,
}

impl Servers {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let turn = AtomicUsize::new(0);
        let (psp, aeropay, strict, proxy) = runtime.block_on(async {
            let psp = AccessPspSandbox::builder().require_token_api_key().start().await.unwrap();
            let strict = StrictIssuer::start(move |_| turn.fetch_add(1, Ordering::SeqCst).is_multiple_of(2)).await;
            (psp, AeropaySandbox::start().await.unwrap(), strict, closed_proxy().await)
        });
        Self { psp, aeropay, strict, proxy, _runtime: runtime }
    }

    /// The secrets that the sandboxes made, and every token that an API received.
    fn random_secrets(&self) -> BTreeSet<String> {
        let keys = [self.psp.client_secret(), self.psp.api_key(), self.psp.token_api_key()];
        let keys = keys.into_iter().chain([self.aeropay.api_key(), self.aeropay.api_secret()]);
        let psp = self.psp.api_requests().into_iter().map(|request| request.headers);
        let aeropay = self.aeropay.api_requests().into_iter().map(|call| call.headers);
        let tokens = psp
            .chain(aeropay)
            .flat_map(|headers| [AUTHORIZATION.as_str(), "authorizationToken"].map(|name| headers.get(name).cloned()));
        let tokens: Vec<_> = tokens.flatten().collect();
        // Only the signature of a JWT, because the other parts are similar in all of them.
        let signatures = tokens.iter().filter_map(|token| token.to_str().unwrap().rsplit('.').next());
        let proofs = self.strict.requests().into_iter().flat_map(|seen| proofs_in(&seen));
        keys.chain(signatures).map(str::to_owned).chain(proofs).collect()
    }
}

/// The client authentication of a request: the credentials of `Basic`, or the signature of an assertion.
fn proofs_in(seen: &ReceivedRequest) -> Vec<String> {
    let basic = seen.authorization.iter().filter_map(|value| value.strip_prefix("Basic "));
    let signed = seen.one("client_assertion").and_then(|assertion| assertion.rsplit('.').next());
    basic.chain(signed).map(str::to_owned).collect()
}

async fn closed_proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap_or_default();
            let head = String::from_utf8_lossy(&head[..read]).replace("\r\n", " ");
            let response = format!("HTTP/1.1 407 {head}\r\nproxy-authenticate: Basic {head}\r\n\r\n{head}");
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    address.to_string()
}

/// A form of a random secret in `text`, if there is one. Fragments have 12 characters: the log contains so many random
/// digits that fragments of 8 would match by chance.
fn random_secret_in(text: &str, secrets: &BTreeSet<String>) -> Option<String> {
    let forms = secrets.iter().flat_map(|secret| {
        let bytes = format!("{:?}", secret.as_bytes());
        let percent = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let whole = [STANDARD.encode(secret), percent, bytes[1..bytes.len() - 1].to_owned()];
        let pieces = secret.as_bytes().chunks_exact(12).map(|piece| String::from_utf8_lossy(piece).into_owned());
        whole.into_iter().chain(pieces).collect::<Vec<_>>()
    });
    forms.into_iter().find(|form| text.contains(form.as_str()))
}

/// A response that repeats what the issuer received.
fn hostile(status: u16, echo: &str) -> Fault {
    let json = serde_json::to_string(echo).unwrap();
    let body = format!(r#"{{"error":{json},"error_description":{json},"error_uri":{json},"code":{json}}}"#);
    let value = HeaderValue::from_str(echo).unwrap();
    let response = ScriptedResponse::new(StatusCode::from_u16(status).unwrap()).json(body);
    Fault::Response(
        response.header(RETRY_AFTER, value.clone()).header(LOCATION, value.clone()).header(WWW_AUTHENTICATE, value),
    )
}

/// Each way in which an issuer can fail. `sent` is a secret that it received.
fn faults(sent: &str) -> Vec<Fault> {
    let mut faults: Vec<_> = [302, 400, 401, 403, 429, 500, 503].map(|status| hostile(status, sent)).into();
    faults.extend([hostile(400, TOKEN), hostile(500, TOKEN)]);
    faults.extend([
        Fault::disabled_client(),
        Fault::body(HeaderValue::from_static("text/html"), format!("<html>{sent}{TOKEN}</html>")),
        Fault::body(HeaderValue::from_static("application/json"), format!(r#"{{"access_token":"{TOKEN}"#)),
        Fault::body(HeaderValue::from_static("application/json"), ""),
        Fault::TruncatedBody,
        Fault::Reset,
        Fault::Hang,
        Fault::TokenType(Some(format!("DPoP {sent}"))),
        Fault::AccessToken(Some(format!("{TOKEN}\r\n{sent}"))),
        Fault::AccessToken(None),
    ]);
    faults
}

const FAULTS: usize = 19;

fn request(method: Method, url: String) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(url)
        .header("cookie", sensitive(ELSEWHERE))
        .header(AUTHORIZATION, sensitive(ELSEWHERE))
        .body(Full::from(ELSEWHERE))
        .unwrap()
}

/// The caller marks its own headers. h2 logs headers that are not marked.
fn sensitive(value: &'static str) -> HeaderValue {
    let mut value = HeaderValue::from_static(value);
    value.set_sensitive(true);
    value
}

/// Uses a provider with one identity, from its first token through every failure.
async fn drive<P: TokenProvider<Key = ()>>(provider: P, sandbox: &AccessPspSandbox, version: Http) {
    let ahead = Ahead::default();
    let source = TokenSource::builder(provider).clock(ahead.clone()).patience(Duration::ZERO).build();
    let client = source.layer().bodies(replay::Cloned).layer(https::client(sandbox, version));
    let echo = format!("{}/echo", sandbox.api_origin());
    let send = |method: Method| client.clone().oneshot(request(method, echo.clone()));
    assert_eq!(send(Method::POST).await.unwrap().status(), 200);
    // A replay, with an API that repeats the token.
    sandbox.reject_with(ScriptedResponse::challenge(
        HeaderValue::from_str(&format!("Bearer error=\"invalid_token\", x=\"{TOKEN}\"")).unwrap(),
    ));
    sandbox.revoke_all();
    assert_eq!(send(Method::POST).await.unwrap().status(), 200);
    // A rejection without a replay, and one with a failed refresh.
    sandbox.reject_next(1);
    let once = source.layer().replay(replay::Mode::Never).layer(https::client(sandbox, version));
    assert_eq!(once.oneshot(request(Method::POST, echo.clone())).await.unwrap().status(), 401);
    assert_eq!(send(Method::GET).await.unwrap().status(), 200);
    sandbox.reject_next(1);
    sandbox.script(hostile(400, SECRET));
    assert_eq!(send(Method::GET).await.unwrap().status(), 401);
    source.rotate();
    // Each failure of a token request, and of the request that waits for it.
    for fault in faults(sandbox.client_secret()) {
        let before = sandbox.token_request_count();
        sandbox.script(fault);
        send(Method::GET).await.unwrap_err();
        assert_eq!(sandbox.token_request_count(), before + 1);
        send(Method::GET).await.unwrap_err();
        // A rotation within a second of the last one ends no backoff.
        *ahead.0.lock() += Duration::from_secs(1);
        source.rotate();
    }
    source.token().await.unwrap();
    source.invalidate();
    // A foreign origin with secrets in its URL. (hyper-util logs the authority of every URL, including a user name.
    // `tests/observability` shows that this crate does not.)
    let foreign = sandbox.recorder().await.unwrap();
    let url = format!("{}/{ELSEWHERE}?key={ELSEWHERE}", foreign.origin());
    let client = source.layer().layer(https::client(sandbox, Http::One));
    client.oneshot(request(Method::GET, url)).await.unwrap();
}

/// Uses each method of client authentication, accepted and rejected, and a proxy.
async fn drive_client_authentication(servers: &Servers) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let client = || ClientCredentials::builder().client_id("orders").api_origin("https://api.test");
    let basic = |encoding| client().client_secret(SECRET).client_secret_basic(encoding);
    let methods = [
        basic(BasicEncoding::Percent),
        basic(BasicEncoding::Form),
        basic(BasicEncoding::Raw),
        client().private_key_jwt(PrivateKeyJwt::new(SigningAlgorithm::Es256, key)),
    ];
    for method in methods {
        let source = TokenSource::new(method.token_url(servers.strict.token_url()).build().unwrap());
        source.token().await.unwrap();
        source.rotate();
        assert_eq!(source.token().await.unwrap_err().code(), Some("invalid_client"));
    }
    let proxy = HttpClient::builder()
        .roots_pem(servers.psp.ca_pem())
        .proxy(format!("http://user:{ELSEWHERE}@{}", servers.proxy));
    let method = basic(BasicEncoding::Percent).token_url(servers.psp.token_url()).http_client(proxy.build().unwrap());
    TokenSource::new(method.build().unwrap()).token().await.unwrap_err();
}

async fn drive_aeropay(sandbox: &AeropaySandbox, version: aeropay::ApiVersion) {
    let prefix = if version == aeropay::ApiVersion::V2 { "/v2" } else { "" };
    // A token request that fails on a reused connection would be sent once more, and would not fail.
    let http = HttpClient::builder().roots_pem(sandbox.ca_pem()).idle_timeout(Duration::ZERO).build().unwrap();
    let provider = Aeropay::builder()
        .api_version(version)
        .base_url(sandbox.base_url())
        .api_key(sandbox.api_key())
        .api_secret(sandbox.api_secret())
        .merchant_id(sandbox.merchant_id())
        .timeout(Duration::from_millis(200))
        .http_client(http.clone())
        .build()
        .unwrap();
    let source = TokenSource::builder(provider).max_keys(1).build();
    let client = aeropay::layer(source.layer().bodies(replay::Cloned)).layer(http);
    let send = |method: Method, path: &str, user: Option<&aeropay::UserId>, body: &'static str| {
        let request = Request::builder().method(method).uri(format!("{}{prefix}{path}", sandbox.base_url()));
        let request = request.header("content-type", "application/json").header("cookie", sensitive(ELSEWHERE));
        let mut request = request.body(Bytes::from(body)).unwrap();
        if let Some(user) = user {
            request.extensions_mut().insert(user.clone());
        }
        client.clone().oneshot(request)
    };
    let mut users = Vec::new();
    for body in [r#"{"email":"a"}"#, r#"{"email":"b"}"#] {
        let response = send(Method::POST, "/user", None, body).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let user = aeropay::UserId::from(body["user"]["userId"].as_str().unwrap());
        let confirm: &'static str = format!(r#"{{"userId":"{user}"}}"#).leak();
        assert_eq!(send(Method::POST, "/confirmUser", None, confirm).await.unwrap().status(), 200);
        users.push(user);
    }
    // Two users and the merchant share a cache for one key.
    for user in users.iter().chain(&users) {
        assert_eq!(send(Method::GET, "/user", Some(user), "").await.unwrap().status(), 200);
    }
    assert!(source.stats().evicted > 0);
    sandbox.revoke_all();
    assert_eq!(send(Method::GET, "/user", Some(&users[1]), "").await.unwrap().status(), 200);
    for fault in faults(sandbox.api_secret()) {
        sandbox.script(fault.clone());
        let _ = send(Method::GET, "/user", Some(&users[0]), "").await;
        sandbox.clear_script();
        source.rotate();
        sandbox.script(fault);
        let _ = source.token_for(&aeropay::Identity::merchant()).await;
        sandbox.clear_script();
        source.rotate();
    }
    // Aeropay's responses have no token type, so one of the faults is a success here.
    assert!(source.stats().fetches_failed as usize >= 2 * (FAULTS - 1), "{:?}", source.stats());
}

/// An API in this process that rejects every second request.
#[derive(Clone, Default)]
struct Alternating(Arc<AtomicUsize>);

impl Service<Request<Full<Bytes>>> for Alternating {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        let mut response = Response::new(Full::from(TOKEN));
        if number % 2 == 1 {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
        }
        ready(Ok(response))
    }
}

async fn send_some<P: TokenProvider<Key = ()>>(provider: P) {
    let source = TokenSource::new(provider);
    let layer: BearerAuthLayer<P, _> = source.layer().allow_origin("https://api.test").unwrap().bodies(replay::Cloned);
    let client = layer.layer(Alternating::default());
    for _ in 0..4 {
        let url = format!("https://api.test/{ELSEWHERE}?{SECRET}");
        let _ = client.clone().oneshot(request(Method::GET, url)).await;
    }
    source.rotate();
    let _ = source.token().await;
    source.invalidate();
}

/// A source with secrets, like an error of an HTTP client that contains a body.
fn cause() -> String {
    format!("body: {SECRET} {TOKEN}")
}

async fn drive_small_providers() {
    send_some(FixedToken::new(TOKEN).unwrap()).await;
    send_some(from_fn(|| async { IssuedToken::bearer(TOKEN) })).await;
    send_some(from_fn(|| async { Err(Error::permanent(cause())) })).await;
    send_some(from_fn(|| async { Err(Error::transient(cause()).with_code(SECRET)) })).await;
    send_some(from_fn(|| async { IssuedToken::bearer(format!("{TOKEN}\r\n")) })).await;
    // The panic hook of the process prints the message.
    send_some(from_fn(|| async { panic!("{SECRET} {TOKEN}") })).await;
}

fn drive_everything() -> (Capture, Servers) {
    Log::start();
    let servers = Servers::start();
    let capture = Capture::start();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let psp = &servers.psp;
        for version in [Http::One, Http::Two] {
            let provider = https::provider(psp).token_api_key(psp.token_api_key()).api_key(psp.api_key());
            let provider = provider.timeout(Duration::from_millis(200)).build().unwrap();
            drive(provider, psp, version).await;
        }
        let builder = ClientCredentials::builder()
            .client_id(psp.client_id())
            .client_secret(psp.client_secret())
            .token_header("x-api-key", psp.token_api_key())
            .api_header("x-api-key", psp.api_key())
            .token_url(format!("{}?", psp.token_url()).trim_end_matches('?'))
            .api_origin(psp.api_origin())
            .timeout(Duration::from_millis(200))
            .http_client(HttpClient::builder().roots_pem(psp.ca_pem()).build().unwrap());
        drive(builder.build().unwrap(), psp, Http::Two).await;
        // Wrong credentials, rejected by the issuer.
        let bad = https::provider(psp).client_secret(SECRET).token_api_key(psp.token_api_key()).build().unwrap();
        let bad = TokenSource::new(bad);
        assert_eq!(bad.token().await.unwrap_err().status(), Some(StatusCode::UNAUTHORIZED));
        for version in [aeropay::ApiVersion::V1, aeropay::ApiVersion::V2] {
            drive_aeropay(&servers.aeropay, version).await;
        }
        drive_client_authentication(&servers).await;
        drive_small_providers().await;
    });
    drop(runtime);
    (capture, servers)
}

// R48
#[test]
fn no_provider_reports_a_secret_or_a_token_at_trace() {
    assert_eq!(faults("x").len(), FAULTS);
    let (capture, servers) = drive_everything();
    let random = servers.random_secrets();
    let seen = capture.all();
    for text in [capture.text(), Log::text()] {
        println!("{} bytes", text.len());
        let shown = shown_in(&text, &[SECRET, TOKEN, ELSEWHERE]).or_else(|| random_secret_in(&text, &random));
        assert_eq!(shown.map(|form| around(&text, &form)), None);
    }
    println!("{} spans and events, {} random secrets", seen.len(), random.len());

    // The search is only meaningful if everything was reported. There are about 3900 spans and events.
    assert!(seen.len() > 3_500, "{} spans and events", seen.len());
    let events: BTreeSet<_> = capture.events().into_iter().map(|event| event.name).collect();
    for name in [
        "token_minted",
        "token_request_failed",
        "token_rejected",
        "request_replayed",
        "request_not_replayed",
        "request_not_stamped",
        "keys_evicted",
        "credentials_rotated",
        "token_invalidated",
    ] {
        assert!(events.contains(name), "{name}: {events:?}");
    }
    for kind in
        ["panicked", "timeout", "malformed_response", "invalid_credentials", "unsupported_token_type", "throttled"]
    {
        assert!(capture.count("token_requests_total", &[("error", kind)]) > 0, "{kind}");
    }
    for stack in ["h2::", "hyper_util::"] {
        assert!(seen.iter().any(|seen| seen.target.starts_with(stack)), "{stack} reported nothing");
    }
    assert!(Log::text().contains("rustls"), "rustls logged nothing");
    assert!(random.len() > 10, "{}", random.len());
    // Three encodings of one secret, two of which are equal, and two signatures.
    let proofs: BTreeSet<_> = servers.strict.requests().iter().flat_map(proofs_in).collect();
    assert!(proofs.len() >= 4 && proofs.is_subset(&random), "{} proofs", proofs.len());
    for secret in &random {
        assert!(random_secret_in(&format!("x{secret}y"), &random).is_some(), "{secret}");
    }
}

fn around(text: &str, form: &str) -> String {
    let text = text.to_ascii_lowercase();
    let at = text.find(&form.to_ascii_lowercase()).unwrap_or_default();
    text.chars().skip(at.saturating_sub(300)).take(600).collect()
}

/// The search finds a leak in every place.
#[test]
fn a_leak_in_a_span_an_event_or_a_metric_is_found() {
    #[derive(Clone, Debug)]
    struct Leaks {
        _secret: &'static str,
    }
    let leaks = Leaks { _secret: SECRET };
    let failed = Error::permanent(cause());
    let leak: [&dyn Fn(); 9] = [
        &|| drop(tracing::trace_span!("span", leak = ?leaks)),
        &|| {
            let span = tracing::trace_span!("span", leak = tracing::field::Empty);
            span.record("leak", SECRET);
        },
        &|| tracing::trace!(?leaks, "event"),
        &|| tracing::trace!("event {leaks:?}"),
        &|| tracing::trace!(bytes = ?SECRET.as_bytes()),
        // An event of this crate with `Debug` instead of `Display`.
        &|| tracing::warn!(target: "tower_bearer_auth", error = ?failed),
        &|| metrics::counter!("count", "key" => SECRET).increment(1),
        &|| metrics::counter!(format!("count_{TOKEN}")).increment(1),
        &|| metrics::histogram!("times", "key" => format!("{leaks:?}")).record(1.0),
    ];
    for (at, leak) in leak.iter().enumerate() {
        let capture = Capture::start();
        assert_eq!(shown_in(&capture.text(), &[SECRET, TOKEN]), None);
        leak();
        assert!(shown_in(&capture.text(), &[SECRET, TOKEN]).is_some(), "{at}: {}", capture.text());
    }
    Log::start();
    log::trace!("{leaks:?}");
    assert!(shown_in(&Log::text(), &[SECRET]).is_some());
}
