//! `client_secret_basic` (RFC 6749 section 2.3.1): the id and the secret in an `Authorization` header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

use crate::error::ConfigError;

/// How a client's id and secret are written before they go into an HTTP Basic header.
///
/// RFC 6749 section 2.3.1 has both encoded as a form's values are. Servers disagree, and it shows only where the id or the
/// secret has other characters in it than letters, digits, `-`, `.` and `_`:
///
/// | the server | takes |
/// | --- | --- |
/// | decodes as a form does, as the RFC says | `Form` and `Percent` |
/// | decodes `%XX` alone, and takes a `+` for a plus | `Percent` |
/// | does not decode (HTTP Basic as RFC 7617 has it) | `Raw` |
///
/// Where there is a choice, `client_secret_post` is the method on which all servers agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BasicEncoding {
    /// Percent-encoded: a space is `%20`, and so is everything but the unreserved characters of RFC 3986 section 2.3. All
    /// servers that decode at all understand it.
    #[default]
    Percent,
    /// As a form's value (RFC 6749 appendix B): a space is `+`.
    Form,
    /// As they are, in UTF-8 (RFC 7617). An id with a colon in it cannot be sent like this.
    Raw,
}

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl BasicEncoding {
    /// RFC 7617 section 2: the first colon is where the secret begins.
    pub(super) fn check(self, client_id: &str) -> Result<(), ConfigError> {
        if self == Self::Raw && client_id.contains(':') {
            return Err(ConfigError::new(
                "client_id",
                "it has a colon, which HTTP Basic cannot carry without an encoding",
            ));
        }
        Ok(())
    }

    /// The header's value, marked sensitive, in a buffer that is wiped.
    pub(super) fn header(self, client_id: &str, secret: &str) -> Result<HeaderValue, ConfigError> {
        // Sized for the worst case, each byte as `%XX`: a buffer that grows leaves unwiped copies behind.
        let mut pair = Zeroizing::new(Vec::with_capacity(3 * (client_id.len() + secret.len()) + 1));
        self.write(client_id, &mut pair);
        pair.push(b':');
        self.write(secret, &mut pair);
        let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + pair.len().div_ceil(3) * 4));
        value.push_str(SCHEME);
        STANDARD.encode_string(pair.as_slice(), &mut value);
        let bytes = Zeroizing::new(std::mem::take(&mut *value).into_bytes());
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes))
            .map_err(|_| ConfigError::new("client_secret", "it does not fit into a header"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn write(self, text: &str, into: &mut Vec<u8>) {
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

const SCHEME: &str = "Basic ";
