//! The settings of a layer, and the methods that prepare a request.

use std::fmt;

use http::header::{AUTHORIZATION, MaxSizeReached};
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::replay::{Mode, SavedHead};
use crate::error::{Error, ErrorKind};
use crate::message::{Destination, Origins, RequestHead, TokenRequestMarker};
use crate::provider::TokenProvider;
use crate::source::TokenSource;

/// The settings of a layer. Its services and futures share one instance.
pub(super) struct Settings<P: TokenProvider> {
    pub(super) source: TokenSource<P>,
    pub(super) header: HeaderName,
    pub(super) api_headers: HeaderMap,
    pub(super) origins: Origins,
    pub(super) mode: Mode,
    pub(super) if_not_present: bool,
    pub(super) audit_all: bool,
}

/// What the layer does with a request.
pub(super) enum Route<K> {
    /// Stamp it with the token of this key.
    Stamp(K),
    /// Send it without a token.
    PassThrough,
    /// Do not send it.
    Fail(Error),
}

impl<P: TokenProvider> Settings<P> {
    /// The provider's settings, and the defaults for the others.
    pub(super) fn new(source: &TokenSource<P>) -> Self {
        let provider = source.provider();
        let mut api_headers = provider.api_headers();
        api_headers.remove(provider.header());
        api_headers.values_mut().for_each(|value| value.set_sensitive(true));
        Self {
            source: source.clone(),
            header: provider.header(),
            api_headers,
            origins: provider.origins(),
            mode: Mode::default(),
            if_not_present: false,
            audit_all: false,
        }
    }

    // Without inlining, each request takes 15 instructions more.
    #[inline(always)]
    pub(super) fn route<B>(&self, request: &Request<B>) -> Route<P::Key> {
        let head = RequestHead::of(request);
        if head.extensions().get::<TokenRequestMarker>().is_some() {
            return Route::PassThrough;
        }
        match self.origins.check(head.uri()) {
            Destination::Allowed => {}
            Destination::Foreign => {
                self.source.report_not_stamped(head.uri().host().unwrap_or_default());
                return Route::PassThrough;
            }
            Destination::NothingAllowed => return Route::Fail(nothing_allowed()),
            Destination::Insecure => return Route::Fail(insecure()),
        }
        if self.if_not_present && head.headers().contains_key(&self.header) {
            return Route::PassThrough;
        }
        match self.source.provider().key(&head) {
            Ok(key) => Route::Stamp(key),
            Err(error) => Route::Fail(error),
        }
    }

    /// Whether any request may be replayed. If not, no copies are kept.
    pub(super) fn may_replay(&self) -> bool {
        self.mode != Mode::Never
    }

    pub(super) fn is_idempotent(&self, head: &SavedHead) -> bool {
        head.headers().is_some_and(|headers| self.source.provider().is_idempotent(&head.borrowed(&headers)))
    }

    /// Sets the token header and the provider's API headers.
    ///
    /// A `HeaderMap` has a maximum size, and its plain `insert` panics above it.
    // Without inlining, each request takes 47 instructions more.
    #[inline(always)]
    pub(super) fn stamp(&self, headers: &mut HeaderMap, value: &HeaderValue) -> Result<(), Error> {
        if !self.api_headers.is_empty() {
            self.stamp_api_headers(headers)?;
        }
        // A constant name takes about 40 instructions less than a variable one.
        let stamped = if self.header == AUTHORIZATION {
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
        for name in self.api_headers.keys() {
            headers.remove(name);
        }
        for (name, value) in &self.api_headers {
            headers.try_append(name.clone(), value.clone()).map_err(too_many_headers)?;
        }
        Ok(())
    }

    /// Replaces the token of a stamped request.
    pub(super) fn restamp(&self, headers: &mut HeaderMap, value: &HeaderValue) {
        if let Some(stamped) = headers.get_mut(&self.header) {
            *stamped = value.clone();
        }
    }
}

fn nothing_allowed() -> Error {
    Error::new(ErrorKind::NoOrigin, "no origin is allowed to receive the token")
        .with_hint("name the API's origin with allow_origin")
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
            api_headers: self.api_headers.clone(),
            origins: self.origins.clone(),
            mode: self.mode,
            if_not_present: self.if_not_present,
            audit_all: self.audit_all,
        }
    }
}

impl<P: TokenProvider> fmt::Debug for Settings<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("source", &self.source)
            .field("header", &self.header)
            .field("origins", &self.origins)
            .field("replay", &self.mode)
            .field("if_not_present", &self.if_not_present)
            .field("audit_all", &self.audit_all)
            .finish_non_exhaustive()
    }
}
