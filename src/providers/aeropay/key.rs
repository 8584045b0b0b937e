//! The key of a token: the merchant, the scope and the user.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::message::{RequestHead, RequestKey};

/// The id of a user, as Aeropay issued it. Cloning shares it.
///
/// Put it into the extensions of each request on behalf of the user. It is not a secret: `Debug` prints it.
///
/// ```
/// use tower_bearer_auth::aeropay::UserId;
///
/// let request = http::Request::get("https://api.aeropay.com/user").extension(UserId::from("27bccca2")).body(());
/// # drop(request);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

/// The id of a merchant, as Aeropay issued it. Cloning shares it.
///
/// A platform with several merchants puts it into the extensions of each request, and gives the provider
/// [`credentials_for`](super::AeropayBuilder::credentials_for).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MerchantId(Arc<str>);

macro_rules! id {
    ($name:ident) => {
        impl $name {
            /// An id with this text.
            #[must_use]
            pub fn new(id: impl Into<Arc<str>>) -> Self {
                Self(id.into())
            }

            /// The id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the id is empty or white space.
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

/// The scope of a token, without the user: the two scopes that a merchant can request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenScope {
    /// The merchant acts for itself.
    Merchant,
    /// The merchant acts on behalf of one user.
    UserForMerchant,
}

impl TokenScope {
    /// The name of the scope in a token request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merchant => "merchant",
            Self::UserForMerchant => "userForMerchant",
        }
    }
}

/// The scope of the token that a request needs. In the extensions of a request, it overrides the table of endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The merchant's token: `merchant`.
    Merchant,
    /// The token for one user: `userForMerchant`.
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

/// The key of a token: the merchant and the scope.
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
    // `None` is the provider's own merchant. A shared id would make every request write to its reference count.
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

    /// The same scope at another merchant. Do not pass the provider's own merchant: its tokens would be cached twice.
    #[must_use]
    pub fn at(self, merchant: impl Into<MerchantId>) -> Self {
        Self { merchant: Some(merchant.into()), ..self }
    }

    /// The merchant. `None` is the provider's own merchant.
    #[must_use]
    pub fn merchant_id(&self) -> Option<&MerchantId> {
        self.merchant.as_ref()
    }

    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(super) fn new(merchant: Option<MerchantId>, scope: Scope) -> Self {
        Self { merchant, scope }
    }
}

impl RequestKey for Identity {
    /// Reads a [`Scope`] or a [`UserId`] from the extensions. A request without either is an error. It never gets the
    /// merchant's token by default. [`Aeropay`](super::Aeropay) uses its table of endpoints instead.
    fn from_request(request: &RequestHead<'_>) -> Result<Self, Error> {
        let merchant = request.extensions().get::<MerchantId>().cloned();
        if let Some(scope) = request.extensions().get::<Scope>() {
            return Ok(Self::new(merchant, scope.clone()));
        }
        Ok(Self::new(merchant, Scope::User(user_of(request)?)))
    }
}

/// The user in the extensions of a request.
pub(super) fn user_of(request: &RequestHead<'_>) -> Result<UserId, Error> {
    request.extensions().get::<UserId>().filter(|id| !id.is_blank()).cloned().ok_or_else(|| {
        Error::new(ErrorKind::MissingKey, "the endpoint needs a user's token, and the request names no user")
            .with_hint("insert an aeropay::UserId into the extensions of the request")
    })
}
