//! One client for many APIs: each request chooses the scope, the audience or the resources of its token.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::{
    Audit, ClientCredentials, ClientCredentialsBuilder, DynProvider, ErrorKind, FetchContext, NotSent, TargetApi,
    TokenProvider, TokenSource,
};

use crate::support::api::Api;
use crate::support::responses::{bearer, response, response_with};

/// An issuer that puts the parameters of each request into the token.
fn issuer() -> Api {
    Api::new(|request| {
        let fields: BTreeMap<String, String> = form_urlencoded::parse(request.body()).into_owned().collect();
        let named = ["scope", "audience", "resource"].map(|name| fields.get(name).cloned().unwrap_or_default());
        let token = named.join("|").replace(' ', "+");
        let body = serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": 1800 });
        response_with(StatusCode::OK, body.to_string())
    })
}

fn base(issuer: &Api) -> ClientCredentialsBuilder {
    ClientCredentials::builder()
        .client_id("orders")
        .client_secret("secret")
        .token_url("https://issuer.test/token")
        .api_origin("https://api.test")
        .http_client(issuer.clone())
}

fn source(issuer: &Api) -> TokenSource<ClientCredentials<TargetApi>> {
    TokenSource::new(base(issuer).build_keyed().unwrap())
}

fn request(target: Option<&TargetApi>) -> Request<Full<Bytes>> {
    let mut request = Request::get("https://api.test/").body(Full::default()).unwrap();
    if let Some(target) = target {
        request.extensions_mut().insert(target.clone());
    }
    request
}

/// The bodies of the token requests, in order.
fn bodies(issuer: &Api) -> Vec<String> {
    issuer.sends().iter().map(|request| String::from_utf8(request.body().to_vec()).unwrap()).collect()
}

