//! An issuer that counts its token requests, and an API that accepts the tokens that were not revoked. Both are in this process.
//! The processes of a fleet connect to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long the issuer takes.
const LATENCY: Duration = Duration::from_millis(200);

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    state: Arc<watch::Sender<State>>,
}

#[derive(Default)]
struct State {
    /// The processes that requested a token, in order. The token of the first one is `token-1`.
    requests: Vec<usize>,
    revoked: BTreeSet<String>,
    /// The accepted calls of each process since the latest revocation.
    accepted: BTreeMap<usize, usize>,
    /// Requests from this one on get no response.
    held_from: Option<usize>,
    /// Whether the issuer is unavailable.
    is_down: bool,
}

impl World {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let world = Self { address: listener.local_addr().unwrap(), state: Arc::new(watch::Sender::default()) };
        let served = world.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let world = served.clone();
                // A process that is killed closes its connections.
                tokio::spawn(async move { drop(world.serve(stream).await) });
            }
        });
        world
    }

    /// The first line says what the connection is for, and for which process.
    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let (kind, process) = line.trim().split_once(' ').unwrap();
        let process = process.parse().unwrap();
        if kind == "token" {
            let response = self.issue(process).await;
            return stream.write_all(response.as_bytes()).await;
        }
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let response = if self.accepts(process, line.trim()) { "200\n" } else { "401\n" };
            stream.write_all(response.as_bytes()).await?;
        }
    }

    async fn issue(&self, process: usize) -> String {
        let mut number = 0;
        self.state.send_modify(|state| {
            state.requests.push(process);
            number = state.requests.len();
        });
        tokio::time::sleep(LATENCY).await;
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| state.held_from.is_none_or(|held| number < held)).await.unwrap();
        if state.is_down { "unavailable\n".to_owned() } else { format!("token-{number}\n") }
    }

    fn accepts(&self, process: usize, token: &str) -> bool {
        let mut accepts = false;
        self.state.send_modify(|state| {
            accepts = token.starts_with("token-") && !state.revoked.contains(token);
            if accepts {
                *state.accepted.entry(process).or_default() += 1;
            }
        });
        accepts
    }

    /// The API rejects all tokens that were issued until now.
    pub(crate) fn revoke(&self) {
        self.state.send_modify(|state| {
            state.revoked = (1..=state.requests.len()).map(|number| format!("token-{number}")).collect();
            state.accepted.clear();
        });
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.borrow().requests.len()
    }

    /// The process that sent request `number`, as soon as it has sent it. The issuer responds neither to it nor to later ones.
    pub(crate) async fn hold(&self, number: usize) -> usize {
        self.state.send_modify(|state| state.held_from = Some(number));
        self.requested(number).await;
        self.state.borrow().requests[number - 1]
    }

    /// Returns when there were so many token requests.
    pub(crate) async fn requested(&self, number: usize) {
        let mut state = self.state.subscribe();
        state.wait_for(|state| state.requests.len() >= number).await.unwrap();
    }

    pub(crate) fn release(&self) {
        self.state.send_modify(|state| state.held_from = None);
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.state.send_modify(|state| state.is_down = is_down);
    }

    /// Returns when each of these processes had so many accepted calls since the latest revocation.
    pub(crate) async fn accepted(&self, processes: &[usize], calls: usize) {
        let mut state = self.state.subscribe();
        let enough = |state: &State| processes.iter().all(|process| state.accepted.get(process) >= Some(&calls));
        state.wait_for(enough).await.unwrap();
    }
}
