//! The settings of a layer, and the methods that prepare a request.

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::header::{AUTHORIZATION, MaxSizeReached};
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::api_headers::ApiHeaders;
use super::replay::Mode;
use crate::error::{Error, ErrorKind};
use crate::message::{Destination, KeyExtension, Origins, Rejection, RequestHead, ResponseHead, Unauthenticated};
use crate::provider::TokenProvider;
use crate::source::TokenSource;

/// What the layer does with a request to an origin that is not allowed.
///
/// A request is foreign if its URI names an origin that is not allowed, if its `Host` header names another host or port
/// than its URI, or if its URI begins with `//` or `/\`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnForeignOrigin {
    /// Send the request without the token, and otherwise unchanged.
    #[default]
    PassUnstamped,
    /// Do not send the request. The caller gets a [`NotSent`](crate::NotSent) of the kind
    /// [`NoOrigin`](crate::ErrorKind::NoOrigin).
    Fail,
}

/// The settings of a layer. Its services and futures share one instance.
pub(super) struct Settings<P: TokenProvider> {
    pub(super) source: TokenSource<P>,
    pub(super) header: HeaderName,
    /// `header == AUTHORIZATION`, computed once, because a comparison of names in each request takes more instructions.
    in_authorization: bool,
    api_headers: ApiHeaders,
    pub(super) origins: Origins,
    pub(super) on_foreign_origin: OnForeignOrigin,
    pub(super) mode: Mode,
    pub(super) if_not_present: bool,
    pub(super) audit_all: bool,
    pub(super) rejected_when: Option<Arc<RejectedWhen>>,
    /// Set by the first request, if keys are extensions.
    pub(super) key_extension: OnceLock<KeyExtension>,
}

/// The function of [`rejected_when`](crate::BearerAuthLayer::rejected_when).
type RejectedWhen = dyn Fn(&ResponseHead<'_>) -> Option<Rejection> + Send + Sync;

/// What the layer does with a request.
pub(super) enum Route<K> {
    /// Stamp it with the token of this key.
    Stamp(K),
    /// Send it as it is.
    PassThrough,
    /// Send it without credentials.
    Strip,
    /// Do not send it.
    Fail(Error),
}

impl<P: TokenProvider> Settings<P> {
    /// The provider's settings, and the defaults for the others.
    pub(super) fn new(source: &TokenSource<P>) -> Self {
        let provider = source.provider();
        let header = provider.header();
        Self {
            source: source.clone(),
            api_headers: ApiHeaders::read(source, &header),
            in_authorization: header == AUTHORIZATION,
            header,
            origins: provider.origins(),
            on_foreign_origin: OnForeignOrigin::default(),
            mode: Mode::default(),
            if_not_present: false,
            audit_all: false,
            rejected_when: None,
            key_extension: OnceLock::new(),
        }
    }

    // Without inlining, each request takes 15 instructions more.
    #[inline(always)]
    pub(super) fn route<B>(&self, request: &Request<B>) -> Route<P::Key> {
        let head = RequestHead::of(request).with_key_extension(&self.key_extension);
        if head.extensions().get::<Unauthenticated>().is_some() {
            return Route::PassThrough;
        }
        match self.origins.check(&head) {
            Destination::Allowed => {}
            Destination::Foreign => return self.foreign(&head),
            Destination::NothingAllowed => return Route::Fail(nothing_allowed()),
            Destination::Insecure => return Route::Fail(insecure()),
        }
        // The response to a TRACE contains the request (RFC 9110 section 9.3.8).
        if head.method().as_str().eq_ignore_ascii_case("TRACE") {
            return Route::Strip;
        }
        if self.if_not_present && head.headers().contains_key(&self.header) {
            return Route::PassThrough;
        }
        match self.source.provider().key(&head) {
            Ok(key) => Route::Stamp(key),
            Err(error) => Route::Fail(error),
        }
    }

    fn foreign(&self, request: &RequestHead<'_>) -> Route<P::Key> {
        match self.on_foreign_origin {
            OnForeignOrigin::PassUnstamped => {
                self.source.report_not_stamped(self.origins.foreign_host(request));
                Route::PassThrough
            }
            OnForeignOrigin::Fail => Route::Fail(foreign()),
        }
    }

    /// Removes each header that the layer would set, and `Authorization`.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        headers.remove(&self.header);
        if self.api_headers.any() {
            self.api_headers.with(&self.source, &self.header, |api_headers| remove_all(headers, api_headers));
        }
    }

    /// Whether any request may be replayed. If not, no copies are kept.
    pub(super) fn may_replay(&self) -> bool {
        self.mode != Mode::Never
    }

    pub(super) fn is_idempotent<B>(&self, request: &Request<B>) -> bool {
        self.source.provider().is_idempotent(&RequestHead::of(request))
    }

    /// Sets the token header and the provider's API headers. If the token goes into another header, this removes the
    /// `Authorization` of the caller.
    ///
    /// A `HeaderMap` has a maximum size, and its plain `insert` panics above it.
    // Without inlining, each request takes 47 instructions more.
    #[inline(always)]
    pub(super) fn stamp(&self, headers: &mut HeaderMap, value: &HeaderValue) -> Result<(), Error> {
        if !self.in_authorization && !self.if_not_present {
            headers.remove(AUTHORIZATION);
        }
        if self.api_headers.any() {
            self.stamp_api_headers(headers)?;
        }
        // A constant name takes about 40 instructions less than a variable one.
        let stamped = if self.in_authorization {
            headers.try_insert(AUTHORIZATION, value.clone())
        } else {
            headers.try_insert(&self.header, value.clone())
        };
        if stamped.is_ok() { Ok(()) } else { self.replace(headers, value) }
    }

    /// `try_insert` fails in a full map even if it would only replace a value. So remove the old value first.
    fn replace(&self, headers: &mut HeaderMap, value: &HeaderValue) -> Result<(), Error> {
        headers.remove(&self.header);
        headers.try_insert(&self.header, value.clone()).map(drop).map_err(too_many_headers)
    }

    fn stamp_api_headers(&self, headers: &mut HeaderMap) -> Result<(), Error> {
        self.api_headers.with(&self.source, &self.header, |api_headers| {
            remove_all(headers, api_headers);
            for (name, value) in api_headers {
                headers.try_append(name.clone(), value.clone()).map_err(too_many_headers)?;
            }
            Ok(())
        })
    }

    /// Replaces the token of a stamped request, and the API headers: the fetch of the new token may have loaded new ones.
    pub(super) fn restamp(&self, headers: &mut HeaderMap, value: &HeaderValue) {
        if self.api_headers.any() {
            // The headers of the same names have just been removed, so the map has room.
            let _ = self.stamp_api_headers(headers);
        }
        if let Some(stamped) = headers.get_mut(&self.header) {
            *stamped = value.clone();
        }
    }
}

