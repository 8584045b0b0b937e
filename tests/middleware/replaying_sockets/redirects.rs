//! Redirects: which headers arrive at the target, with the follower outside and inside of the layer.

use http::{HeaderMap, HeaderName};
use tower_bearer_auth::{Error, ErrorKind, FetchContext, IssuedToken, TokenProvider};
use tower_bearer_auth_sandbox::Recorder;
use tower_http::follow_redirect::FollowRedirectLayer;

use super::*;

const TOKEN: &str = "canary-token-0123456789";
const KEY: &str = "canary-key-0123456789";

/// A provider that uses this header for its token, and adds an API key.
struct Canary(&'static str);

const HEADERS: [&str; 2] = ["authorization", "authorizationtoken"];

impl TokenProvider for Canary {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        IssuedToken::bearer(TOKEN)
    }

    fn header(&self) -> HeaderName {
        HeaderName::from_static(self.0)
    }

    fn api_headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), HeaderValue::from_static(KEY))])
    }
}

fn moved(status: u16, location: &str) -> ScriptedResponse {
    let location = HeaderValue::from_str(location).unwrap();
    ScriptedResponse::new(StatusCode::from_u16(status).unwrap()).header(http::header::LOCATION, location)
}

/// The host and the port.
fn authority(recorder: &Recorder) -> String {
    recorder.origin().split_once("://").unwrap().1.to_owned()
}

fn port(recorder: &Recorder) -> String {
    recorder.origin().rsplit_once(':').unwrap().1.to_owned()
}

fn assert_nothing_leaked(recorder: &Recorder, what: &str) {
    for secret in [TOKEN, KEY, "uthorization", "x-api-key"] {
        assert!(!recorder.has_received(secret.as_bytes()), "{what}: {secret} arrived");
    }
}

fn get(url: &str) -> Request<Body> {
    Request::get(url).body(Body::default()).unwrap()
}

// R25, R28: the follower is outside of the layer, so the layer checks the origin of each hop.
#[tokio::test]
async fn a_follower_outside_of_the_layer_sends_no_secret_to_another_origin() {
    let _files = super::FILES.read().await;
    let sandbox = AccessPspSandbox::start().await.unwrap();
    for header in HEADERS {
        let api = sandbox.recorder().await.unwrap();
        let foreign = sandbox.recorder().await.unwrap();
        let clear = Recorder::start().await.unwrap();
        let layer = BearerAuthLayer::new(Canary(header)).allow_origin(&api.origin()).unwrap();
        let client = FollowRedirectLayer::new().layer(layer.layer(client::<Body>(&sandbox, Http::One)));
        let (api_at, foreign_at) = (authority(&api), authority(&foreign));
        let elsewhere = [
            foreign.origin(),
            format!("//{foreign_at}/scheme-relative"),
            format!("https://{api_at}@{foreign_at}/userinfo"),
            format!("https://{}%2F@{foreign_at}/userinfo", api_at.replace(':', "%3A")),
            format!("https://localhost:{}/another-name", port(&foreign)),
        ];
        let mut hops = 0;
        for location in &elsewhere {
            for status in [301, 302, 303, 307, 308] {
                api.respond_with(moved(status, location));
                let response = client.clone().oneshot(get(&format!("{}/start", api.origin()))).await.unwrap();
                hops += 1;
                assert_eq!((response.status(), foreign.request_count()), (StatusCode::OK, hops), "{location}");
                assert_nothing_leaked(&foreign, location);
            }
        }
        // To clear text on a host that is allowed over https: an error before any I/O.
        api.respond_with(moved(302, &clear.origin()));
        let error = client.clone().oneshot(get(&api.origin())).await.unwrap_err();
        assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::InsecureUrl);
        assert_eq!(clear.connections(), 0);
        // To the API's port by another name, or with a user name: the same server, but not an allowed origin.
        for location in [format!("https://localhost:{}/x", port(&api)), format!("https://user:pw@{api_at}/x")] {
            let before = api.requests().len();
            api.respond_with(moved(302, &location));
            client.clone().oneshot(get(&api.origin())).await.unwrap();
            let carried: Vec<_> = api.requests()[before..].iter().map(|request| carries_token(request)).collect();
            assert_eq!((carried[0], carried[1]), (true, false), "{location}");
        }
        // The same URLs without a redirect.
        for url in elsewhere.iter().filter(|url| url.starts_with("https")) {
            assert_eq!(client.clone().oneshot(get(url)).await.unwrap().status(), 200);
            assert_nothing_leaked(&foreign, url);
        }
        assert!(
            api.has_received(TOKEN.as_bytes()) && api.has_received(KEY.as_bytes()),
            "the search finds the secrets at the API"
        );
    }
}

