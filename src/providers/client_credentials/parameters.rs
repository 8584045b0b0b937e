//! What a token is asked for: scope, resource, audience, and what an issuer wants beside them.

use std::fmt;

use crate::error::ConfigError;
use crate::providers::check;

/// The parameters of a token request beside the grant and the client's proof.
#[derive(Clone, Default)]
pub(in crate::providers) struct Parameters {
    pub(in crate::providers) scope: Option<String>,
    pub(in crate::providers) resources: Vec<String>,
    pub(in crate::providers) audience: Option<String>,
    pub(super) further: Vec<(String, String)>,
}

/// Names that belong to a setting of their own, or to another request: sent beside ours they would make another one of it.
const RESERVED: [&str; 24] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "resource",
    "audience",
    // The other grants of RFC 6749, and PKCE's (RFC 7636).
    "code",
    "code_verifier",
    "password",
    "redirect_uri",
    "refresh_token",
    "username",
    // RFC 7521, RFC 8628 and CIBA.
    "assertion",
    "auth_req_id",
    "device_code",
    // Token exchange (RFC 8693), where the token is somebody else's.
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "subject_token",
    "subject_token_type",
    // RFC 9101: a whole authorization request, in one parameter.
    "request",
    "request_uri",
];

impl Parameters {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (field, value) in [("scope", &self.scope), ("audience", &self.audience)] {
            if let Some(value) = value {
                check::text(field, value)?;
            }
        }
        for (at, resource) in self.resources.iter().enumerate() {
            absolute_uri("resource", resource)?;
            if self.resources[..at].contains(resource) {
                return Err(ConfigError::new("resource", "one of them is there twice"));
            }
        }
        for (at, (name, value)) in self.further.iter().enumerate() {
            // RFC 6749 appendix A.1: a name is VSCHARs of a smaller set.
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(ConfigError::new("parameter", "a name is made of letters, digits, `-`, `.` and `_`"));
            }
            // Names are case-sensitive, but not every issuer knows.
            if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
                return Err(ConfigError::new(
                    "parameter",
                    "the name is one that this provider, or another grant, sets itself",
                )
                .with_hint("use the builder's own setting for it"));
            }
            // RFC 6749 section 3.2: no parameter more than once.
            if self.further[..at].iter().any(|(other, _)| other == name) {
                return Err(ConfigError::new("parameter", "the name is there twice"));
            }
            check::text("parameter", value)?;
        }
        Ok(())
    }

    /// All of them, in the order in which they are sent.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let scope = self.scope.iter().map(|scope| ("scope", scope.as_str()));
        let resources = self.resources.iter().map(|resource| ("resource", resource.as_str()));
        let audience = self.audience.iter().map(|audience| ("audience", audience.as_str()));
        let further = self.further.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        scope.chain(resources).chain(audience).chain(further)
    }
}

/// RFC 8707 section 2: an absolute URI (RFC 3986 section 4.3), which has no fragment. It need not be a URL.
fn absolute_uri(field: &str, text: &str) -> Result<(), ConfigError> {
    check::text(field, text)?;
    if text.contains('#') {
        return Err(ConfigError::new(field, "it has a fragment"));
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(ConfigError::new(field, "it is no absolute URI; write it as https://host/path, say"));
    };
    let begins = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let named = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    // `host:8443/path` looks like a scheme.
    let port = rest.split('/').next().is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    if !begins || !named || port || rest.is_empty() {
        return Err(ConfigError::new(field, "it is no absolute URI; write it as https://host/path, say"));
    }
    let uri =
        |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
    if !rest.bytes().all(uri) {
        return Err(ConfigError::new(field, "it has a character that a URI does not; escape it"));
    }
    let authority = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?']).next());
    if authority.is_some_and(|authority| authority.is_empty() || authority.contains('@')) {
        return Err(ConfigError::new(field, "it has no host, or a user name in front of it"));
    }
    Ok(())
}

/// Further parameters are shown by name alone, resources and the audience without a query: nobody knows what an issuer
/// wants in them.
impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resources: Vec<&str> = self.resources.iter().filter_map(|resource| resource.split('?').next()).collect();
        let names: Vec<&str> = self.further.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Parameters")
            .field("scope", &self.scope)
            .field("resources", &resources)
            .field("audience", &self.audience.as_deref().and_then(|audience| audience.split('?').next()))
            .field("further", &names)
            .finish()
    }
}
