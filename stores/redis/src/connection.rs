//! The connection, and when a new one replaces it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
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
/// How long the check of a cluster may take before a new connection replaces the old one.
const CHECK_TIMEOUT: Duration = Duration::from_millis(100);
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

/// A handle. All handles of one connection share it. A task of the runtime that connected does the I/O. For a cluster: whether the
/// connection must be checked before it is used.
#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection, Arc<AtomicBool>),
}

/// A call of a cluster. If it is dropped before it completes, the connection is checked before the next call, unless another call
/// completes first.
struct CallInFlight<'a> {
    needs_check: &'a AtomicBool,
    is_complete: bool,
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

    /// The connection. `broken`: the number of the one that failed. One that only did not respond is kept if no new one can be made.
    async fn get(&self, broken: Option<u64>) -> Result<Numbered, StoreError> {
        let mut current = self.current.lock().await;
        let mut old = current.clone().filter(|old| broken != Some(old.number));
        if let Some(old) = &mut old
            && old.connection.responds().await
        {
            return Ok(old.clone());
        }
        let connection = match (self.connect().await, old) {
            (Ok(connection), _) => connection,
            // It may respond again.
            (Err(_), Some(old)) => return Ok(old),
            (Err(error), None) => return Err(error),
        };
        let number = current.as_ref().map_or(0, |last| last.number.wrapping_add(1));
        let new = Numbered { number, connection };
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
            Self::Cluster(connection, needs_check) => {
                let mut call = CallInFlight { needs_check, is_complete: false };
                let result = command.query_async(connection).await;
                call.is_complete = true;
                result
            }
        }
    }

    /// Whether the connection can be used. Only the connection to a cluster is checked, and only after a dropped call. A single
    /// server that is stopped carries out what it has received when it continues.
    ///
    /// After all nodes of a cluster have restarted, its client can wait without end, and then only another client helps. Without the
    /// check, the case `nodes_that_restart_empty_are_used_again` fails in about half of its runs.
    /// <https://github.com/redis-rs/redis-rs/issues/1953> is similar.
    ///
    /// The response of one node is enough: a node that hangs says nothing about the others. An error of a server is a response too.
    /// `PING` would need another permission.
    async fn responds(&mut self) -> bool {
        let Self::Cluster(connection, needs_check) = self else { return true };
        if !needs_check.load(Ordering::Relaxed) {
            return true;
        }
        let mut command = redis::cmd("EVAL");
        command.arg("return 1").arg(0);
        let any_node = (MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::OneSucceeded));
        let check = connection.route_command(command, RoutingInfo::MultiNode(any_node));
        let responds = matches!(tokio::time::timeout(CHECK_TIMEOUT, check).await, Ok(Ok(_)));
        if responds {
            needs_check.store(false, Ordering::Relaxed);
        }
        responds
    }
}

impl Drop for CallInFlight<'_> {
    fn drop(&mut self) {
        self.needs_check.store(!self.is_complete, Ordering::Relaxed);
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