fn carries_token(request: &[u8]) -> bool {
    String::from_utf8_lossy(request).contains(TOKEN)
}

// Each hop is stamped, with the new token after the replay.
#[tokio::test]
async fn a_redirect_within_the_api_is_stamped_and_replayed() {
    let _files = super::FILES.read().await;
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let layer = BearerAuthLayer::new(provider(&sandbox).api_key(KEY).build().unwrap());
    layer.source().warm_up().await.unwrap();
    sandbox.revoke_all();
    sandbox.script_api(moved(307, "/echo?x=1"));
    let client = FollowRedirectLayer::new().layer(layer.layer(client::<Body>(&sandbox, Http::Two)));
    let response = client.oneshot(get(&format!("{}/start", sandbox.api_origin()))).await.unwrap();
    assert_eq!(response.status(), 200);
    let seen = sandbox.api_requests();
    let paths: Vec<_> = seen.iter().map(|request| (&*request.path, request.verdict.unwrap())).collect();
    let [revoked, accepted] = [Verdict::Revoked, Verdict::Accepted];
    assert_eq!(paths, [("/start", revoked), ("/start", accepted), ("/echo?x=1", accepted)]);
    assert!(seen.iter().all(|request| request.headers["x-api-key"] == KEY));
}

/// Whether the token and the API key arrived at the foreign server.
fn leaks(foreign: &Recorder) -> [bool; 2] {
    [TOKEN, KEY].map(|secret| foreign.has_received(secret.as_bytes()))
}

// R25: the follower repeats the stamped headers. It removes `Authorization`, and no other header.
#[tokio::test]
async fn a_follower_inside_of_the_layer_leaks_every_header_except_authorization() {
    let _files = super::FILES.read().await;
    let sandbox = AccessPspSandbox::start().await.unwrap();
    for (header, expected) in HEADERS.into_iter().zip([[false, true], [true, true]]) {
        let api = sandbox.recorder().await.unwrap();
        let foreign = sandbox.recorder().await.unwrap();
        api.respond_with(moved(302, &foreign.origin()));
        let layer = BearerAuthLayer::new(Canary(header)).allow_origin(&api.origin()).unwrap();
        let client = layer.layer(FollowRedirectLayer::new().layer(client::<Body>(&sandbox, Http::One)));
        assert_eq!(client.oneshot(get(&api.origin())).await.unwrap().status(), 200);
        assert_eq!((foreign.request_count(), leaks(&foreign)), (1, expected), "{header}");
    }
}

// R25: reqwest is inside of the layer and follows redirects by default.
#[tokio::test]
async fn reqwest_inside_of_the_layer_leaks_every_header_except_authorization_unless_it_follows_no_redirect() {
    let _files = super::FILES.read().await;
    for (header, expected) in HEADERS.into_iter().zip([[false, true], [true, true]]) {
        for follows in [true, false] {
            let api = Recorder::start().await.unwrap();
            let foreign = Recorder::start().await.unwrap();
            api.respond_with(moved(302, &foreign.origin()));
            let policy = if follows { reqwest::redirect::Policy::default() } else { reqwest::redirect::Policy::none() };
            // No connection uses TLS here, but reqwest needs a TLS configuration if there is no process default.
            let tls =
                rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth();
            let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
            let client = builder.redirect(policy).no_proxy().build().unwrap();
            let service = tower::ServiceBuilder::new()
                .layer(FollowRedirectLayer::new())
                .layer(BearerAuthLayer::new(Canary(header)).allow_origin(&api.origin()).unwrap())
                .map_response(Response::<reqwest::Body>::from)
                .map_request(|request: Request<reqwest::Body>| reqwest::Request::try_from(request).unwrap())
                .service(client);
            let request = Request::get(api.origin()).body(reqwest::Body::default()).unwrap();
            assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
            let expected = if follows { expected } else { [false, false] };
            assert_eq!((foreign.request_count(), leaks(&foreign)), (1, expected), "{header}, follows: {follows}");
        }
    }
}
