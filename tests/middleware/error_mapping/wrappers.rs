//! `Error::find` through every wrapper that docs/errors.md names. `tests/adopters/migration` has the one of reqwest-middleware.

use std::error::Error as StdError;

use tower_bearer_auth::NotSent;

use super::*;

/// The error of the layer for a request that it did not send.
async fn not_sent() -> BoxError {
    let layer = BearerAuthLayer::new(issuer_that_is_down()).allow_origin(API).unwrap();
    layer.layer(Broken::default()).oneshot(get()).await.unwrap_err()
}

const FOUND: Option<ErrorKind> = Some(ErrorKind::Unavailable);

#[derive(Debug, thiserror::Error)]
enum Derived {
    #[error("the order could not be placed")]
    Source(#[source] BoxError),
    #[error("the order could not be placed")]
    From(#[from] NotSent),
    #[error("the order could not be placed")]
    FromError(#[from] Error),
    #[error(transparent)]
    Transparent(BoxError),
    #[error(transparent)]
    TransparentError(Error),
    #[error("the order could not be placed: {0}")]
    DisplayOnly(BoxError),
}

// R84
#[tokio::test(start_paused = true)]
async fn an_error_is_found_through_boxes_and_arcs() {
    let boxed = not_sent().await;
    assert_eq!(kind(&*boxed), FOUND);
    assert!(boxed.is::<NotSent>() && !boxed.is::<Error>(), "the box contains a NotSent");
    let unmarked: Box<dyn StdError> = not_sent().await;
    assert_eq!(kind(&*unmarked), FOUND);

    let shared: Arc<dyn StdError + Send + Sync> = Arc::from(not_sent().await);
    assert_eq!(kind(&*shared), FOUND);
    // An `Arc` is an error itself, and its source is the source of what it contains.
    assert_eq!(kind(&shared), FOUND);
    let error: Arc<dyn StdError + Send + Sync> = Arc::new(Error::transient("down").with_kind(ErrorKind::Unavailable));
    assert_eq!(kind(&error), FOUND);
    assert_eq!(kind(&Failed(Box::new(error))), FOUND);
    let other: Arc<dyn StdError + Send + Sync> = Arc::from(BoxError::from("other"));
    assert_eq!(kind(&other), None);
}

// R84: a pointer's source is the source of its contents, so a search by sources alone skips the contents.
#[test]
fn an_error_of_a_token_source_is_found_inside_pointers() {
    let error = || Error::transient("down").with_kind(ErrorKind::Unavailable);
    let pointers: Vec<BoxError> = vec![
        Box::new(Arc::new(error())),
        Box::new(Box::new(error())),
        Box::new(Failed(Box::new(Arc::new(error())))),
        Box::new(std::io::Error::other(error())),
        Box::new(std::io::Error::other(Arc::new(error()))),
        Box::new(Arc::new(std::io::Error::other(error()))),
    ];
    for (row, pointer) in pointers.iter().enumerate() {
        assert_eq!(kind(&**pointer), FOUND, "row {row}");
    }
}

// R84
#[tokio::test(start_paused = true)]
async fn an_error_is_found_through_anyhow() {
    let error = anyhow::Error::from_boxed(not_sent().await);
    assert_eq!(kind(error.as_ref()), FOUND);
    let error = error.context("placing the order").context("at checkout");
    assert_eq!(error.to_string(), "at checkout");
    assert_eq!(kind(error.as_ref()), FOUND);
    let boxed: BoxError = error.into();
    assert_eq!(kind(&*boxed), FOUND);

    let token = anyhow::Error::new(Error::transient("down").with_kind(ErrorKind::Unavailable)).context("no token");
    assert_eq!(kind(token.as_ref()), FOUND);
    assert_eq!(kind(anyhow::anyhow!("other").context("at checkout").as_ref()), None);
    // The guide says it: the wrapper hides the boxed error itself, and the error of a source has no `NotSent` around it.
    assert_eq!(kind(anyhow::Error::from_boxed(Error::transient("down").into()).as_ref()), None);
}

// R84
#[tokio::test(start_paused = true)]
async fn an_error_is_found_through_eyre() {
    let boxed = *not_sent().await.downcast::<NotSent>().unwrap();
    let error = eyre::Report::new(boxed.clone());
    assert_eq!(kind(error.as_ref()), FOUND);
    let error = error.wrap_err("placing the order").wrap_err("at checkout");
    assert_eq!(error.to_string(), "at checkout");
    assert_eq!(kind(error.as_ref()), FOUND);
    // From a boxed error.
    let error = eyre::eyre!(BoxError::from(boxed)).wrap_err("at checkout");
    assert_eq!(kind(error.as_ref()), FOUND);
    assert_eq!(kind(eyre::eyre!("other").as_ref()), None);
    assert_eq!(kind(eyre::eyre!(BoxError::from(Error::transient("down"))).as_ref()), None);
}

// R84
#[tokio::test(start_paused = true)]
async fn an_error_is_found_through_derived_errors() {
    let not_sent_error = || async { *not_sent().await.downcast::<NotSent>().unwrap() };
    let error = || Error::transient("down").with_kind(ErrorKind::Unavailable);
    for found in [
        Derived::Source(not_sent().await),
        Derived::From(not_sent_error().await),
        Derived::FromError(error()),
        Derived::Transparent(not_sent().await),
        Derived::Source(Derived::Transparent(not_sent().await).into()),
        Derived::Transparent(Derived::Source(not_sent().await).into()),
    ] {
        assert_eq!(kind(&found), FOUND, "{found:?}");
    }
    // `transparent` forwards to the source of what it wraps. So it hides an `Error` without a wrapper of its own, and
    // this is why the layer returns a `NotSent`.
    assert_eq!(kind(&Derived::TransparentError(error())), None);
    // A type that does not name its source cannot be searched.
    assert_eq!(kind(&Derived::DisplayOnly(not_sent().await)), None);
}

// R84
#[tokio::test(start_paused = true)]
async fn an_error_is_found_through_io_errors_and_tonic() {
    for found in [
        io::Error::other(not_sent().await),
        io::Error::other(io::Error::other(not_sent().await)),
        io::Error::new(io::ErrorKind::BrokenPipe, Derived::Transparent(not_sent().await)),
    ] {
        assert_eq!(kind(&found), FOUND, "{found:?}");
    }
    assert_eq!(kind(&tonic::Status::from_error(not_sent().await)), FOUND);
    assert_eq!(kind(&tonic::Status::from_error(Derived::Source(not_sent().await).into())), FOUND);
    assert_eq!(kind(&tonic::Status::unavailable("other")), None);
}

/// An error that is its own source.
#[derive(Debug)]
struct Circular;

impl fmt::Display for Circular {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("circular")
    }
}

impl StdError for Circular {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }
}

/// `depth` wrappers around an error.
fn wrapped(depth: usize, error: BoxError) -> BoxError {
    (0..depth).fold(error, |error, _| Failed(error).into())
}

// R84
#[tokio::test(start_paused = true)]
async fn the_search_ends_for_an_error_that_is_its_own_source() {
    assert_eq!(kind(&Circular), None);
    assert_eq!(kind(&io::Error::other(Circular)), None);
    assert_eq!(kind(&*wrapped(3, Circular.into())), None);
    // The documented limit: 128 sources. The last one is the `Error` in the `NotSent`.
    assert_eq!(kind(&*wrapped(127, not_sent().await)), FOUND);
    assert_eq!(kind(&*wrapped(128, not_sent().await)), None);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_sent_returns_a_not_sent_with_the_reason() {
    let boxed = not_sent().await;
    let error: &NotSent = boxed.downcast_ref().unwrap();
    assert_eq!(error.to_string(), "request not sent: the issuer is unavailable");
    assert!(!error.to_string().contains('\n'));
    let source: &Error = error.source().unwrap().downcast_ref().unwrap();
    assert_eq!(source.kind(), ErrorKind::Unavailable);
    assert_eq!(error.error().kind(), ErrorKind::Unavailable);
    let clone = error.clone();
    assert_eq!(format!("{clone:?} {clone}"), format!("{error:?} {error}"));
    let reason = clone.into_error();
    assert_eq!((reason.kind(), reason.is_transient()), (ErrorKind::Unavailable, true));
    assert_eq!(reason.to_string(), error.error().to_string());
    assert!(reason.retry_after().is_some(), "the backoff after a failed fetch");
}
