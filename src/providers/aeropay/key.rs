//! Whose token it is.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::message::{RequestHead, RequestKey};

/// The id of one user, as Aeropay gave it. Cloning shares it.
///
/// Put it into the extensions of a request that a user makes. It is an identity and no secret: `Debug` shows it.
///
/// ```
/// use tower_bearer_auth::aeropay::UserId;
///
/// let request = http::Request::get("https://api.aeropay.com/user").extension(UserId::from("27bccca2")).body(());
/// # drop(request);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

/// The id of one merchant, as Aeropay gave it. Cloning shares it.
///
/// A platform that serves several merchants puts it into the request's extensions, and gives the provider
/// [`credentials_for`](super::AeropayBuilder::credentials_for).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MerchantId(Arc<str>);

macro_rules! id {
    ($name:ident) => {
        impl $name {
            /// Takes an id as it stands.
            #[must_use]
            pub fn new(id: impl Into<Arc<str>>) -> Self {
                Self(id.into())
            }

            /// The id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// An id that names nobody.
            pub(super) fn is_blank(&self) -> bool {
                self.0.trim().is_empty()
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self::new(id)
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self::new(id)
            }
        }

        impl From<u64> for $name {
            fn from(id: u64) -> Self {
                Self::new(id.to_string())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.0).finish()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(UserId);
id!(MerchantId);

/// What a token allows, without saying whose it is: the two scopes that a merchant can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenScope {
    /// The merchant's organisation acts.
    Merchant,
    /// The merchant acts on behalf of one user.
    UserForMerchant,
}

impl TokenScope {
    /// The scope as the token call spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merchant => "merchant",
            Self::UserForMerchant => "userForMerchant",
        }
    }
}

/// As whom a request goes. In a request's extensions it overrides the table of endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// As the merchant: `merchant`.
    Merchant,
    /// On behalf of one user: `userForMerchant`.
    User(UserId),
}

impl Scope {
    /// The scope without the user.
    #[must_use]
    pub fn token_scope(&self) -> TokenScope {
        match self {
            Self::Merchant => TokenScope::Merchant,
            Self::User(_) => TokenScope::UserForMerchant,
        }
    }
}

/// The key of a token: the merchant, and as whom it acts. The environment is the provider's.
///
/// ```
/// use tower_bearer_auth::aeropay::Identity;
///
/// let merchant = Identity::merchant();
/// let user = Identity::user("27bccca2");
/// let elsewhere = Identity::user("27bccca2").at("1057");
/// assert!(merchant != user && user != elsewhere);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    // None is the provider's own: the count of one shared id would be written by every request.
    merchant: Option<MerchantId>,
    scope: Scope,
}

impl Identity {
    /// The provider's own merchant.
    #[must_use]
    pub fn merchant() -> Self {
        Self::new(None, Scope::Merchant)
    }

    /// One user of the provider's own merchant.
    #[must_use]
    pub fn user(id: impl Into<UserId>) -> Self {
        Self::new(None, Scope::User(id.into()))
    }

    /// The same at another merchant. The provider's own is not named: its tokens would be kept twice.
    #[must_use]
    pub fn at(self, merchant: impl Into<MerchantId>) -> Self {
        Self { merchant: Some(merchant.into()), ..self }
    }

    /// The merchant, where it is not the provider's own.
    #[must_use]
    pub fn merchant_id(&self) -> Option<&MerchantId> {
        self.merchant.as_ref()
    }

    /// As whom.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(super) fn new(merchant: Option<MerchantId>, scope: Scope) -> Self {
        Self { merchant, scope }
    }
}

impl RequestKey for Identity {
    /// Reads a [`Scope`] or a [`UserId`] out of the extensions, and never makes a request the merchant's by itself.
    /// [`Aeropay`](super::Aeropay) looks at its table of endpoints instead.
    fn from_request(request: &RequestHead<'_>) -> Result<Self, Error> {
        let merchant = request.extensions().get::<MerchantId>().cloned();
        if let Some(scope) = request.extensions().get::<Scope>() {
            return Ok(Self::new(merchant, scope.clone()));
        }
        Ok(Self::new(merchant, Scope::User(user_of(request)?)))
    }
}

/// The user that a request says it goes for.
pub(super) fn user_of(request: &RequestHead<'_>) -> Result<UserId, Error> {
    request.extensions().get::<UserId>().filter(|id| !id.is_blank()).cloned().ok_or_else(|| {
        Error::new(ErrorKind::MissingKey, "the endpoint needs a user, and the request names none")
            .with_hint("put an aeropay::UserId into the request's extensions")
    })
}