// R30, R98
#[tokio::test(start_paused = true)]
async fn requests_for_different_apis_never_share_a_token() {
    let issuer = issuer();
    let source = source(&issuer);
    let api = Api::new(|_| response(StatusCode::OK));
    let mut expected = HashMap::new();
    for n in 0..40 {
        let name = format!("read:{n}x");
        expected.insert(TargetApi::new().scope(&name), format!("{name}||"));
        expected.insert(TargetApi::new().audience(&name), format!("|{name}|"));
        expected.insert(TargetApi::new().resource(&name), format!("||{name}"));
        expected.insert(TargetApi::new().scope(&name).audience("https://a.test"), format!("{name}|https://a.test|"));
    }
    let service = source.layer().layer(api.clone());
    let calls = (0..3).flat_map(|_| expected.keys()).map(|target| {
        let (service, target) = (service.clone(), target.clone());
        async move {
            let response = service.oneshot(request(Some(&target))).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
    });
    join_all(calls).await;
    assert_eq!(api.sends().len(), 3 * expected.len());
    for sent in api.sends() {
        let target = sent.extensions().get::<TargetApi>().unwrap();
        assert_eq!(bearer(&sent), expected[target]);
    }
    let distinct: BTreeSet<String> = bodies(&issuer).into_iter().collect();
    assert_eq!((issuer.sends().len(), distinct.len()), (expected.len(), expected.len()));
}

// R98, R29: the token of the builder's scope would have the rights of another API.
#[tokio::test(start_paused = true)]
async fn a_request_that_names_no_api_is_not_sent() {
    let issuer = issuer();
    let provider = base(&issuer).scope("everything").build_keyed().unwrap();
    let source = TokenSource::new(provider);
    let api = Api::new(|_| response(StatusCode::OK));
    let service = source.layer().audit_all().layer(api.clone());
    let error = service.clone().oneshot(request(None)).await.unwrap_err();
    let not_sent = error.downcast_ref::<NotSent>().unwrap();
    assert_eq!(not_sent.error().kind(), ErrorKind::MissingKey);
    assert!(not_sent.error().hint().unwrap().contains("TargetApi"), "{error}");
    assert_eq!((issuer.sends().len(), api.sends().len()), (0, 0));
    // The builder's own settings have a name.
    let response = service.oneshot(request(Some(&TargetApi::new()))).await.unwrap();
    assert_eq!(Audit::of(&response).unwrap().key::<TargetApi>(), Some(&TargetApi::new()));
    assert_eq!(bearer(&api.sends()[0]), "everything||");
}

// RFC 6749 section 3.3: the order of the names does not matter.
#[tokio::test(start_paused = true)]
async fn a_scope_is_a_set_and_resources_are_a_list() {
    let issuer = issuer();
    let source = source(&issuer);
    for same in ["read write", "write read", " write  read write "] {
        source.token_for(&TargetApi::new().scope(same)).await.unwrap();
    }
    assert_eq!(bodies(&issuer).len(), 1);
    assert!(bodies(&issuer)[0].ends_with("&scope=read+write"), "{:?}", bodies(&issuer));
    // Scopes are case-sensitive.
    source.token_for(&TargetApi::new().scope("Read write")).await.unwrap();
    let two = |a: &str, b: &str| TargetApi::new().resource(a).resource(b);
    source.token_for(&two("urn:x:a", "urn:x:b")).await.unwrap();
    source.token_for(&two("urn:x:b", "urn:x:a")).await.unwrap();
    source.token_for(&two("urn:x:a", "urn:x:b")).await.unwrap();
    assert_eq!(bodies(&issuer).len(), 4);
    assert!(bodies(&issuer)[3].ends_with("&resource=urn%3Ax%3Ab&resource=urn%3Ax%3Aa"), "{:?}", bodies(&issuer));
}

#[tokio::test(start_paused = true)]
async fn what_a_request_names_replaces_the_setting_of_the_builder_and_nothing_else() {
    let api = || TargetApi::new();
    for (target, expected) in [
        (api(), "&scope=own&resource=urn%3Aown%3A1&resource=urn%3Aown%3A2&audience=own&tenant=7"),
        (api().scope("b a"), "&scope=a+b&resource=urn%3Aown%3A1&resource=urn%3Aown%3A2&audience=own&tenant=7"),
        (api().audience("x"), "&scope=own&resource=urn%3Aown%3A1&resource=urn%3Aown%3A2&audience=x&tenant=7"),
        (api().resource("urn:x:y"), "&scope=own&resource=urn%3Ax%3Ay&audience=own&tenant=7"),
        (api().scope("a").audience("x").resource("urn:x:y"), "&scope=a&resource=urn%3Ax%3Ay&audience=x&tenant=7"),
    ] {
        let issuer = issuer();
        let builder = base(&issuer).scope("own").audience("own").resource("urn:own:1").resource("urn:own:2");
        let provider = builder.parameter("tenant", "7").build_keyed().unwrap();
        provider.fetch(&target, &FetchContext::default()).await.unwrap();
        let expected = format!("grant_type=client_credentials&client_id=orders&client_secret=secret{expected}");
        assert_eq!(bodies(&issuer), [expected], "{target:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_value_costs_no_token_request_and_no_entry() {
    let issuer = issuer();
    let source = source(&issuer);
    let api = Api::new(|_| response(StatusCode::OK));
    for (target, setting) in [
        (TargetApi::new().scope(""), "scope"),
        (TargetApi::new().scope("read\r\nCANARY"), "scope"),
        (TargetApi::new().audience(" "), "audience"),
        (TargetApi::new().audience("CANARY\0"), "audience"),
        (TargetApi::new().resource("CANARY"), "resource"),
        (TargetApi::new().resource("https://user:CANARY@api.test"), "resource"),
        (TargetApi::new().resource("urn:a:CANARY").resource("urn:a:CANARY"), "resource"),
    ] {
        let error = source.layer().layer(api.clone()).oneshot(request(Some(&target))).await.unwrap_err();
        let error = error.downcast_ref::<NotSent>().unwrap().error().clone();
        assert!(error.to_string().starts_with(&format!("{setting}: ")), "{error}");
        assert_eq!(error.kind(), ErrorKind::Config);
        // A key that does not come from a request.
        let unchecked = source.provider().fetch(&target, &FetchContext::default()).await.unwrap_err();
        assert_eq!(unchecked.to_string(), error.to_string());
        assert!(!format!("{error} {error:?} {unchecked:?}").contains("CANARY"), "{error:?}");
    }
    assert_eq!((issuer.sends().len(), source.stats().keys), (0, 0));
}

// R48: an issuer may define an audience or a resource with a key in its query.
#[test]
fn debug_output_has_no_query_of_an_audience_or_a_resource() {
    let target = TargetApi::new().scope("read").audience("https://a.test/?CANARY").resource("https://r.test/x?CANARY");
    let text = format!("{target:?} {target:#?}");
    assert!(!text.contains("CANARY"), "{text}");
    assert!(text.contains(r#"TargetApi { scope: Some("read"), resources: ["https://r.test/x"]"#), "{text}");
    let provider = base(&issuer()).build_keyed().unwrap();
    assert!(format!("{provider:?}").starts_with("ClientCredentials {"), "{provider:?}");
}

#[tokio::test(start_paused = true)]
async fn a_keyed_provider_has_the_headers_the_origins_and_the_label_of_its_builder() {
    let issuer = issuer();
    let builder = || base(&issuer).api_header("x-api-key", "k").label("staging");
    let (keyed, plain) = (builder().build_keyed().unwrap(), builder().build().unwrap());
    assert_eq!(keyed.api_headers(), plain.api_headers());
    assert_eq!(format!("{:?} {}", keyed.origins(), keyed.label()), format!("{:?} {}", plain.origins(), plain.label()));
    // It can be erased and shared like any provider.
    let erased = TokenSource::new(Arc::new(DynProvider::new(keyed)));
    let token = erased.token_for(&TargetApi::new().scope("read")).await.unwrap();
    assert_eq!(token.expose_secret(), "read||");
    let error = builder().scope("").build_keyed().unwrap_err();
    assert_eq!((error.setting(), error.source().is_none()), ("scope", true));
}
