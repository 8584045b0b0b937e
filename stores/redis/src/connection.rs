//! The connection, and when a new one replaces it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value,
};
use tokio::sync::Mutex;
use tower_bearer_auth::Secret;
use tower_bearer_auth::shared::StoreError;

use crate::target;

/// How long a server's host may leave data unacknowledged. A process that is stopped is no such case: its host still acknowledges.
const HOST_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection without traffic is checked.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long a node of a cluster may take to connect, and to respond. Together they are shorter than a call of 500 ms: a process can
/// connect while a node hangs, and the other nodes serve their names.
const NODE_CONNECT_TIMEOUT: Duration = Duration::from_millis(150);
const NODE_RESPONSE_TIMEOUT: Duration = Duration::from_millis(250);
/// How often a cluster follows a redirection within one call, and the longest wait before that, in milliseconds.
const REDIRECTIONS: u32 = 3;
const MAX_REDIRECTION_WAIT: u64 = 100;

/// The connection of a store: none before the first fetch, and then one.
pub(crate) struct Connections {
    url: Secret,
    is_cluster: bool,
    /// One call at a time connects. The others wait for it: they could do nothing else.
    current: Mutex<Option<Numbered>>,
}

/// A connection and its number, so that a call replaces only the connection that failed for it.
#[derive(Clone)]
struct Numbered {
    number: u64,
    connection: Connection,
}

/// A handle. All handles of one connection share it. A task of the runtime that connected does the I/O.
#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection, Arc<Health>),
}

/// Whether the client of a cluster is stuck. After all nodes have failed, its calls can wait without end, and then only another
/// client helps. <https://github.com/redis-rs/redis-rs/issues/1953> is a similar case.
#[derive(Default)]
struct Health {
    completed: AtomicU64,
    is_stuck: AtomicBool,
}

/// A call that has not completed. `completed`: how many had when it started.
struct CallInFlight<'a> {
    health: &'a Health,
    completed: u64,
}

/// A call of the server.
type Query<'a> = Pin<Box<dyn Future<Output = Result<Value, StoreError>> + Send + 'a>>;

impl Connections {
    pub(crate) fn new(url: Secret, is_cluster: bool) -> Self {
        Self { url, is_cluster, current: Mutex::new(None) }
    }

    /// Sends `command`. If the connection is broken, sends it once more on a new one.
    ///
    /// The first sending may have been carried out. Both scripts allow for that: a claim returns the lease again to its owner, and
    /// a second `publish` returns `false`.
    ///
    /// The future is boxed: the futures of redis are nested so deeply that rustc rejects a program that nests them further.
    pub(crate) fn query<'a>(&'a self, command: &'a Cmd) -> Query<'a> {
        Box::pin(async move {
            let Numbered { number, mut connection } = self.get(None).await?;
            match connection.query(command).await {
                Ok(response) => return Ok(response),
                Err(error) if is_broken(&error) => {}
                Err(error) => return Err(store_error(&error)),
            }
            drop(connection);
            let mut connection = self.get(Some(number)).await?.connection;
            connection.query(command).await.map_err(|error| store_error(&error))
        })
    }

    /// The connection. `broken`: the number of the one that failed.
    async fn get(&self, broken: Option<u64>) -> Result<Numbered, StoreError> {
        let mut current = self.current.lock().await;
        let number = match &*current {
            Some(known) if broken != Some(known.number) && !known.connection.is_stuck() => return Ok(known.clone()),
            Some(known) => known.number.wrapping_add(1),
            None => 0,
        };
        let new = Numbered { number, connection: self.connect().await? };
        *current = Some(new.clone());
        Ok(new)
    }

