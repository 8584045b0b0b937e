//! What processes make of the records on a server. R43, and R91 to R94.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tower_bearer_auth::shared::{Identity, SealingKey, Shareable, Shared};
use tower_bearer_auth::{Error, FetchContext, IssuedToken, SourceStats, TokenProvider, TokenSource};

use crate::server::Server;

const KEY: &str = "8f14e45fceea167a5a36dedd4bea2543a1d0c6e83f027327d8461063f4ac58a6";
const OTHER_KEY: &str = "3c9683017f9e4bf33d0fbedd26bf143fd72de9b9dd145441b75f0604047ea28e";
const LIFETIME: Duration = Duration::from_secs(1800);

/// A client of an issuer that numbers its tokens.
#[derive(Clone)]
struct Client {
    requests: Arc<AtomicUsize>,
    identity: Arc<Mutex<Identity>>,
    /// What the client's identity is after a token request.
    becomes: Option<Identity>,
}

fn identity(client: &str, secret: &str) -> Identity {
    Identity::new("https://issuer.test/token").field("client", client).credential(secret)
}

impl Client {
    fn new() -> Self {
        Self { requests: Arc::default(), identity: Arc::new(Mutex::new(identity("orders", "old"))), becomes: None }
    }

    /// A process with the same issuer, and an identity of its own.
    fn identified_by(&self, identity: Identity) -> Self {
        Self { identity: Arc::new(Mutex::new(identity)), ..self.clone() }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl TokenProvider for Client {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(identity) = &self.becomes {
            *self.identity.lock().unwrap() = identity.clone();
        }
        Ok(IssuedToken::bearer(format!("token-{number}"))?.expires_in(LIFETIME))
    }
}

impl Shareable for Client {
    async fn identity(&self, (): &()) -> Result<Identity, Error> {
        Ok(self.identity.lock().unwrap().clone())
    }
}

/// What a process that starts gets.
struct Got {
    token: String,
    expires_at: SystemTime,
    stats: SourceStats,
}

/// A process with these settings: its sealing key, one that it also accepts, and its namespace.
async fn process_with(server: &Server, client: &Client, keys: [&str; 2], namespace: &str) -> Got {
    let [seals, accepts] = keys.map(|key| SealingKey::from_hex(key).unwrap());
    let builder = Shared::builder(client.clone(), server.store()).namespace(namespace);
    let source = TokenSource::new(builder.sealing_key(seals).also_accept(accepts).build().unwrap());
    let token = source.token().await.unwrap();
    Got { token: token.expose_secret().to_owned(), expires_at: token.expires_at(), stats: source.stats() }
}

async fn process(server: &Server, client: &Client) -> Got {
    process_with(server, client, [KEY, KEY], "").await
}

/// The keys of the tokens in the store.
async fn tokens(server: &Server) -> Vec<String> {
    server.keys().await.into_iter().filter(|key| key.ends_with(":t")).collect()
}

async fn only_token(server: &Server) -> String {
    let tokens = tokens(server).await;
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    tokens[0].clone()
}

// R91: the clock of the store counts the life of a record.
pub(crate) async fn all_processes_compute_the_same_end_of_a_token() {
    let (server, client) = (Server::start(&[]), Client::new());
    let first = process(&server, &client).await;
    let key = only_token(&server).await;
    let others = [process(&server, &client).await, process(&server, &client).await];
    for other in others {
        assert_eq!(other.token, "token-1");
        let difference = other.expires_at.duration_since(first.expires_at).unwrap_or_else(|error| error.duration());
        assert!(difference <= Duration::from_secs(2), "{difference:?}");
    }
    // 600 s of the record's life have passed at the store.
    let begun = SystemTime::now();
    let left: i64 = server.command(&["PTTL", &key]).await;
    let _: i64 = server.command(&["PEXPIRE", &key, &(left - 600_000).to_string()]).await;
    let later = process(&server, &client).await;
    let left = later.expires_at.duration_since(begun).unwrap();
    assert!(left <= LIFETIME - Duration::from_secs(599) && left >= LIFETIME - Duration::from_secs(630), "{left:?}");
    // A life that is longer than the record was sealed for does not count.
    let _: i64 = server.command(&["PEXPIRE", &key, "999999999"]).await;
    let longer = process(&server, &client).await;
    assert!(longer.expires_at <= SystemTime::now() + LIFETIME);
    assert_eq!((longer.token.as_str(), client.requests()), ("token-1", 1));
}

// R92, R96
pub(crate) async fn no_two_identities_share_a_record() {
    let (server, client) = (Server::start(&[]), Client::new());
    let identities = [
        identity("orders", "old"),
        identity("order", "sold"),
        identity("orders", "old").field("scope", "read"),
        identity("orders", "old").field("scope", "read write"),
        identity("orders", "old").field("tenant", "read"),
    ];
    for (number, identity) in identities.iter().enumerate() {
        let other = client.identified_by(identity.clone());
        assert_eq!(process(&server, &other).await.token, format!("token-{}", number + 1));
        assert_eq!(process(&server, &other).await.token, format!("token-{}", number + 1));
    }
    assert_eq!(process_with(&server, &client, [KEY, KEY], "production").await.token, "token-6");
    let keys = server.keys().await;
    assert_eq!(keys.len(), 6, "{keys:?}");
    for key in keys {
        let name = key.strip_prefix("tba:{").and_then(|key| key.strip_suffix("}:t")).unwrap();
        assert!(name.len() == 43 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{key}");
    }
}

// R93
pub(crate) async fn a_record_that_was_changed_or_moved_does_not_open() {
    let (server, client) = (Server::start(&[]), Client::new());
    process(&server, &client).await;
    let key = only_token(&server).await;
    let length: i64 = server.command(&["STRLEN", &key]).await;
    // The version, the format, the lifetime, the nonce, the first and the last byte of the ciphertext.
    for (number, at) in [0, 16, 18, 30, 60, length - 1].into_iter().enumerate() {
        let byte: Vec<u8> = server.command(&["GETRANGE", &key, &at.to_string(), &at.to_string()]).await;
        let other = if byte[0] == b'x' { "y" } else { "x" };
        let _: i64 = server.command(&["SETRANGE", &key, &at.to_string(), other]).await;
        let got = process(&server, &client).await;
        assert_eq!((got.token, got.stats.store_unopened), (format!("token-{}", number + 2), 1), "byte {at}");
        // It was replaced.
        assert_eq!(process(&server, &client).await.stats.store_hits, 1);
    }
    let before = client.requests();
    let other = client.identified_by(identity("billing", "secret"));
    process(&server, &other).await;
    let second = tokens(&server).await.into_iter().find(|token| *token != key).unwrap();
    let _: i64 = server.command(&["COPY", &key, &second, "REPLACE"]).await;
    let got = process(&server, &other).await;
    assert_eq!((got.token, got.stats.store_unopened), (format!("token-{}", before + 2), 1));
}

// R93
pub(crate) async fn a_record_of_another_key_opens_only_where_the_key_is_accepted() {
    let (server, client) = (Server::start(&[]), Client::new());
    assert_eq!(process(&server, &client).await.token, "token-1");
    assert_eq!(process_with(&server, &client, [OTHER_KEY, KEY], "").await.token, "token-1");
    let got = process_with(&server, &client, [OTHER_KEY, OTHER_KEY], "").await;
    assert_eq!((got.token.as_str(), got.stats.store_unopened), ("token-2", 1));
}

// R93: an older record of the same name.
pub(crate) async fn an_older_record_is_taken_and_lives_no_longer_than_it_was_sealed_for() {
    let (server, client) = (Server::start(&[]), Client::new());
    process(&server, &client).await;
    let key = only_token(&server).await;
    let _: i64 = server.command(&["COPY", &key, "old"]).await;
    let _: i64 = server.command(&["DEL", &key]).await;
    assert_eq!(process(&server, &client).await.token, "token-2");
    let _: i64 = server.command(&["COPY", "old", &key, "REPLACE"]).await;
    let _: i64 = server.command(&["PEXPIRE", &key, "999999999"]).await;
    let got = process(&server, &client).await;
    assert_eq!((got.token.as_str(), client.requests()), ("token-1", 2));
    assert!(got.expires_at <= SystemTime::now() + LIFETIME);
    // Without an expiry it is invalid.
    let _: i64 = server.command(&["PERSIST", &key]).await;
    let got = process(&server, &client).await;
    assert_eq!((got.token.as_str(), got.stats.store_unopened), ("token-3", 1));
}

// R94
pub(crate) async fn processes_with_another_secret_share_nothing() {
    let (server, client) = (Server::start(&[]), Client::new());
    let new = client.identified_by(identity("orders", "new"));
    assert_eq!(process(&server, &client).await.token, "token-1");
    assert_eq!(process(&server, &new).await.token, "token-2");
    assert_eq!(process(&server, &client).await.token, "token-1");
    assert_eq!(process(&server, &new).await.token, "token-2");
    // A secret that changes during the token request: nothing is published, and the lease is released.
    let () = server.command(&["FLUSHALL"]).await;
    let changing =
        Client { becomes: Some(identity("orders", "new")), ..client.identified_by(identity("orders", "old")) };
    assert_eq!(process(&server, &changing).await.token, "token-3");
    assert_eq!(server.keys().await, Vec::<String>::new());
}

// R43, R89
pub(crate) async fn a_store_that_fails_or_hangs_is_a_miss() {
    let (mut server, client) = (Server::start(&[]), Client::new());
    server.freeze();
    let begun = tokio::time::Instant::now();
    let got = process(&server, &client).await;
    assert_eq!((got.token.as_str(), got.stats.store_failures), ("token-1", 1));
    assert!(begun.elapsed() >= Duration::from_millis(500), "it hung");
    server.resume();
    server.kill();
    let got = process(&server, &client).await;
    assert_eq!((got.token.as_str(), got.stats.store_failures), ("token-2", 1));
}
