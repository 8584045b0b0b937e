//! An issuer that answers when and what the simulation tells it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tower_bearer_auth::{Error, FetchContext, FromExtension, IssuedToken, TokenProvider};

/// Which identity a token is for.
pub(crate) type Who = FromExtension<u8>;

pub(crate) enum Answer {
    Token(String, Option<i64>),
    Error(Error),
    Panic,
}

/// One token request, as the issuer sees it.
pub(crate) struct Fetch {
    pub(crate) who: u8,
    /// Which credentials it came with.
    pub(crate) epoch: u32,
    /// Gone once it was answered.
    answer: Option<oneshot::Sender<Answer>>,
    /// Whether the client is still there.
    pub(crate) open: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Issuer {
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
pub(crate) struct Books {
    pub(crate) epoch: u32,
    /// By the order in which they came.
    pub(crate) fetches: Vec<Fetch>,
}

impl Issuer {
    pub(crate) fn books<T>(&self, read: impl FnOnce(&mut Books) -> T) -> T {
        read(&mut self.books.lock())
    }

    pub(crate) fn answer(&self, fetch: usize, answer: Answer) {
        let waiting = self.books(|books| books.fetches[fetch].answer.take());
        let _gone = waiting.expect("answered once").send(answer);
    }
}

impl TokenProvider for Issuer {
    type Key = Who;

    async fn fetch(&self, who: &Who, _: &FetchContext) -> Result<IssuedToken, Error> {
        let (answer, answered) = oneshot::channel();
        let id = self.books(|books| {
            let epoch = books.epoch;
            books.fetches.push(Fetch { who: who.0, epoch, answer: Some(answer), open: true });
            books.fetches.len() - 1
        });
        let _open = Open { issuer: self, id };
        match answered.await.expect("the books are kept") {
            Answer::Token(secret, lifetime) => {
                let token = IssuedToken::bearer(secret)?;
                Ok(match lifetime {
                    Some(ms) => token.expires_in(Duration::from_millis(ms.unsigned_abs())),
                    None => token,
                })
            }
            Answer::Error(error) => Err(error),
            // Without the message that a panic prints.
            Answer::Panic => std::panic::resume_unwind(Box::new("the provider's bug")),
        }
    }
}

struct Open<'a> {
    issuer: &'a Issuer,
    id: usize,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.issuer.books(|books| books.fetches[self.id].open = false);
    }
}