    async fn connect(&self) -> Result<Connection, StoreError> {
        let loaded = self.url.load().await;
        let url = loaded.map_err(|error| StoreError::new("the URL of Redis cannot be loaded").with_source(error))?;
        let targets = target::parse("url", url.expose_secret(), self.is_cluster)
            .map_err(|error| StoreError::new("the URL of Redis is invalid").with_source(error))?;
        let connected = match self.is_cluster {
            true => connect_to_cluster(targets).await.map(|made| Connection::Cluster(made, Arc::default())),
            false => connect_to_one(targets).await.map(Connection::One),
        };
        connected.map_err(|error| store_error(&error))
    }
}

impl Connection {
    async fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::One(connection) => command.query_async(connection).await,
            Self::Cluster(connection, health) => {
                let _call = health.start_call();
                let result = command.query_async(connection).await;
                health.completed.fetch_add(1, Ordering::Relaxed);
                result
            }
        }
    }

    /// Whether no call gets a response any more. A single server needs no check: a stopped one carries out what it has received
    /// when it continues.
    fn is_stuck(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Cluster(_, health) => health.is_stuck.load(Ordering::Relaxed),
        }
    }
}

impl Health {
    fn start_call(&self) -> CallInFlight<'_> {
        CallInFlight { health: self, completed: self.completed.load(Ordering::Relaxed) }
    }
}

impl Drop for CallInFlight<'_> {
    /// Marks the client as stuck if this call was dropped and no call has completed since it started. A call that is dropped
    /// early also does that, if it is the only one. The price is one more connection.
    fn drop(&mut self) {
        if self.health.completed.load(Ordering::Relaxed) == self.completed {
            self.health.is_stuck.store(true, Ordering::Relaxed);
        }
    }
}

async fn connect_to_one(targets: Vec<ConnectionInfo>) -> RedisResult<MultiplexedConnection> {
    let Some(target) = targets.into_iter().next() else {
        return Err(RedisError::from((ErrorKind::InvalidClientConfig, "no URL")));
    };
    // A user needs no permission for CLIENT SETINFO.
    let settings = target.redis_settings().clone().set_skip_set_lib_name();
    let client = Client::open(target.set_redis_settings(settings).set_tcp_settings(tcp_settings()))?;
    // The caller drops the call after its time, and a response that comes later is ignored.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

async fn connect_to_cluster(targets: Vec<ConnectionInfo>) -> RedisResult<ClusterConnection> {
    let client = ClusterClient::builder(targets)
        .tcp_settings(tcp_settings())
        .connection_timeout(NODE_CONNECT_TIMEOUT)
        .response_timeout(NODE_RESPONSE_TIMEOUT)
        .overall_response_timeout(None)
        .retries(REDIRECTIONS)
        .max_retry_wait(MAX_REDIRECTION_WAIT)
        .min_retry_wait(MAX_REDIRECTION_WAIT / 10)
        .build()?;
    client.get_async_connection().await
}

/// Without these, a connection to a host that has failed hangs until the system gives up, which takes 15 minutes on Linux.
fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let settings = settings.set_user_timeout(HOST_TIMEOUT);
    settings
}

/// Whether another connection may help. Its task ends with the runtime, which is an I/O error too. A timeout says nothing about
/// the connection. A server that has become a replica is read-only, and its name may lead to another server now.
fn is_broken(error: &RedisError) -> bool {
    let is_read_only = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
    is_read_only
        || error.kind() == ErrorKind::Parse
        || error.kind() == ErrorKind::ClusterConnectionNotFound
        || error.is_io_error() && !error.is_timeout()
}

/// Messages of a server can contain the name of a user, so only its code is used.
fn store_error(error: &RedisError) -> StoreError {
    if error.is_io_error() {
        return StoreError::new("the connection to Redis failed").with_source(error.clone());
    }
    match error.code() {
        Some("NOPERM") => {
            StoreError::new("Redis: NOPERM: the ACL user lacks a permission, see the documentation of the store")
        }
        Some(code) if code.len() <= 32 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            StoreError::new(format!("Redis: {code}"))
        }
        _ => StoreError::new(format!("Redis: {}", error.category())),
    }
}
