//! The identity that a request acts as.

use std::fmt::Debug;
use std::hash::Hash;

use super::RequestHead;
use super::key_extension::KeyExtension;
use crate::error::{Error, ErrorKind};

/// The identity that a request acts as. The cache keeps one token for each value.
///
/// `Debug` output of a key appears in logs. A key must identify a caller and must not contain a secret.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a request",
    label = "it does not implement `RequestKey`",
    note = "for a value that callers insert into the extensions of a request, use `ExtensionKey<{Self}>`"
)]
pub trait RequestKey: Clone + Eq + Hash + Debug + Send + Sync + 'static {
    /// Reads the identity from a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MissingKey`] if the request does not name an identity. Such a request is not sent. It never uses
    /// the token of another identity.
    fn from_request(request: &RequestHead<'_>) -> Result<Self, Error>;
}

impl RequestKey for () {
    fn from_request(_: &RequestHead<'_>) -> Result<Self, Error> {
        Ok(())
    }
}

/// A key that the caller inserts into the extensions of the request.
///
/// ```
/// use tower_bearer_auth::{ExtensionKey, RequestHead, RequestKey};
///
/// #[derive(Clone, Debug, PartialEq, Eq, Hash)]
/// struct Tenant(u32);
///
/// let request = http::Request::builder().extension(Tenant(7)).body(()).unwrap();
/// let key = ExtensionKey::<Tenant>::from_request(&RequestHead::of(&request)).unwrap();
/// assert_eq!(key.0, Tenant(7));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExtensionKey<T>(
    /// The value from the extensions.
    pub T,
);

impl<T> RequestKey for ExtensionKey<T>
where
    T: Clone + Eq + Hash + Debug + Send + Sync + 'static,
{
    // Without inlining, each request with a key takes 25 instructions more.
    #[inline(always)]
    fn from_request(request: &RequestHead<'_>) -> Result<Self, Error> {
        let Some(value) = request.extensions().get::<T>() else {
            return Err(missing_key::<T>());
        };
        request.set_key_extension(KeyExtension::of::<T>());
        Ok(Self(value.clone()))
    }
}

#[cold]
fn missing_key<T>() -> Error {
    Error::new(ErrorKind::MissingKey, "the request does not name the identity that it acts as")
        .with_hint(format!("insert a {} into the extensions of the request", std::any::type_name::<T>()))
}
