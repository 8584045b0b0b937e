//! Code of the user that runs inside of the source: it calls the source, or panics.

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::fmt;
use std::hash::Hash;
use std::rc::Rc;

use tower_bearer_auth::{Error, RequestHead, RequestKey};

use crate::format::UserCode;

thread_local! {
    /// What the user's code does in the scenario that this thread runs.
    static HOOKS: RefCell<Hooks> = RefCell::new(Hooks::default());
    /// Whether such code is running. It does not call itself.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

#[derive(Default)]
struct Hooks {
    on: Vec<UserCode>,
    calls: Option<Rc<dyn Fn()>>,
}

/// The user's code of this thread, until this is dropped.
pub(crate) struct Installed;

pub(crate) fn install(on: &[UserCode], calls: impl Fn() + 'static) -> Installed {
    HOOKS.set(Hooks { on: on.to_vec(), calls: Some(Rc::new(calls)) });
    Installed
}

impl Drop for Installed {
    fn drop(&mut self) {
        drop(HOOKS.take());
    }
}

/// Calls the source, if the scenario has this code.
fn run(code: UserCode) {
    if INSIDE.get() {
        return;
    }
    let calls = HOOKS.with_borrow(|hooks| if hooks.on.contains(&code) { hooks.calls.clone() } else { None });
    if let Some(calls) = calls {
        INSIDE.set(true);
        calls();
        INSIDE.set(false);
    }
}

pub(crate) fn clock_is_read() {
    run(UserCode::Clock);
}

/// The identity that a token is for.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) String);

impl Clone for Key {
    fn clone(&self) -> Self {
        run(UserCode::KeyClone);
        Self(self.0.clone())
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        run(UserCode::KeyDrop);
    }
}

impl RequestKey for Key {
    fn from_request(request: &RequestHead<'_>) -> Result<Self, Error> {
        Ok(request.extensions().get::<Self>().map_or_else(|| Self(String::new()), |key| Self(key.0.clone())))
    }
}

/// The cause of every error of the issuer.
#[derive(Debug)]
pub(crate) struct Cause;

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the issuer of the scenario returned an error")
    }
}

impl StdError for Cause {}

impl Drop for Cause {
    fn drop(&mut self) {
        run(UserCode::ErrorDrop);
    }
}
