//! The merchant's users, and what money has moved.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;

#[derive(Default)]
pub(super) struct People {
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    users: Vec<User>,
    /// By idempotency key or, in version 1, by the body's `uuid`: what was sent, and what was answered.
    moved: HashMap<String, (Bytes, String)>,
    transactions: Vec<String>,
}

struct User {
    id: String,
    email: String,
    confirmed: bool,
}

/// What a key for a movement of money turned out to be.
pub(super) enum Movement {
    Made(String),
    /// The same once more.
    Repeated(String),
    /// The same key with another body.
    Differs,
}

impl People {
    /// Creates a user, or finds it by its address; either way it is not connected until it is confirmed.
    pub(super) fn enrol(&self, email: &str) -> String {
        let mut book = self.book.lock();
        if let Some(user) = book.users.iter_mut().find(|user| user.email == email) {
            user.confirmed = false;
            return user.id.clone();
        }
        let id = uuid();
        book.users.push(User { id: id.clone(), email: email.to_owned(), confirmed: false });
        id
    }

    /// Whether there is such a user.
    pub(super) fn confirm(&self, id: &str) -> bool {
        let mut book = self.book.lock();
        book.users.iter_mut().find(|user| user.id == id).map(|user| user.confirmed = true).is_some()
    }

    pub(super) fn is_confirmed(&self, id: &str) -> bool {
        self.book.lock().users.iter().any(|user| user.id == id && user.confirmed)
    }

    pub(super) fn move_money(&self, key: Option<&str>, body: &Bytes) -> Movement {
        let mut book = self.book.lock();
        if let Some((sent, id)) = key.and_then(|key| book.moved.get(key)) {
            return if sent == body { Movement::Repeated(id.clone()) } else { Movement::Differs };
        }
        let id = uuid();
        book.transactions.push(id.clone());
        if let Some(key) = key {
            book.moved.insert(key.to_owned(), (body.clone(), id.clone()));
        }
        Movement::Made(id)
    }

    pub(super) fn transactions(&self) -> Vec<String> {
        self.book.lock().transactions.clone()
    }

    pub(super) fn moved_under(&self, key: &str) -> Option<String> {
        self.book.lock().moved.get(key).map(|(_, id)| id.clone())
    }
}

fn uuid() -> String {
    let bits = fastrand::u128(..);
    let part = |shift: u32, width: u32| (bits >> shift) & ((1 << width) - 1);
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        part(96, 32),
        part(80, 16),
        part(68, 12),
        part(56, 12),
        part(0, 48)
    )
}
