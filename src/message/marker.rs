//! Marks in the extensions of a request.

/// Marks a replay, so that a second layer below does not replay it once more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayMarker;

/// Marks a token request that may be sent once more on a new connection.
#[cfg(feature = "token-endpoint")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RepeatableTokenRequest;

/// A request extension: this one request is sent without a token.
///
/// Use it for an endpoint that needs no token, for example a health check, or for a request with credentials of its own.
/// The layer changes nothing in such a request: an `Authorization` header of the caller stays, and the provider's
/// [`api_headers`](crate::TokenProvider::api_headers) are not added. The request may go to any origin, also in clear
/// text. It does not count as a request to a foreign origin. Its response is returned as it is, a 401 too.
///
/// Every layer of this crate in a stack reads the extension. It is not a header, so a remote caller cannot set it.
///
/// ```
/// use tower_bearer_auth::Unauthenticated;
///
/// let request = http::Request::get("https://api.example.com/health").extension(Unauthenticated).body(());
/// # drop(request);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unauthenticated;
