//! A cluster of three nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tower_bearer_auth::shared::{Claim, Outcome, TokenStore as _, contract};
use tower_bearer_auth::{Error, Secret, SecretValue};
use tower_bearer_auth_redis::RedisStore;

use crate::faults::{self, NAME};
use crate::probe;
use crate::server::{Server, free_port};
use crate::tls::RULE;

const TTL: Duration = Duration::from_secs(60);
const A: [u8; 16] = [1; 16];
const B: [u8; 16] = [2; 16];
/// What `Shared` allows for a call.
const LIMIT: Duration = Duration::from_millis(500);
/// Fewer new connections than this are allowed: on a busy machine, a check can time out although the nodes respond.
const FEW: u64 = 5;
/// The slots of the three nodes.
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

pub(crate) struct Cluster(Vec<Server>);

impl Cluster {
    pub(crate) async fn start(options: &[&str]) -> Self {
        let nodes: Vec<Server> = SLOTS.iter().map(|_| node(options)).collect();
        for (node, (first, last)) in nodes.iter().zip(SLOTS) {
            let () = node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            let (port, bus) = (nodes[0].port.to_string(), nodes[0].option("--cluster-port"));
            let () = node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
        let cluster = Self(nodes);
        cluster.converged().await;
        cluster
    }

    /// A cluster with the user `orders`, who has the documented permissions.
    async fn start_with_rule() -> Self {
        let mut options = vec!["--user", "orders", "on", ">secret"];
        options.extend(RULE);
        options.push("+cluster|slots");
        Self::start(&options).await
    }

    /// Returns when each node knows the others and serves its slots.
    async fn converged(&self) {
        for node in &self.0 {
            loop {
                let info: String = node.command(&["CLUSTER", "INFO"]).await;
                if info.contains("cluster_state:ok") && info.contains("cluster_size:3") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    pub(crate) fn urls(&self, user: &str) -> String {
        let urls: Vec<String> = self.0.iter().map(|node| node.url().replace("//", &format!("//{user}"))).collect();
        urls.join(",")
    }

    pub(crate) fn store(&self) -> RedisStore {
        RedisStore::builder(self.urls("")).cluster().build().unwrap()
    }

    /// The index of the node that has the record of `name`.
    async fn node_of(&self, name: &str) -> usize {
        let slot: u16 = self.0[0].command(&["CLUSTER", "KEYSLOT", &format!("tba:{{{name}}}:t")]).await;
        SLOTS.iter().position(|(first, last)| (first..=last).contains(&&slot)).unwrap()
    }

    /// A name whose record is on that node.
    async fn name_on(&self, node: usize) -> String {
        for name in names() {
            if self.node_of(&name).await == node {
                return name;
            }
        }
        panic!("no name is on node {node}");
    }

    async fn id(&self, node: usize) -> String {
        self.0[node].command(&["CLUSTER", "MYID"]).await
    }
}

fn node(options: &[&str]) -> Server {
    let bus = free_port().to_string();
    let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1000"];
    let coverage = ["--cluster-require-full-coverage", "no"];
    Server::start(&[&cluster[..], &coverage, options].concat())
}

fn names() -> Vec<String> {
    (0..60).map(|number| format!("{number:043}")).collect()
}

async fn leases(store: &RedisStore, names: &[String], owner: [u8; 16]) -> usize {
    let claims = join_all(names.iter().map(|name| store.claim(name, &owner, TTL, None))).await;
    claims.into_iter().filter(|claim| matches!(claim, Ok(Claim::Lease))).count()
}

pub(crate) async fn the_contract_holds() {
    let cluster = Cluster::start(&[]).await;
    contract::run(&cluster.store()).await.unwrap();
}

pub(crate) async fn a_user_with_the_documented_rule_passes_the_contract() {
    let cluster = Cluster::start_with_rule().await;
    let urls = cluster.urls("orders:secret@");
    probe::run("contract", &[("PROBE_URL", &urls), ("PROBE_CLUSTER", "yes")]).await.unwrap();
}

pub(crate) async fn the_names_are_spread_over_the_nodes() {
    let cluster = Cluster::start(&[]).await;
    // One node is enough to find the others.
    let store = RedisStore::builder(cluster.0[1].url()).cluster().build().unwrap();
    let names = names();
    assert_eq!(leases(&store, &names, A).await, names.len());
    assert_eq!(leases(&store, &names, B).await, 0);
    let mut nodes = BTreeSet::new();
    for name in &names {
        nodes.insert(cluster.node_of(name).await);
    }
    assert_eq!(nodes.len(), 3);
    for node in &cluster.0 {
        assert!(!node.keys().await.is_empty());
    }
}

pub(crate) async fn a_slot_that_moves_fails_no_call() {
    let cluster = Cluster::start(&[]).await;
    let store = cluster.store();
    assert_eq!(store.claim(NAME, &A, TTL, None).await.unwrap(), Claim::Lease);
    let from = cluster.node_of(NAME).await;
    let to = (from + 1) % 3;
    let slot: u16 = cluster.0[0].command(&["CLUSTER", "KEYSLOT", NAME]).await;
    let (slot, id) = (slot.to_string(), cluster.id(to).await);
    // The keys stay behind, which is as if they were lost.
    let () = cluster.0[from].command(&["DEL", &format!("tba:{{{NAME}}}:l")]).await;
    for node in [to, from, (to + 1) % 3] {
        let () = cluster.0[node].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await;
    }
    assert_eq!(store.claim(NAME, &B, TTL, None).await.unwrap(), Claim::Lease);
    assert_eq!(cluster.0[to].keys().await.len(), 1);
}

// R89
pub(crate) async fn a_node_that_stops_delays_its_names_only() {
    let cluster = Cluster::start(&[]).await;
    let store = cluster.store();
    let names = names();
    assert_eq!(leases(&store, &names, A).await, names.len());
    let mut served = Vec::new();
    for name in &names {
        if cluster.node_of(name).await != 0 {
            served.push(name.clone());
        }
    }
    cluster.0[0].freeze();
    for _ in 0..5 {
        let all = tokio::time::timeout(Duration::from_millis(500), leases(&store, &names, A)).await;
        assert!(all.is_err() || all == Ok(served.len()));
        let some = tokio::time::timeout(Duration::from_millis(500), leases(&store, &served, A)).await;
        assert_eq!(some, Ok(served.len()));
    }
    cluster.0[0].resume();
    cluster.converged().await;
    assert_eq!(leases(&store, &names, A).await, names.len());
}

// R89: a process that starts while a node hangs.
pub(crate) async fn a_node_that_stops_delays_no_new_connection() {
    let cluster = Cluster::start(&[]).await;
    let mut served = Vec::new();
    for name in names() {
        if cluster.node_of(&name).await != 0 {
            served.push(name);
        }
    }
    cluster.0[0].freeze();
    for name in served.iter().take(10) {
        let store = cluster.store();
        let claim = tokio::time::timeout(Duration::from_millis(500), store.claim(name, &A, TTL, None)).await;
        assert_eq!(claim.unwrap().unwrap(), Claim::Lease);
    }
    cluster.0[0].resume();
}

// R89
pub(crate) async fn the_end_of_the_runtime_fails_no_call() {
    let cluster = Cluster::start(&[]).await;
    faults::survives_runtimes(cluster.store()).await;
}

/// Returns when `owner` has all leases.
///
/// After all nodes have failed, the client can wait for itself without end. The calls of that moment are dropped, as
/// [`Shared`](tower_bearer_auth::shared::Shared) does it, and the next ones use another connection.
async fn recovers(store: &RedisStore, names: &[String], owner: [u8; 16]) {
    for _ in 0..10 {
        if tokio::time::timeout(LIMIT, leases(store, names, owner)).await == Ok(names.len()) {
            return;
        }
    }
    panic!("the store does not respond again");
}

// R89
pub(crate) async fn nodes_that_restart_empty_are_used_again() {
    let mut cluster = Cluster::start(&[]).await;
    let store = cluster.store();
    let names = names();
    assert_eq!(leases(&store, &names, A).await, names.len());
    cluster.0[2].kill();
    cluster.0[2].restart();
    cluster.converged().await;
    recovers(&store, &names, A).await;
    for owner in 2..6 {
        for node in &mut cluster.0 {
            node.kill();
        }
        for node in &mut cluster.0 {
            node.restart();
        }
        cluster.converged().await;
        recovers(&store, &names, [owner; 16]).await;
    }
    assert!(store.publish(&names[0], &[5; 16], Outcome::Nothing).await.unwrap());
}

/// Starts a call, and drops it without a response.
fn drop_early(store: &RedisStore, name: &str) {
    assert!(store.claim(name, &A, TTL, None).now_or_never().is_none());
}

// R89: a fetch that is cancelled drops its call early. The user has the documented permissions.
pub(crate) async fn calls_that_are_dropped_early_keep_the_connection() {
    let cluster = Cluster::start_with_rule().await;
    let store = RedisStore::builder(cluster.urls("orders:secret@")).cluster().build().unwrap();
    assert_eq!(store.claim(NAME, &A, TTL, None).await.unwrap(), Claim::Lease);
    let mut admin = cluster.0[1].admin().await;
    let before = cluster.0[1].connections(&mut admin).await;
    for _ in 0..20 {
        drop_early(&store, NAME);
        assert_eq!(store.claim(NAME, &A, TTL, None).await.unwrap(), Claim::Lease);
    }
    let new = cluster.0[1].connections(&mut admin).await - before;
    assert!(new < FEW, "{new} new connections");
}

// R89: the calls of its names are dropped, and the others complete.
pub(crate) async fn a_node_that_stops_costs_the_other_names_no_new_connection() {
    let cluster = Cluster::start(&[]).await;
    let store = cluster.store();
    let (hung, served) = (cluster.name_on(0).await, cluster.name_on(2).await);
    for name in [&hung, &served] {
        assert_eq!(store.claim(name, &A, TTL, None).await.unwrap(), Claim::Lease);
    }
    let mut admin = cluster.0[1].admin().await;
    let before = cluster.0[1].connections(&mut admin).await;
    cluster.0[0].freeze();
    for _ in 0..20 {
        drop_early(&store, &hung);
        let claim = tokio::time::timeout(LIMIT, store.claim(&served, &A, TTL, None)).await;
        assert_eq!(claim.unwrap().unwrap(), Claim::Lease);
    }
    cluster.0[0].resume();
    let new = cluster.0[1].connections(&mut admin).await - before;
    assert!(new < FEW, "{new} new connections");
}

// R89: the only node in the URL is killed, so a new connection cannot be made. The other nodes serve their names.
pub(crate) async fn the_loss_of_the_only_node_in_the_url_fails_no_call_of_the_others() {
    let mut cluster = Cluster::start(&[]).await;
    let store = RedisStore::builder(cluster.0[0].url()).cluster().build().unwrap();
    let name = [cluster.name_on(2).await];
    recovers(&store, &name, A).await;
    cluster.0[0].kill();
    recovers(&store, &name, A).await;
    for _ in 0..3 {
        drop_early(&store, &name[0]);
        assert_eq!(store.claim(&name[0], &A, TTL, None).await.unwrap(), Claim::Lease);
    }
}

// R89: the whole cluster hangs, a new connection fails, and then the cluster continues.
pub(crate) async fn a_new_connection_that_fails_leaves_the_old_one() {
    let cluster = Arc::new(Cluster::start(&[]).await);
    let is_frozen = Arc::new(AtomicBool::new(false));
    let (nodes, frozen, urls) = (Arc::clone(&cluster), Arc::clone(&is_frozen), cluster.urls(""));
    let url = Secret::from_fn(move || {
        if frozen.load(Ordering::SeqCst) {
            nodes.0.iter().for_each(Server::resume);
            return Err(Error::transient("the URL cannot be loaded"));
        }
        Ok(SecretValue::from(urls.clone()))
    });
    let store = RedisStore::builder(url).cluster().build().unwrap();
    assert_eq!(store.claim(NAME, &A, TTL, None).await.unwrap(), Claim::Lease);
    cluster.0.iter().for_each(Server::freeze);
    is_frozen.store(true, Ordering::SeqCst);
    drop_early(&store, NAME);
    assert_eq!(store.claim(NAME, &A, TTL, None).await.unwrap(), Claim::Lease);
}

// R89: the cluster hangs for good, and the URL names another one. Only a new connection finds it.
pub(crate) async fn a_cluster_that_hangs_is_left_for_the_one_that_the_url_names() {
    let (old, new) = (Cluster::start(&[]).await, Cluster::start(&[]).await);
    let is_moved = Arc::new(AtomicBool::new(false));
    let (moved, urls) = (Arc::clone(&is_moved), [old.urls(""), new.urls("")]);
    let url = Secret::from_fn(move || Ok(SecretValue::from(urls[usize::from(moved.load(Ordering::SeqCst))].clone())));
    let store = RedisStore::builder(url).cluster().build().unwrap();
    let name = [NAME.to_owned()];
    assert_eq!(leases(&store, &name, A).await, 1);
    old.0.iter().for_each(Server::freeze);
    is_moved.store(true, Ordering::SeqCst);
    tokio::time::timeout(LIMIT, leases(&store, &name, B)).await.unwrap_err();
    recovers(&store, &name, B).await;
    let mut keys = Vec::new();
    for node in &new.0 {
        keys.extend(node.keys().await);
    }
    assert_eq!(keys, [format!("tba:{{{NAME}}}:l")]);
}
