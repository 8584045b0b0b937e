//! Processes with one issuer, one store and one API.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use parking_lot::Mutex;
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::shared::{Identity, OnStoreFailure, SealingKey, Shareable, Shared};
use tower_bearer_auth::{
    Error, FetchContext, IssuedToken, SourceStats, TokenProvider, TokenSource, TokenSourceBuilder,
};

use crate::faulty_store::{FaultyStore, Server};
use crate::support::api::Api;
use crate::support::issuer::Issuer;
use crate::support::responses::{INVALID_TOKEN, bearer, rejection, response};
use crate::support::time::TestClock;

pub(crate) use crate::faulty_store::Fault;
pub(crate) use crate::support::issuer::{Outcome, unavailable};
pub(crate) use crate::support::time::{Stopwatch, ms, secs, settle, tokio_now};

pub(crate) const KEY: &str = "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069";
pub(crate) const OTHER_KEY: &str = "3c9683017f9e4bf33d0fbedd26bf143fd72de9b9dd145441b75f0604047ea28e";
const ORIGIN: &str = "https://api.example.com";

pub(crate) fn key(hex: &str) -> SealingKey {
    SealingKey::from_hex(hex).unwrap()
}

/// The issuer, as one process sees it: with the secret of that process.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) issuer: Issuer,
    secret: Arc<Mutex<String>>,
}

impl Client {
    pub(crate) fn new(issuer: &Issuer) -> Self {
        Self { issuer: issuer.clone(), secret: Arc::new(Mutex::new("old secret".to_owned())) }
    }

    pub(crate) fn set_secret(&self, secret: &str) {
        secret.clone_into(&mut self.secret.lock());
    }
}

impl TokenProvider for Client {
    type Key = ();

    fn fetch(&self, key: &(), cx: &FetchContext) -> impl Future<Output = Result<IssuedToken, Error>> + Send {
        self.issuer.fetch(key, cx)
    }
}

impl Shareable for Client {
    async fn identity(&self, (): &()) -> Result<Identity, Error> {
        let secret = self.secret.lock().clone();
        Ok(Identity::new("https://issuer.test/token").field("client", "orders").credential(secret))
    }
}

pub(crate) type Source = TokenSource<Shared<Client, FaultyStore>>;

pub(crate) struct Process {
    pub(crate) source: Source,
    pub(crate) client: Client,
    pub(crate) store: FaultyStore,
    pub(crate) clock: TestClock,
    api: Api,
}

pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) server: Server,
    pub(crate) api: Api,
    revoked: Arc<Mutex<BTreeSet<String>>>,
}

/// The settings of a process that tests change.
pub(crate) struct Settings {
    pub(crate) key: &'static str,
    pub(crate) accepts: Option<&'static str>,
    pub(crate) namespace: &'static str,
    pub(crate) on_failure: OnStoreFailure,
}

impl Default for Settings {
    fn default() -> Self {
        Self { key: KEY, accepts: None, namespace: "test", on_failure: OnStoreFailure::FetchAlone }
    }
}

impl World {
    /// An issuer whose tokens live half an hour, and an API that accepts tokens until they are revoked.
    pub(crate) fn new() -> Self {
        let revoked = Arc::<Mutex<BTreeSet<String>>>::default();
        let dead = Arc::clone(&revoked);
        let api = Api::new(move |request| match dead.lock().contains(bearer(request)) {
            true => rejection(INVALID_TOKEN),
            false => response(StatusCode::OK),
        });
        Self { issuer: Issuer::new(), server: Server::default(), api, revoked }
    }

    pub(crate) fn process(&self) -> Process {
        self.process_with(Settings::default(), |builder| builder)
    }

    pub(crate) fn process_with(
        &self,
        settings: Settings,
        build: impl FnOnce(
            TokenSourceBuilder<Shared<Client, FaultyStore>>,
        ) -> TokenSourceBuilder<Shared<Client, FaultyStore>>,
    ) -> Process {
        let (client, store, clock) = (Client::new(&self.issuer), self.server.handle(), TestClock::new());
        let mut shared = Shared::builder(client.clone(), store.clone())
            .namespace(settings.namespace)
            .sealing_key(key(settings.key))
            .on_store_failure(settings.on_failure);
        if let Some(other) = settings.accepts {
            shared = shared.also_accept(key(other));
        }
        let source = build(TokenSource::builder(shared.build().unwrap()).clock(clock.clone())).build();
        Process { source, client, store, clock, api: self.api.clone() }
    }

    pub(crate) fn processes(&self, count: usize) -> Vec<Process> {
        (0..count).map(|_| self.process()).collect()
    }

    /// The API rejects this token from now on.
    pub(crate) fn revoke(&self, secret: &str) {
        self.revoked.lock().insert(secret.to_owned());
    }

    pub(crate) fn requests(&self) -> usize {
        self.issuer.requests()
    }
}

impl Process {
    /// The secret of the token that the source returns.
    pub(crate) async fn token(&self) -> Result<String, Error> {
        self.source.token().await.map(|token| token.expose_secret().to_owned())
    }

    /// Sends one request through the layer. Returns whether it succeeded.
    pub(crate) async fn call(&self) -> bool {
        let layer = self.source.layer().allow_origin(ORIGIN).unwrap();
        let request = Request::get(format!("{ORIGIN}/orders")).body(String::new()).unwrap();
        match layer.layer(self.api.clone()).oneshot(request).await {
            Ok(response) => response.status() == StatusCode::OK,
            Err(_) => false,
        }
    }

    /// Sends requests at this distance for `time`. Returns how many failed.
    pub(crate) async fn load(&self, every: Duration, time: Duration) -> usize {
        let until = tokio_now() + time;
        let mut failed = 0;
        while tokio_now() < until {
            failed += usize::from(!self.call().await);
            tokio::time::sleep(every).await;
        }
        failed
    }

    pub(crate) fn stats(&self) -> SourceStats {
        self.source.stats()
    }

    /// The process is killed: its calls of the store no longer arrive, and its tasks end.
    pub(crate) fn kill(self) {
        self.store.set(Fault::Hangs);
        drop(self);
    }
}

/// Runs `each` for all processes at the same time.
pub(crate) async fn together<'a, T, F: Future<Output = T> + 'a>(
    processes: &'a [Process],
    each: impl FnMut(&'a Process) -> F,
) -> Vec<T> {
    futures::future::join_all(processes.iter().map(each)).await
}
