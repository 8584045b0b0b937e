//! What an issuer says of itself: its metadata document (RFC 8414), by one explicit request.

use std::time::Duration;

use http::Uri;
use serde::Deserialize;

use super::endpoint::TokenEndpoint;
use super::response::EndpointResponse;
use super::service::TokenClient;
use crate::error::{ConfigError, Error, ErrorKind};
use crate::message::{absolute_url, is_loopback};

const NO_DOCUMENT: &str = "answered with what is no metadata document, or a torn one";

/// The part of the document that a token request needs.
pub(crate) struct Metadata {
    pub(crate) token_url: String,
    /// The token endpoint for clients that show a certificate, where it is another one (RFC 8705 section 5).
    /// One that cannot be used is an error for those clients alone.
    pub(crate) mutual_tls_token_url: Option<Result<String, Error>>,
    /// Ways in which a client may prove itself; `None` where the issuer does not say.
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
    /// Asks for the document of `issuer`: at RFC 8414's path, and at OpenID Connect's where the first is refused or a page.
    pub(crate) async fn of(issuer: &str, client: &TokenClient, timeout: Option<Duration>) -> Result<Self, Error> {
        let url = issuer_url(issuer)?;
        let mut last = None;
        let mut page = None;
        for place in places(&url) {
            let mut endpoint = TokenEndpoint::new(&place, client.clone())?;
            if let Some(timeout) = timeout {
                endpoint = endpoint.timeout(timeout)?;
            }
            let answer = endpoint.get().await?;
            if answer.status().is_success() {
                // Sites that know no wrong path answer with their start page: it is no document, and says nothing of one.
                if answer.body().trim_ascii_start().first() == Some(&b'{') {
                    return Self::read(&answer, issuer, &url).map_err(|error| error.with_status(answer.status()));
                }
                page = Some(answer);
                continue;
            }
            last = Some(answer);
        }
        if let Some(page) = page {
            let error = page.error(ErrorKind::MalformedResponse, NO_DOCUMENT).with_status(page.status());
            return Err(error.with_hint("set the token URL that the issuer documents"));
        }
        let none = "has no metadata, neither as RFC 8414 nor as OpenID Connect has it";
        let error = last.map_or_else(
            || Error::from(ConfigError::new("issuer", "it has no metadata")),
            |a| a.error(ErrorKind::Config, none),
        );
        Err(error.with_hint("set the token URL that the issuer documents"))
    }

    fn read(answer: &EndpointResponse, issuer: &str, url: &Uri) -> Result<Self, Error> {
        let malformed = |what: &str| answer.error(ErrorKind::MalformedResponse, what);
        let document: Document = super::token::object(answer.body()).ok_or_else(|| malformed(NO_DOCUMENT))?;
        let name = document.issuer.ok_or_else(|| malformed("does not name itself in its metadata"))?;
        // RFC 8414 section 3.3: identical, or else anybody's document would do.
        if name != issuer {
            let hint = match name.trim_end_matches('/') == issuer.trim_end_matches('/') {
                true => "write the issuer as it does itself: with the slash at its end, or without",
                false => "set the issuer's own identifier, character by character (RFC 8414 section 3.3)",
            };
            let error = answer.error(ErrorKind::Config, "calls itself by another name in its metadata");
            return Err(error.with_hint(hint));
        }
        let token_url = document.token_endpoint.ok_or_else(|| malformed("names no token endpoint"))?;
        let safe = |named: String| {
            let (parsed, https) =
                absolute_url(&named).map_err(|_| malformed("names a token endpoint that is no URL"))?;
            // What came over TLS does not lead to clear text, to this machine either.
            let clear = url.scheme_str() == Some("http");
            match https || (clear && parsed.host().is_some_and(is_loopback)) {
                true => Ok(named),
                false => Err(answer.error(ErrorKind::InsecureUrl, "names a token endpoint in clear text")),
            }
        };
        let token_url = safe(token_url)?;
        let alias = document.mtls_endpoint_aliases.and_then(|aliases| aliases.token_endpoint).map(safe);
        let methods = document.token_endpoint_auth_methods_supported;
        Ok(Self { token_url, mutual_tls_token_url: alias, methods })
    }
}

/// RFC 8414 section 2: https, no query and no fragment.
fn issuer_url(text: &str) -> Result<Uri, ConfigError> {
    let (url, https) = absolute_url(text).map_err(|why| ConfigError::new("issuer", why))?;
    if url.query().is_some() {
        return Err(ConfigError::new("issuer", "it has a query"));
    }
    if !https && !url.host().is_some_and(is_loopback) {
        return Err(ConfigError::new("issuer", "its metadata would come in clear text")
            .with_hint("use https; http is for loopback alone"));
    }
    Ok(url)
}

/// RFC 8414 section 3.1 puts the well-known part before the issuer's path, OpenID Connect Discovery section 4 behind it.
fn places(issuer: &Uri) -> [String; 2] {
    let scheme = issuer.scheme_str().unwrap_or_default();
    let authority = issuer.authority().map_or("", |authority| authority.as_str());
    let path = issuer.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    [
        format!("{scheme}://{authority}/.well-known/oauth-authorization-server{path}"),
        format!("{scheme}://{authority}{path}/.well-known/openid-configuration"),
    ]
}
