//! The metadata of an issuer (RFC 8414).

use std::time::Duration;

use http::Uri;
use serde::Deserialize;

use super::endpoint::{TokenEndpoint, origin_of};
use super::json;
use super::response::EndpointResponse;
use super::token_client::TokenClient;
use crate::error::{ConfigError, Error, ErrorKind};
use crate::message::{absolute_url, is_loopback};

const NOT_METADATA: &str = "did not send a complete metadata document";
const HINT: &str = "set the token URL that the issuer documents";

/// The part of the metadata that a token request needs.
pub(crate) struct Metadata {
    pub(crate) token_url: String,
    /// The token endpoint for clients that use mutual TLS, if the issuer has one (RFC 8705 section 5). An invalid URL
    /// is an error only for these clients.
    pub(crate) mutual_tls_token_url: Option<Result<String, Error>>,
    /// The client authentication methods that the issuer supports. `None` if the metadata does not list them.
    pub(crate) methods: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Document {
    issuer: Option<String>,
    token_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    mtls_endpoint_aliases: Option<Aliases>,
}

#[derive(Deserialize)]
struct Aliases {
    token_endpoint: Option<String>,
}

impl Metadata {
    /// Requests the metadata of `issuer`: first at the path of RFC 8414, and then at the path of OpenID Connect, unless the
    /// first response is a valid document of this issuer.
    pub(crate) async fn of(issuer: &str, client: &TokenClient, timeout: Option<Duration>) -> Result<Self, Error> {
        let url = issuer_url(issuer)?;
        let [oauth, openid] = locations(&url);
        let first = match Self::at(&oauth, issuer, &url, client, timeout).await {
            // Without a response, the second location would fail in the same way.
            Err(error) if error.status().is_some() => error,
            other => return other,
        };
        match Self::at(&openid, issuer, &url, client, timeout).await {
            Err(second) if second.status().is_some() => Err(neither(&url, &first, &second)),
            other => other,
        }
    }

    async fn at(
        location: &str,
        issuer: &str,
        url: &Uri,
        client: &TokenClient,
        timeout: Option<Duration>,
    ) -> Result<Self, Error> {
        let mut endpoint = TokenEndpoint::new(location, client.clone())?;
        if let Some(timeout) = timeout {
            endpoint = endpoint.timeout(timeout);
        }
        let response = endpoint.get().await?;
        if !response.status().is_success() {
            return Err(response.error(ErrorKind::Config, "has no metadata").with_hint(HINT));
        }
        Self::read(&response, issuer, url)
    }

    fn read(response: &EndpointResponse, issuer: &str, url: &Uri) -> Result<Self, Error> {
        let malformed = |what: &str| response.error(ErrorKind::MalformedResponse, what).with_hint(HINT);
        let document: Document = json::object(response.body()).ok_or_else(|| malformed(NOT_METADATA))?;
        let named = document.issuer.ok_or_else(|| malformed("sent metadata without the member issuer"))?;
        // RFC 8414 section 3.3: the two must be identical. Otherwise any issuer's document would be accepted.
        if named != issuer {
            let hint = match named.trim_end_matches('/') == issuer.trim_end_matches('/') {
                true => "write the issuer with or without the trailing slash, as its metadata does",
                false => "set the issuer's own identifier, character by character (RFC 8414 section 3.3)",
            };
            return Err(response.error(ErrorKind::Config, "has another issuer in its metadata").with_hint(hint));
        }
        let token_url =
            document.token_endpoint.ok_or_else(|| malformed("sent metadata without the member token_endpoint"))?;
        let check = |token_url: String| {
            let (parsed, https) = absolute_url(&token_url)
                .map_err(|_| malformed("sent metadata with a token_endpoint that is not a URL"))?;
            // Metadata that came over TLS must not lead to clear text, not even to loopback.
            let insecure_issuer = url.scheme_str() == Some("http");
            match https || (insecure_issuer && parsed.host().is_some_and(is_loopback)) {
                true => Ok(token_url),
                false => Err(response
                    .error(ErrorKind::InsecureUrl, "sent metadata with a token_endpoint that is not https")
                    .with_hint("ask the operator of the issuer to correct its metadata")),
            }
        };
        let token_url = check(token_url)?;
        let mutual_tls_token_url = document.mtls_endpoint_aliases.and_then(|aliases| aliases.token_endpoint).map(check);
        Ok(Self { token_url, mutual_tls_token_url, methods: document.token_endpoint_auth_methods_supported })
    }
}

/// The error for two locations without a usable document. Its kind and hint are those of the error that says more.
fn neither(issuer: &Uri, first: &Error, second: &Error) -> Error {
    let subject = format!("the issuer at {}", origin_of(issuer).unwrap_or_default());
    let what = |error: &Error| {
        let message = error.message();
        let what = message.strip_prefix(&subject).unwrap_or(message).trim_start();
        format!("{what} (HTTP {})", error.status().map_or(0, |status| status.as_u16()))
    };
    let chosen = if detail(first) > detail(second) { first } else { second };
    chosen.clone().with_message(format!(
        "{subject} has no usable metadata: at the path of RFC 8414 it {}, and at the path of OpenID Connect it {}",
        what(first),
        what(second)
    ))
}

/// How much an error of a location says. A status that means "try again later" comes before everything else.
fn detail(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Throttled | ErrorKind::Timeout | ErrorKind::Unavailable => 4,
        _ if !error.status().is_some_and(|status| status.is_success()) => 0,
        ErrorKind::MalformedResponse => 2,
        _ => 3,
    }
}

/// RFC 8414 section 2: https, without a query or a fragment.
fn issuer_url(text: &str) -> Result<Uri, ConfigError> {
    let (url, https) = absolute_url(text).map_err(|reason| ConfigError::new("issuer", reason))?;
    if url.query().is_some() {
        return Err(ConfigError::new("issuer", "it has a query")
            .with_hint("set the issuer's own identifier, which has none (RFC 8414 section 2)"));
    }
    if !https && !url.host().is_some_and(is_loopback) {
        return Err(ConfigError::new("issuer", "its metadata would arrive in clear text")
            .with_hint("use https; http is only for loopback addresses"));
    }
    Ok(url)
}

/// RFC 8414 section 3.1 inserts the well-known part before the issuer's path. OpenID Connect Discovery section 4
/// appends it.
fn locations(issuer: &Uri) -> [String; 2] {
    let scheme = issuer.scheme_str().unwrap_or_default();
    let authority = issuer.authority().map_or("", |authority| authority.as_str());
    let path = issuer.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    [
        format!("{scheme}://{authority}/.well-known/oauth-authorization-server{path}"),
        format!("{scheme}://{authority}{path}/.well-known/openid-configuration"),
    ]
}
