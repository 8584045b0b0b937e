//! Eight processes with one store, and an issuer that counts. R86 to R89.

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::cluster::Cluster;
use crate::server::{Server, info};
use crate::tls::Secured;
use crate::world::World;

const SIZE: usize = 8;
/// So many accepted calls of each process show that it has a new token.
const CALLS: usize = 50;

struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    async fn start(number: usize, world: &World, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["process", &number.to_string(), &world.address.to_string()]).envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
        let mut process = Self { child, input, output };
        assert_eq!(process.line().await, "ready");
        process
    }

    async fn line(&mut self) -> String {
        self.output.next_line().await.unwrap().unwrap()
    }

    async fn send(&mut self, command: &str) {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    async fn token(&mut self) -> String {
        self.send("token").await;
        self.line().await
    }
}

struct Fleet {
    world: World,
    processes: Vec<(usize, Process)>,
}

impl Fleet {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let world = World::start().await;
        let processes = join_all((0..SIZE).map(|number| Process::start(number, &world, variables))).await;
        Self { world, processes: processes.into_iter().enumerate().collect() }
    }

    /// All processes get their first token at the same time: one token request.
    async fn cold_start(&mut self) {
        let tokens = join_all(self.processes.iter_mut().map(|(_, process)| process.token())).await;
        assert_eq!(tokens, vec!["token-1"; SIZE]);
        assert_eq!(self.world.requests(), 1);
    }

    /// A fleet in which each process sends 100 requests a second.
    async fn loaded(server: &Server) -> Self {
        let mut fleet = Self::start(&[("PROBE_URL", &server.url())]).await;
        fleet.cold_start().await;
        for (_, process) in &mut fleet.processes {
            process.send("load").await;
        }
        fleet.served().await;
        fleet
    }

    /// Returns when each process has a token that the API accepts.
    async fn served(&self) {
        let numbers: Vec<usize> = self.processes.iter().map(|(number, _)| *number).collect();
        self.world.accepted(&numbers, CALLS).await;
    }

    /// Ends the load. No call has failed.
    async fn stop(mut self) {
        for (_, process) in &mut self.processes {
            process.send("stop").await;
        }
        for (_, process) in &mut self.processes {
            assert_eq!(process.line().await, "0 ");
        }
    }
}

// R86
pub(crate) async fn a_cold_start_makes_one_token_request() {
    let server = Server::start(&[]);
    let mut fleet = Fleet::start(&[("PROBE_URL", &server.url())]).await;
    fleet.cold_start().await;
    // R96: what the store has contains no secret and no identity.
    let keys = server.keys().await;
    assert_eq!(keys.len(), 1);
    let value: Vec<u8> = server.command(&["GET", &keys[0]]).await;
    for secret in ["token-1", "canary", "issuer.test"] {
        let contains = |text: &[u8]| text.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!contains(&value) && !contains(keys[0].as_bytes()), "{secret}");
    }
}

pub(crate) async fn a_cold_start_with_tls_makes_one_token_request() {
    let server = Secured::start_with_rule();
    let (name, file) = server.trust();
    Fleet::start(&[("PROBE_URL", &server.valid_url()), (name, &file)]).await.cold_start().await;
}

pub(crate) async fn a_cold_start_on_a_cluster_makes_one_token_request() {
    let cluster = Cluster::start(&[]).await;
    Fleet::start(&[("PROBE_URL", &cluster.urls("")), ("PROBE_CLUSTER", "yes")]).await.cold_start().await;
}

// R87
pub(crate) async fn a_revocation_under_load_makes_one_token_request() {
    let server = Server::start(&[]);
    let fleet = Fleet::loaded(&server).await;
    for revocations in 1..=3 {
        fleet.world.revoke();
        fleet.served().await;
        assert_eq!(fleet.world.requests(), 1 + revocations);
    }
    fleet.stop().await;
}

// R88
pub(crate) async fn a_holder_that_is_killed_fails_no_call_of_the_others() {
    let server = Server::start(&[]);
    let mut fleet = Fleet::loaded(&server).await;
    fleet.world.revoke();
    let holder = fleet.world.hold(2).await;
    let at = fleet.processes.iter().position(|(number, _)| *number == holder).unwrap();
    let (_, mut process) = fleet.processes.remove(at);
    process.child.kill().await.unwrap();
    fleet.world.release();
    fleet.served().await;
    assert_eq!(fleet.world.requests(), 3, "the killed one, and one more");
    fleet.stop().await;
}

/// A revocation while the store has a fault. No call fails, and no process makes more token requests than without a store.
async fn survives(fleet: Fleet) {
    let before = fleet.world.requests();
    fleet.world.revoke();
    fleet.served().await;
    let requests = fleet.world.requests() - before;
    assert!((1..=SIZE).contains(&requests), "{requests}");
    fleet.stop().await;
}

// R89
pub(crate) async fn a_stopped_store_fails_no_call() {
    let server = Server::start(&[]);
    let fleet = Fleet::loaded(&server).await;
    server.freeze();
    survives(fleet).await;
    server.resume();
}

// R89
pub(crate) async fn a_killed_store_fails_no_call() {
    let mut server = Server::start(&[]);
    let fleet = Fleet::loaded(&server).await;
    server.kill();
    survives(fleet).await;
}

// R89: the retry on a new connection makes it one token request, and not one for each process.
pub(crate) async fn a_store_that_restarts_empty_costs_one_token_request() {
    let mut server = Server::start(&[]);
    let fleet = Fleet::loaded(&server).await;
    server.kill();
    server.restart();
    fleet.world.revoke();
    fleet.served().await;
    assert_eq!(fleet.world.requests(), 2);
    fleet.stop().await;
}

// R89
pub(crate) async fn a_full_store_fails_no_call() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let fleet = Fleet::loaded(&server).await;
    let () = server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    survives(fleet).await;
}

// R89
pub(crate) async fn a_store_that_evicts_fails_no_call() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-random"]);
    let fleet = Fleet::loaded(&server).await;
    let mut admin = server.admin().await;
    let used = info(&mut admin, "used_memory").await;
    let () = server.command(&["CONFIG", "SET", "maxmemory", &(used + 100_000).to_string()]).await;
    let filler = tokio::spawn(async move {
        for number in 0.. {
            let value = "x".repeat(5000);
            let _: Result<(), _> = redis::cmd("SET").arg(number % 1000).arg(value).query_async(&mut admin).await;
        }
    });
    // The record is gone.
    while server
        .command::<i64>(&[
            "EXISTS",
            &server.keys().await.into_iter().find(|key| key.ends_with(":t")).unwrap_or_default(),
        ])
        .await
        == 1
    {}
    survives(fleet).await;
    filler.abort();
}

// R95: without a shared failure, the eight processes would call the issuer eight times a second.
pub(crate) async fn an_issuer_that_is_down_is_called_once_a_second() {
    let server = Server::start(&[]);
    let mut fleet = Fleet::start(&[("PROBE_URL", &server.url())]).await;
    fleet.world.set_down(true);
    let began = Instant::now();
    for (_, process) in &mut fleet.processes {
        process.send("load").await;
    }
    // For 60 s: a failure is shared for 1 s, and a token request takes 0.2 s.
    fleet.world.requested(51).await;
    assert!(began.elapsed() >= Duration::from_secs(50), "{:?}", began.elapsed());
    fleet.world.set_down(false);
    fleet.served().await;
}
