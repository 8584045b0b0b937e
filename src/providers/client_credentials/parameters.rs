//! The parameters of a token request: scope, resource, audience, and additional ones.

use std::fmt::{self, DebugStruct};

use crate::error::ConfigError;
use crate::providers::check;

/// The parameters of a token request, apart from the grant type and the client authentication.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(in crate::providers) struct Parameters {
    pub(in crate::providers) scope: Option<String>,
    pub(in crate::providers) resources: Vec<String>,
    pub(in crate::providers) audience: Option<String>,
    pub(super) extra: Vec<(String, String)>,
}

/// Names that have their own setting.
const OWN: [&str; 7] =
    ["client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "resource", "audience"];

/// Names that belong to another kind of request.
const OTHER: [&str; 17] = [
    "grant_type",
    // Other grants of RFC 6749, and PKCE (RFC 7636).
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
    // Token exchange (RFC 8693).
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "subject_token",
    "subject_token_type",
    // RFC 9101: a complete authorization request in one parameter.
    "request",
    "request_uri",
];

impl Parameters {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (setting, value) in [("scope", &self.scope), ("audience", &self.audience)] {
            if let Some(value) = value {
                check::text(setting, value)?;
            }
        }
        for (at, resource) in self.resources.iter().enumerate() {
            absolute_uri("resource", resource)?;
            if self.resources[..at].contains(resource) {
                return Err(ConfigError::new("resource", "the same resource is set twice").with_hint("remove one"));
            }
        }
        for (at, (name, value)) in self.extra.iter().enumerate() {
            // The characters of parameter names in RFC 6749 appendix A.
            let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            if name.is_empty() || !name.bytes().all(is_name) {
                return Err(ConfigError::new(
                    "parameter",
                    "a name contains a character other than letters, digits, `-`, `.` and `_`",
                ));
            }
            // Names are case-sensitive, but some issuers ignore case.
            let is_one_of = |names: &[&str]| names.iter().any(|reserved| name.eq_ignore_ascii_case(reserved));
            if is_one_of(&OWN) {
                return Err(ConfigError::new("parameter", "the name is reserved for this provider")
                    .with_hint("use the builder's method for it"));
            }
            if is_one_of(&OTHER) {
                return Err(ConfigError::new("parameter", "the name is reserved for another grant")
                    .with_hint("remove it; for another grant, use from_fn or a provider of your own"));
            }
            // RFC 6749 section 3.2: no parameter more than once.
            if self.extra[..at].iter().any(|(other, _)| other == name) {
                return Err(ConfigError::new("parameter", "the same name is set twice").with_hint("remove one"));
            }
            check::text("parameter", value)?;
        }
        Ok(())
    }

    /// These parameters, with those of `other` that are set in place of their own.
    pub(super) fn overridden_by(&self, other: &Self) -> Self {
        let resources = if other.resources.is_empty() { &self.resources } else { &other.resources };
        Self {
            scope: other.scope.as_ref().or(self.scope.as_ref()).cloned(),
            resources: resources.clone(),
            audience: other.audience.as_ref().or(self.audience.as_ref()).cloned(),
            extra: self.extra.clone(),
        }
    }

    /// Adds the fields of `Debug` output that name the API. The queries of resources and of the audience may contain secrets, and
    /// are left out.
    pub(super) fn print_target<'a, 'b, 'c>(&self, out: &'c mut DebugStruct<'a, 'b>) -> &'c mut DebugStruct<'a, 'b> {
        let resources: Vec<&str> = self.resources.iter().filter_map(|resource| resource.split('?').next()).collect();
        let audience = self.audience.as_deref().and_then(|audience| audience.split('?').next());
        out.field("scope", &self.scope).field("resources", &resources).field("audience", &audience)
    }

    /// All parameters, in the order in which they are sent.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let scope = self.scope.iter().map(|scope| ("scope", scope.as_str()));
        let resources = self.resources.iter().map(|resource| ("resource", resource.as_str()));
        let audience = self.audience.iter().map(|audience| ("audience", audience.as_str()));
        let extra = self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        scope.chain(resources).chain(audience).chain(extra)
    }
}

/// RFC 8707 section 2: an absolute URI (RFC 3986 section 4.3), which has no fragment. It need not be a URL.
fn absolute_uri(setting: &str, text: &str) -> Result<(), ConfigError> {
    check::text(setting, text)?;
    if text.contains('#') {
        return Err(ConfigError::new(setting, "it has a fragment").with_hint("remove the part from the # on"));
    }
    let not_absolute = || {
        ConfigError::new(setting, "it is not an absolute URI").with_hint("write it as https://host/path, for example")
    };
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(not_absolute());
    };
    let begins = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let named = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    // In `host:8443/path`, the host looks like a scheme.
    let port = rest.split('/').next().is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    if !begins || !named || port || rest.is_empty() {
        return Err(not_absolute());
    }
    let uri =
        |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
    if !rest.bytes().all(uri) {
        return Err(
            ConfigError::new(setting, "it contains a character that is not allowed in a URI").with_hint("escape it")
        );
    }
    let authority = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?']).next());
    if authority.is_some_and(|authority| authority.is_empty() || authority.contains('@')) {
        return Err(ConfigError::new(setting, "it has no host, or it has a user name"));
    }
    Ok(())
}

/// Values of extra parameters may contain secrets. `Debug` leaves them out.
impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.extra.iter().map(|(name, _)| name.as_str()).collect();
        self.print_target(&mut f.debug_struct("Parameters")).field("extra", &names).finish()
    }
}