fn remove_all(headers: &mut HeaderMap, names: &HeaderMap) {
    for name in names.keys() {
        headers.remove(name);
    }
}

fn nothing_allowed() -> Error {
    Error::new(ErrorKind::NoOrigin, "no origin is allowed to receive the token")
        .with_hint("name the API's origin with allow_origin")
}

fn foreign() -> Error {
    Error::new(ErrorKind::NoOrigin, "the origin of the request is not allowed to receive the token")
        .with_hint("name it with allow_origin, or insert Unauthenticated into the extensions of the request")
}

fn insecure() -> Error {
    Error::new(
        ErrorKind::InsecureUrl,
        "the request would send the token in clear text to a host that is allowed over https",
    )
    .with_hint("use the https URL")
}

fn too_many_headers(_: MaxSizeReached) -> Error {
    Error::new(ErrorKind::InvalidRequest, "the request has too many headers to add the token")
        .with_hint("send fewer headers")
}

impl<P: TokenProvider> Clone for Settings<P> {
    fn clone(&self) -> Self {
        Self {
            source: self.source.clone(),
            header: self.header.clone(),
            in_authorization: self.in_authorization,
            api_headers: self.api_headers.clone(),
            origins: self.origins.clone(),
            on_foreign_origin: self.on_foreign_origin,
            mode: self.mode,
            if_not_present: self.if_not_present,
            audit_all: self.audit_all,
            rejected_when: self.rejected_when.clone(),
            key_extension: self.key_extension.clone(),
        }
    }
}

impl<P: TokenProvider> fmt::Debug for Settings<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("source", &self.source)
            .field("header", &self.header)
            .field("origins", &self.origins)
            .field("on_foreign_origin", &self.on_foreign_origin)
            .field("replay", &self.mode)
            .field("if_not_present", &self.if_not_present)
            .field("audit_all", &self.audit_all)
            .field("rejected_when", &self.rejected_when.is_some())
            .finish_non_exhaustive()
    }
}
