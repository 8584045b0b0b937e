//! Discovery. The first line of the input is the method (`post`, `basic` or `mtls`) and the issuer, and the rest is the
//! document.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body_util::Full;
use parking_lot::Mutex;
use tower::service_fn;
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{BasicEncoding, BoxError, ClientCredentials, Error, TokenSource};

use crate::host::{Host, host_and_port};
use crate::json::{self, Text, Value, is_ambiguous, member};
use crate::run::{run, text};

const MEMBERS: [&str; 4] =
    ["issuer", "token_endpoint", "token_endpoint_auth_methods_supported", "mtls_endpoint_aliases"];

pub fn check(input: &[u8]) {
    let Some((first, body)) = text(input).and_then(|input| input.split_once('\n')) else {
        return;
    };
    let Some((method, issuer)) = first.split_once(' ') else {
        return;
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let outcome = run(discover(method, issuer, Bytes::copy_from_slice(body.as_bytes()), Arc::clone(&seen)));
    let seen = std::mem::take(&mut *seen.lock());
    check_locations(issuer, &seen);
    let used = seen.iter().find(|(method, _)| method == Method::POST).map(|(_, uri)| uri.to_string());
    assert_eq!(used.is_some(), outcome.is_ok(), "a secret is sent if discovery succeeds: {outcome:?}");
    let Ok(document) = json::parse(body) else {
        assert!(used.is_none(), "the document is not JSON, or too deep");
        return;
    };
    let Some(document) = document.as_object() else {
        assert!(used.is_none(), "the document is not an object");
        return;
    };
    match (used, token_url(method, issuer, document)) {
        (Some(used), Expected::Exactly(expected)) => assert_eq!(used, expected.parse::<Uri>().unwrap().to_string()),
        (None, Expected::Exactly(expected)) => panic!("{expected} is not used: {outcome:?}"),
        (Some(used), Expected::Nothing(why)) => panic!("{used} is used, but {why}"),
        (None, Expected::Nothing(_)) | (_, Expected::Unknown) => {}
    }
}

type Seen = Arc<Mutex<Vec<(Method, Uri)>>>;

/// Discovers the issuer, and sends one token request.
async fn discover(method: &str, issuer: &str, body: Bytes, seen: Seen) -> Result<(), Error> {
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        seen.lock().push((request.method().clone(), request.uri().clone()));
        let body = match *request.method() {
            Method::GET => body.clone(),
            _ => Bytes::from_static(b"{\"access_token\":\"t\"}"),
        };
        async move { Ok::<_, BoxError>(Response::new(Full::new(body))) }
    });
    let builder = ClientCredentials::builder().client_id("id").http_client(TokenClient::new(service));
    let builder = match method {
        "mtls" => builder.mutual_tls(),
        "basic" => builder.client_secret("secret").client_secret_basic(BasicEncoding::Form),
        _ => builder.client_secret("secret"),
    };
    let provider = builder.discover(issuer).await?.api_origin("https://api.example").build()?;
    TokenSource::new(provider).token().await.map(drop)
}

/// RFC 8414 section 3.1 and OpenID Connect Discovery section 4.
fn check_locations(issuer: &str, seen: &[(Method, Uri)]) {
    let requested: Vec<String> =
        seen.iter().filter(|(method, _)| method == Method::GET).map(|(_, uri)| uri.to_string()).collect();
    if requested.is_empty() {
        return;
    }
    assert!(requested.len() <= 2);
    let (scheme, rest) = issuer.split_once("://").expect("a request to an issuer without a scheme");
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let path = path.strip_suffix('/').unwrap_or(path);
    let locations = [
        format!("{scheme}://{authority}/.well-known/oauth-authorization-server{path}"),
        format!("{scheme}://{authority}{path}/.well-known/openid-configuration"),
    ];
    for (requested, expected) in requested.iter().zip(&locations) {
        assert_eq!(*requested, expected.parse::<Uri>().unwrap().to_string());
    }
}

