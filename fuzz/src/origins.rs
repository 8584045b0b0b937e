//! Which requests are stamped. The first line of the input is the allowed origin, the second one the URI of the request.
//! Each other line is a `Host` header.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Empty;
use tower::{ServiceExt as _, service_fn};
use tower_bearer_auth::{BoxError, ErrorKind, FixedToken, NotSent, Origins, TokenSource};

use crate::host::{Host, host_and_port};
use crate::run::{run, text};

type Body = Empty<bytes::Bytes>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    https: bool,
    host: Host,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Stamped,
    Unstamped,
    Insecure,
}

thread_local!(static SOURCE: TokenSource<FixedToken> = {
    let source = TokenSource::new(FixedToken::new("opaque-token").unwrap());
    run(source.warm_up()).unwrap();
    source
});

pub fn check(input: &[u8]) {
    let Some(input) = text(input) else {
        return;
    };
    let mut lines = input.split('\n');
    let (Some(written), Some(uri)) = (lines.next(), lines.next()) else {
        return;
    };
    let allowed = origin(written);
    check_origins(written, allowed.as_ref());
    let Some(allowed) = allowed else {
        return;
    };
    let Ok(uri) = uri.parse::<Uri>() else {
        return;
    };
    let mut hosts = Vec::new();
    for line in lines {
        let Ok(value) = HeaderValue::from_str(line) else {
            return;
        };
        hosts.push(value);
    }
    let expected = expected(&allowed, &uri, &hosts);
    // The first use runs the runtime, which cannot run inside of itself.
    SOURCE.with(|_| ());
    assert_eq!(run(send(written, uri, hosts)), expected);
}

/// What `Origins` says about this text, and that it reads its own output as the same origin.
fn check_origins(written: &str, expected: Option<&Origin>) {
    let secure = expected.filter(|origin| origin.https || origin.host.is_loopback());
    assert_eq!(Origins::none().allow(written).is_ok(), secure.is_some(), "{expected:?}");
    let allowed = Origins::none().danger_allow_http(written);
    assert_eq!(allowed.is_ok(), expected.is_some(), "{expected:?}");
    let Ok(allowed) = allowed else {
        return;
    };
    let shown = format!("{allowed:?}");
    let shown = shown.trim_start_matches('[').strip_suffix(']').unwrap();
    assert_eq!(Origins::none().danger_allow_http(shown).unwrap(), allowed, "{shown} is read as another origin");
    assert_eq!(origin(shown).as_ref(), expected, "{shown} is another origin");
}

async fn send(allowed: &str, uri: Uri, hosts: Vec<HeaderValue>) -> Outcome {
    let sent = Arc::new(AtomicU8::new(0));
    let seen = Arc::clone(&sent);
    let service = service_fn(move |request: Request<Body>| {
        seen.store(if request.headers().contains_key("authorization") { 2 } else { 1 }, Ordering::Relaxed);
        async { Ok::<_, BoxError>(Response::new(Body::new())) }
    });
    let layer = SOURCE.with(TokenSource::layer).danger_allow_http(allowed).unwrap();
    let service = tower::Layer::layer(&layer, service);
    let mut request = Request::builder().uri(uri).body(Body::new()).unwrap();
    for host in hosts {
        request.headers_mut().append("host", host);
    }
    let result = service.oneshot(request).await;
    match (sent.load(Ordering::Relaxed), result) {
        (2, Ok(_)) => Outcome::Stamped,
        (1, Ok(_)) => Outcome::Unstamped,
        (0, Err(error)) => {
            let error = error.downcast::<NotSent>().unwrap();
            assert_eq!(error.error().kind(), ErrorKind::InsecureUrl);
            Outcome::Insecure
        }
        (sent, result) => panic!("{sent} {result:?}"),
    }
}

fn expected(allowed: &Origin, uri: &Uri, hosts: &[HeaderValue]) -> Outcome {
    let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    let mut named = Vec::new();
    for host in hosts {
        named.push(host.to_str().ok().and_then(|host| host_and_port(host, default)));
    }
    if let Some(authority) = uri.authority() {
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Outcome::Unstamped,
        };
        let requested = host_and_port(authority.as_str(), default);
        named.push(requested.clone());
        let Some((host, port)) = requested else {
            return Outcome::Unstamped;
        };
        if allowed.https != https || allowed.port != port || allowed.host != host {
            let downgraded = allowed.https && !https && allowed.host == host;
            return if downgraded { Outcome::Insecure } else { Outcome::Unstamped };
        }
    } else if uri.path().starts_with("//") || uri.path().starts_with("/\\") {
        return Outcome::Unstamped;
    }
    // The service below chooses the host of a relative URI, so one `Host` header alone cannot contradict it.
    let one_host = named.len() < 2 || named.iter().all(|host| host.is_some() && *host == named[0]);
    if one_host { Outcome::Stamped } else { Outcome::Unstamped }
}

/// `https://host` or `https://host:port`, and the same with http. A slash may follow.
fn origin(text: &str) -> Option<Origin> {
    let (scheme, rest) = text.split_once("://")?;
    let https = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = host_and_port(authority, if https { 443 } else { 80 })?;
    Some(Origin { https, host, port })
}
