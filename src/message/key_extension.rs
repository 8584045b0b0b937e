//! A key that is the only extension of its request.

use std::any::Any;

use http::Extensions;

/// The extension that a key was read from. If it is the only extension of a request, a copy of
/// the request does not need a clone of the extensions, because the cache has the key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyExtension {
    /// Whether the extensions contain this key and nothing else.
    pub(crate) is_only: fn(key: &dyn Any, extensions: &Extensions) -> bool,
    /// Inserts this key.
    pub(crate) insert: fn(key: &dyn Any, extensions: &mut Extensions),
}
