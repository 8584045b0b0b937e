//! The store on real servers.
//!
//! `servers one` runs the contract on one server. `servers all` runs everything. `tests/run` starts both.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster;
mod contract;
mod faults;
mod fleet;
mod probe;
mod process;
mod records;
mod server;
mod tls;
mod world;

use std::future::Future;
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::time::Instant;

type Run = fn() -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A case, and whether the gate runs it too.
struct Case {
    name: &'static str,
    in_gate: bool,
    run: Run,
}

macro_rules! cases {
    ($($kind:ident: $module:ident::$name:ident,)*) => {
        &[$(Case {
            name: concat!(stringify!($module), "::", stringify!($name)),
            in_gate: stringify!($kind).as_bytes()[0] == b'g',
            run: || Box::pin($module::$name()),
        },)*]
    };
}

const CASES: &[Case] = cases! {
    gate: contract::one_server,
    gate: faults::invalid_records_count_as_missing,
    gate: faults::times_that_redis_cannot_keep_are_limited,
    gate: faults::calls_that_are_dropped_mix_up_no_responses,
    gate: faults::first_calls_share_one_connection,
    gate: faults::claims_of_many_processes_give_one_lease,
    gate: faults::a_closed_connection_fails_no_call,
    gate: faults::a_server_that_restarts_empty_fails_no_call,
    gate: faults::a_stopped_server_keeps_its_connection_and_carries_out_the_claim,
    gate: faults::a_server_that_becomes_a_replica_is_left,
    gate: faults::the_end_of_the_runtime_fails_no_call,
    gate: faults::a_full_server_fails_claims_and_still_returns_tokens,
    gate: faults::an_evicted_token_is_missing,
    gate: records::all_processes_compute_the_same_end_of_a_token,
    gate: records::no_two_identities_share_a_record,
    gate: records::a_record_that_was_changed_or_moved_does_not_open,
    gate: records::a_record_of_another_key_opens_only_where_the_key_is_accepted,
    gate: records::an_older_record_is_taken_and_lives_no_longer_than_it_was_sealed_for,
    gate: records::processes_with_another_secret_share_nothing,
    gate: records::a_store_that_fails_or_hangs_is_a_miss,
    full: tls::a_user_with_the_documented_rule_passes_the_contract,
    full: tls::each_permission_of_the_rule_is_needed,
    full: tls::a_user_without_permission_is_an_error_that_says_so,
    full: tls::a_wrong_password_is_an_error_without_it,
    full: tls::a_certificate_of_an_unknown_authority_is_not_trusted,
    full: tls::the_url_can_be_in_a_file,
    full: cluster::the_contract_holds,
    full: cluster::a_user_with_the_documented_rule_passes_the_contract,
    full: cluster::the_names_are_spread_over_the_nodes,
    full: cluster::a_slot_that_moves_fails_no_call,
    full: cluster::a_node_that_stops_delays_its_names_only,
    full: cluster::a_node_that_stops_delays_no_new_connection,
    full: cluster::the_end_of_the_runtime_fails_no_call,
    full: cluster::nodes_that_restart_empty_are_used_again,
    full: cluster::calls_that_are_dropped_early_keep_the_connection,
    full: cluster::a_node_that_stops_costs_the_other_names_no_new_connection,
    full: cluster::the_loss_of_the_only_node_in_the_url_fails_no_call_of_the_others,
    full: cluster::a_new_connection_that_fails_leaves_the_old_one,
    full: cluster::a_cluster_that_hangs_is_left_for_the_one_that_the_url_names,
    full: fleet::a_cold_start_makes_one_token_request,
    full: fleet::a_cold_start_with_tls_makes_one_token_request,
    full: fleet::a_cold_start_on_a_cluster_makes_one_token_request,
    full: fleet::a_revocation_under_load_makes_one_token_request,
    full: fleet::a_holder_that_is_killed_fails_no_call_of_the_others,
    full: fleet::a_stopped_store_fails_no_call,
    full: fleet::a_killed_store_fails_no_call,
    full: fleet::a_store_that_restarts_empty_costs_one_token_request,
    full: fleet::a_full_store_fails_no_call,
    full: fleet::a_store_that_evicts_fails_no_call,
    full: fleet::an_issuer_that_is_down_is_called_once_a_second,
};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    rustls::crypto::ring::default_provider().install_default().unwrap();
    // This program starts itself for what needs a process.
    let child = match &words[..] {
        ["probe", name] => Some(runtime.block_on(probe::main(name))),
        ["process", number, world] => {
            Some(runtime.block_on(process::main(number, world)).map_err(|error| error.to_string()))
        }
        _ => None,
    };
    match child {
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(error)) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
        None => {}
    }
    let only_gate = match &words[..] {
        ["one"] => true,
        [] | ["all"] => false,
        _ => {
            eprintln!("usage: servers [one | all]");
            return ExitCode::from(2);
        }
    };
    let filter = std::env::var("CASES").unwrap_or_default();
    println!("{}", version());
    let (mut passed, mut failed) = (0, Vec::new());
    for case in CASES.iter().filter(|case| (case.in_gate || !only_gate) && case.name.contains(&filter)) {
        let began = Instant::now();
        let ok = runtime.block_on(async { tokio::spawn((case.run)()).await.is_ok() });
        println!("{} {} {} ms", if ok { "ok    " } else { "FAILED" }, case.name, began.elapsed().as_millis());
        if ok { passed += 1 } else { failed.push(case.name) }
    }
    for name in &failed {
        println!("failed: {name}");
    }
    // tests/run compares the first number with its floor.
    println!("cases: {passed} passed, {} failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn version() -> String {
    let output = Command::new("redis-server").arg("--version").output().expect("redis-server is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(" sha=").next().unwrap_or(&text).trim().to_owned()
}
