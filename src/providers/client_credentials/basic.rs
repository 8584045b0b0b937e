//! `client_secret_basic` (RFC 6749 section 2.3.1): the client id and secret in an `Authorization` header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

use crate::error::ConfigError;
use crate::providers::names::named;

/// How the client id and secret are encoded before they go into an HTTP Basic header.
///
/// RFC 6749 section 2.3.1 says that both are form-encoded. Servers differ. The difference matters only if the id or
/// the secret contains characters other than letters, digits, `-`, `.` and `_`:
///
/// | the server | accepts |
/// | --- | --- |
/// | form-decodes, as the RFC says | `Form` and `Percent` |
/// | decodes `%XX`, and reads `+` as a plus sign | `Percent` |
/// | does not decode (HTTP Basic of RFC 7617) | `Raw` |
///
/// If the issuer accepts `client_secret_post`, use it instead. All servers read it in the same way.
///
/// The names in configuration files are `percent`, `form` and `raw`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BasicEncoding {
    /// Percent-encoding of all characters except the unreserved ones of RFC 3986 section 2.3. A space is `%20`. Every
    /// server that decodes the header accepts it.
    #[default]
    Percent,
    /// Form-encoding (RFC 6749 appendix B). A space is `+`.
    Form,
    /// No encoding, in UTF-8 (RFC 7617). The id must not contain a colon.
    Raw,
}

named!(BasicEncoding, "basic_encoding": Percent = "percent", Form = "form", Raw = "raw");

const SCHEME: &str = "Basic ";
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl BasicEncoding {
    /// RFC 7617 section 2: the first colon separates the id from the secret.
    pub(super) fn check(self, client_id: &str) -> Result<(), ConfigError> {
        if self == Self::Raw && client_id.contains(':') {
            return Err(ConfigError::new("client_id", "it contains a colon, which HTTP Basic cannot send unencoded")
                .with_hint("use BasicEncoding::Percent, or remove client_secret_basic"));
        }
        Ok(())
    }

    /// An encoding that another kind of server needs, if the id or the secret differs in it.
    pub(super) fn alternative(self, client_id: &str, secret: &str) -> Option<Self> {
        let differs = |text: &str| text.bytes().any(|b| !b.is_ascii_alphanumeric() && !b"-._~".contains(&b));
        let other = if self == Self::Raw { Self::Percent } else { Self::Raw };
        (differs(client_id) || differs(secret)).then_some(other)
    }

    /// The value of the header. It is marked sensitive, in a buffer that is wiped.
    pub(super) fn header(self, client_id: &str, secret: &str) -> Result<HeaderValue, ConfigError> {
        // Sized for the worst case, where each byte becomes `%XX`. A buffer that grows leaves copies that are not
        // wiped.
        let mut pair = Zeroizing::new(Vec::with_capacity(3 * (client_id.len() + secret.len()) + 1));
        self.encode(client_id, &mut pair);
        pair.push(b':');
        self.encode(secret, &mut pair);
        let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + pair.len().div_ceil(3) * 4));
        value.push_str(SCHEME);
        STANDARD.encode_string(pair.as_slice(), &mut value);
        let bytes = Zeroizing::new(std::mem::take(&mut *value).into_bytes());
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes))
            .map_err(|_| ConfigError::new("client_secret", "it is not a valid header value"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn encode(self, text: &str, into: &mut Vec<u8>) {
        match self {
            Self::Percent => {
                percent_encode(text.as_bytes(), RESERVED).for_each(|piece| into.extend_from_slice(piece.as_bytes()));
            }
            Self::Form => form_urlencoded::byte_serialize(text.as_bytes())
                .for_each(|piece| into.extend_from_slice(piece.as_bytes())),
            Self::Raw => into.extend_from_slice(text.as_bytes()),
        }
    }
}
