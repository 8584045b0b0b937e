//! The users and the transactions of the merchant.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;

#[derive(Default)]
pub(super) struct Merchant {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    users: Vec<User>,
    /// The body and the transaction id of each payment, by idempotency key or, in version 1, by the `uuid` of the body.
    paid: HashMap<String, (Bytes, String)>,
    transactions: Vec<String>,
}

struct User {
    id: String,
    email: String,
    confirmed: bool,
}

/// The result of a payment, with the transaction id.
pub(super) enum Payment {
    New(String),
    /// The same key with the same body.
    Repeated(String),
    /// The same key with another body.
    Conflict,
}

impl Merchant {
    /// Creates a user, or disconnects the user with this address. The user is connected after [`confirm`](Self::confirm).
    pub(super) fn create_or_disconnect(&self, email: &str) -> String {
        let mut state = self.state.lock();
        if let Some(user) = state.users.iter_mut().find(|user| user.email == email) {
            user.confirmed = false;
            return user.id.clone();
        }
        let id = uuid();
        state.users.push(User { id: id.clone(), email: email.to_owned(), confirmed: false });
        id
    }

    /// Connects the user. Returns `false` if there is no such user.
    pub(super) fn confirm(&self, id: &str) -> bool {
        let mut state = self.state.lock();
        state.users.iter_mut().find(|user| user.id == id).map(|user| user.confirmed = true).is_some()
    }

    pub(super) fn is_confirmed(&self, id: &str) -> bool {
        self.state.lock().users.iter().any(|user| user.id == id && user.confirmed)
    }

    pub(super) fn pay(&self, key: Option<&str>, body: &Bytes) -> Payment {
        let mut state = self.state.lock();
        if let Some((sent, id)) = key.and_then(|key| state.paid.get(key)) {
            return if sent == body { Payment::Repeated(id.clone()) } else { Payment::Conflict };
        }
        let id = uuid();
        state.transactions.push(id.clone());
        if let Some(key) = key {
            state.paid.insert(key.to_owned(), (body.clone(), id.clone()));
        }
        Payment::New(id)
    }

    pub(super) fn transactions(&self) -> Vec<String> {
        self.state.lock().transactions.clone()
    }

    pub(super) fn paid_with(&self, key: &str) -> Option<String> {
        self.state.lock().paid.get(key).map(|(_, id)| id.clone())
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
