//! When a rejected request is replayed.

use std::fmt;
use std::str::FromStr;

use crate::error::ConfigError;
use crate::message::Rejection;

/// When the layer replays a rejected request.
///
/// A replay sends the request once more, with a new token.
///
/// A configuration file can name a mode. `Display` prints `never`, `safe` or `always`, and `FromStr` parses these
/// names.
///
/// ```
/// use tower_bearer_auth::replay::Mode;
///
/// let mode: Mode = "never".parse()?;
/// assert_eq!(mode, Mode::Never);
/// # Ok::<(), tower_bearer_auth::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias = "retry")]
pub enum Mode {
    /// Never replay. The caller gets the rejection, and the next request has a new token.
    Never,
    /// After [`Rejection::InvalidToken`], replay every request. After [`Rejection::Unspecified`], replay only a request
    /// that is [idempotent](crate::TokenProvider::is_idempotent): by default, one with an idempotent method or with an
    /// `Idempotency-Key` header.
    ///
    /// RFC 6750 section 3.1 lets a client request a new token and try again after `invalid_token`. RFC 9110 section
    /// 15.5.2 says that no request with a 401 was applied. Some gateways break that rule, so this mode trusts it only
    /// if the server names the token as the reason.
    #[default]
    Safe,
    /// Replay after every rejection. If a gateway applied a request before it responded with 401, the replay applies it
    /// a second time.
    Always,
}

impl Mode {
    pub(crate) fn allows(self, rejection: Rejection, is_idempotent: impl FnOnce() -> bool) -> bool {
        match (self, rejection) {
            (Self::Never, _) => false,
            (Self::Always, _) | (Self::Safe, Rejection::InvalidToken) => true,
            (Self::Safe, _) => is_idempotent(),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Never => "never",
            Self::Safe => "safe",
            Self::Always => "always",
        })
    }
}

impl FromStr for Mode {
    type Err = ConfigError;

    /// # Errors
    ///
    /// [`ConfigError`] for the setting `replay`, with a hint that lists the names. The names are lower case.
    fn from_str(name: &str) -> Result<Self, ConfigError> {
        match name {
            "never" => Ok(Self::Never),
            "safe" => Ok(Self::Safe),
            "always" => Ok(Self::Always),
            _ => Err(ConfigError::new("replay", "it is not the name of a mode").with_hint("use never, safe or always")),
        }
    }
}
