//! A `redis-server` of its own for each case: on a free port of loopback, in a directory of its own, ended by its process id.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tower_bearer_auth_redis::RedisStore;

/// The user and group `nobody`, for servers that root starts.
const NOBODY: u32 = 65534;
const ATTEMPTS: usize = 10;

/// A directory that is removed with its contents.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tba-redis-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        own(&path);
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Gives a file or directory to the user of the servers.
pub(crate) fn own(path: &Path) {
    if fs::metadata(path).unwrap().uid() == 0 {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

pub(crate) struct Server {
    pub(crate) port: u16,
    options: Vec<String>,
    folder: Folder,
    child: Child,
}

impl Server {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_in(Folder::new(), options)
    }

    pub(crate) fn start_in(folder: Folder, options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        for _ in 0..ATTEMPTS {
            // Another program may take the port before the server does.
            let port = free_port();
            if let Ok(child) = spawn(port, folder.path(), &options) {
                return Self { port, options, folder, child };
            }
        }
        panic!("redis-server does not start");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn store(&self) -> RedisStore {
        RedisStore::builder(self.url()).build().unwrap()
    }

    /// The value of an option with which it was started.
    pub(crate) fn option(&self, name: &str) -> String {
        let at = self.options.iter().position(|option| option == name).unwrap();
        self.options[at + 1].clone()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, empty, on the same port.
    pub(crate) fn restart(&mut self) {
        for _ in 0..ATTEMPTS {
            if let Ok(child) = spawn(self.port, self.folder.path(), &self.options) {
                self.child = child;
                return;
            }
        }
        panic!("redis-server does not start again");
    }

    /// The process stops, and its connections stay. Returns after it has stopped.
    pub(crate) fn freeze(&self) {
        signal("-STOP", self.child.id());
        let status = format!("/proc/{}/stat", self.child.id());
        while Path::new(&status).exists() && !fs::read_to_string(&status).unwrap().contains(") T ") {
            thread::yield_now();
        }
    }

    pub(crate) fn resume(&self) {
        signal("-CONT", self.child.id());
    }

    pub(crate) async fn admin(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        // The default of 500 ms is too short on a busy machine.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
    }

    /// Sends a command on a connection of its own.
    pub(crate) async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.admin().await).await.unwrap()
    }

    /// How many connections the server has accepted, without those of this function.
    pub(crate) async fn connections(&self, admin: &mut MultiplexedConnection) -> u64 {
        info(admin, "total_connections_received").await
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        self.command(&["KEYS", "*"]).await
    }
}

pub(crate) async fn info(admin: &mut MultiplexedConnection, field: &str) -> u64 {
    let text: String = redis::cmd("INFO").arg("all").query_async(admin).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().trim().parse().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

pub(crate) fn signal(name: &str, process: u32) {
    let status = Command::new("kill").args([name, &process.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Returns when the server accepts connections.
fn spawn(port: u16, folder: &Path, options: &[String]) -> io::Result<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--enable-debug-command", "local"]);
    if !options.iter().any(|option| option == "--tls-port") {
        command.args(["--port", &port.to_string()]);
    }
    command.args(options.iter().map(|option| option.replace("PORT", &port.to_string())));
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if fs::metadata("/proc/self")?.uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut log = String::new();
    for line in lines.by_ref() {
        let line = line?;
        if line.contains("Ready to accept connections") {
            // A full pipe would block the server.
            thread::spawn(move || lines.for_each(drop));
            return Ok(child);
        }
        log.push_str(&line);
        log.push('\n');
    }
    child.wait()?;
    if !log.contains("Address already in use") {
        eprintln!("{log}");
    }
    Err(io::Error::other("it did not start"))
}
