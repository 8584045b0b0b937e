//! An issuer whose responses the simulation chooses.
//!
//! It is not `support::issuer`, because the oracle reads and changes every pending request: the version of its credentials, and
//! whether the client still waits. The lifetime of a token is part of its response.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tower_bearer_auth::{Error, ErrorKind, ExtensionKey, FetchContext, IssuedToken, TokenProvider};

/// The users from this one on are invented: the issuer rejects them at once.
pub(crate) const INVENTED: u8 = 100;

/// The identity that a token is for.
pub(crate) type User = ExtensionKey<u8>;

pub(crate) enum ScriptedResponse {
    Token(String, Option<i64>),
    Error(Error),
    Panic,
}

/// One token request at the issuer.
pub(crate) struct Fetch {
    pub(crate) user: u8,
    /// The version of the credentials that it was sent with.
    pub(crate) epoch: u32,
    /// `None` after the response.
    sender: Option<oneshot::Sender<ScriptedResponse>>,
    /// Whether the client still waits.
    pub(crate) open: bool,
    pub(crate) context: FetchContext,
}

#[derive(Clone, Default)]
pub(crate) struct Issuer {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) epoch: u32,
    /// In the order in which they arrived.
    pub(crate) fetches: Vec<Fetch>,
    /// Whether a request of a user arrived while the client still waited for another one of that user.
    pub(crate) overlap: bool,
}

impl Issuer {
    pub(crate) fn state<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock())
    }

    pub(crate) fn respond(&self, fetch: usize, response: ScriptedResponse) {
        let sender = self.state(|state| state.fetches[fetch].sender.take());
        let _dropped = sender.expect("one response per request").send(response);
    }
}

impl TokenProvider for Issuer {
    type Key = User;

    async fn fetch(&self, user: &User, context: &FetchContext) -> Result<IssuedToken, Error> {
        if user.0 >= INVENTED {
            return Err(Error::transient("no such user").with_kind(ErrorKind::Unavailable));
        }
        let (sender, receiver) = oneshot::channel();
        let id = self.state(|state| {
            let epoch = state.epoch;
            state.overlap |= state.fetches.iter().any(|fetch| fetch.user == user.0 && fetch.open);
            let context = context.clone();
            state.fetches.push(Fetch { user: user.0, epoch, sender: Some(sender), open: true, context });
            state.fetches.len() - 1
        });
        let _open = Open { issuer: self, id };
        match receiver.await.expect("the sender is kept") {
            ScriptedResponse::Token(secret, lifetime) => {
                let token = IssuedToken::bearer(secret)?;
                Ok(match lifetime {
                    Some(ms) => token.expires_in(Duration::from_millis(ms.unsigned_abs())),
                    None => token,
                })
            }
            ScriptedResponse::Error(error) => Err(error),
            // `resume_unwind` prints no message.
            ScriptedResponse::Panic => std::panic::resume_unwind(Box::new("the provider's bug")),
        }
    }
}

struct Open<'a> {
    issuer: &'a Issuer,
    id: usize,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.issuer.state(|state| state.fetches[self.id].open = false);
    }
}