enum Expected {
    Exactly(String),
    Nothing(&'static str),
    /// The oracle does not decide.
    Unknown,
}

fn token_url(method: &str, issuer: &str, document: &[(Text, Value)]) -> Expected {
    let text_of = |name: &str| member(document, name).and_then(Value::as_text).and_then(|text| text.decoded.clone());
    if is_ambiguous(document, &MEMBERS) {
        return Expected::Nothing("a member is repeated");
    }
    let Some(named) = text_of("issuer") else {
        return Expected::Nothing("it has no issuer");
    };
    if named != issuer {
        return Expected::Nothing("it has another issuer");
    }
    let Some(url) = text_of("token_endpoint") else {
        return Expected::Nothing("it has no token endpoint");
    };
    let by_issuer = safety(issuer, true);
    if matches!(by_issuer, Safety::Unsafe) || issuer.contains('?') {
        return Expected::Nothing("the issuer is not a safe URL");
    }
    let insecure = issuer.to_ascii_lowercase().starts_with("http:");
    let certain = match safety(&url, insecure) {
        Safety::Unsafe => return Expected::Nothing("the token endpoint is not a safe URL"),
        Safety::Safe => matches!(by_issuer, Safety::Safe),
        Safety::Unknown => false,
    };
    match member(document, "token_endpoint_auth_methods_supported") {
        None => {}
        Some(Value::Array(listed)) => {
            let mut names = Vec::new();
            for name in listed {
                let Some(name) = name.as_text().and_then(|text| text.decoded.as_deref()) else {
                    return Expected::Nothing("the list of methods has something else than a string");
                };
                names.push(name);
            }
            let wanted: &[&str] = match method {
                "mtls" => &["tls_client_auth", "self_signed_tls_client_auth"],
                "basic" => &["client_secret_basic"],
                _ => &["client_secret_post"],
            };
            if !names.iter().any(|name| wanted.contains(name)) {
                return Expected::Nothing("the method is not listed");
            }
        }
        Some(_) => return Expected::Nothing("the list of methods is not a list"),
    }
    let aliases = match member(document, "mtls_endpoint_aliases") {
        None => return if certain { Expected::Exactly(url) } else { Expected::Unknown },
        Some(Value::Object(aliases)) => aliases,
        Some(_) => return Expected::Unknown,
    };
    let alias = match member(aliases, "token_endpoint") {
        _ if is_ambiguous(aliases, &["token_endpoint"]) => return Expected::Nothing("the alias is repeated"),
        None => None,
        Some(Value::Text(Text { decoded: Some(alias), .. })) => Some(alias),
        Some(_) => return Expected::Nothing("the alias is not a string"),
    };
    match alias.filter(|_| method == "mtls") {
        None if certain => Expected::Exactly(url),
        None => Expected::Unknown,
        Some(alias) => match safety(alias, insecure) {
            Safety::Unsafe => Expected::Nothing("the alias is not a safe URL"),
            Safety::Safe if certain => Expected::Exactly(alias.clone()),
            _ => Expected::Unknown,
        },
    }
}

enum Safety {
    Safe,
    Unsafe,
    /// It has characters of which parsers have different opinions.
    Unknown,
}

/// Whether a secret may be sent to this URL.
fn safety(url: &str, loopback: bool) -> Safety {
    if !url.is_ascii() || url.contains(|c: char| c.is_ascii_control() || c == '#') {
        return Safety::Unsafe;
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Safety::Unsafe;
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((host, _)) = host_and_port(authority, 443) else {
        return Safety::Unsafe;
    };
    let scheme = scheme.to_ascii_lowercase();
    let allowed = scheme == "https" || scheme == "http" && loopback && host.is_loopback() && host != Host::V4([0; 4]);
    if !allowed {
        return Safety::Unsafe;
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~?=&".contains(c);
    if path.chars().all(is_plain) && !authority.ends_with(':') { Safety::Safe } else { Safety::Unknown }
}
