//! Runs `tower-bearer-auth` against servers that others wrote. `tests/interop/run` starts them.
//!
//!     interop certificates DIRECTORY
//!     interop cases DIRECTORY FLOOR PAGE [--write]
//!     interop grpc DIRECTORY
//!
//! `cases` reads DIRECTORY/*.ready, which the servers write. It exits with 1 if a case fails, if there are fewer cases
//! than in FLOOR, or if PAGE does not contain the observed tables. `grpc` makes only the cases of the gRPC servers.

mod apache;
mod authlib;
mod certificates;
mod connections;
mod django;
mod encodings;
mod express;
mod faults;
mod glewlwyd;
mod grpc;
mod haproxy;
mod issuer;
mod node_oauth;
mod oidc;
mod plain;
mod protected;
mod proxies;
mod report;
mod suite;
mod tls;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use serde::Deserialize;

use crate::certificates::Certificates;
use crate::report::Report;
use crate::suite::{Check, Facts, Failure, fail};

/// The servers, and the secrets of their clients.
pub struct World {
    servers: BTreeMap<String, Facts>,
    secrets: Vec<(String, String)>,
    pub certificates: Certificates,
}

impl World {
    fn read(directory: &Path) -> Check<Self> {
        #[derive(Deserialize)]
        struct Clients {
            secrets: Vec<(String, String)>,
        }
        let mut servers = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "ready") {
                let facts: Facts = serde_json::from_str(&fs::read_to_string(path)?)?;
                servers.insert(facts.server.clone(), facts);
            }
        }
        let Clients { secrets } = serde_json::from_str(include_str!("../clients.json"))?;
        Ok(Self { servers, secrets, certificates: Certificates::read(directory)? })
    }

    pub fn server(&self, name: &str) -> Check<&Facts> {
        self.servers.get(name).ok_or_else(|| Failure(format!("{name} was not started")))
    }

    /// The secret of most clients.
    pub fn secret(&self) -> &str {
        self.unusual_secrets().find(|(name, _)| *name == "plain").map_or("", |(_, secret)| secret)
    }

    /// Secrets with unusual characters, with their names.
    pub fn unusual_secrets(&self) -> impl Iterator<Item = (&str, &str)> {
        self.secrets.iter().map(|(name, secret)| (name.as_str(), secret.as_str()))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["certificates", directory] => certificates::write(Path::new(directory)).map(|()| true),
        ["cases", directory, floor, page] => cases(directory, floor, page, false).await,
        ["cases", directory, floor, page, "--write"] => cases(directory, floor, page, true).await,
        ["grpc", directory] => grpc_cases(directory).await,
        _ => fail(
            "usage: interop certificates DIRECTORY | interop cases DIRECTORY FLOOR PAGE [--write] | interop grpc DIRECTORY",
        ),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure(why)) => {
            eprintln!("interop: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn cases(directory: &str, floor: &str, page: &str, write: bool) -> Check<bool> {
    let world = World::read(Path::new(directory))?;
    let mut report = Report::default();
    oidc::all(&world, &mut report).await?;
    tls::all(&world, &mut report).await?;
    django::all(&world, &mut report).await?;
    express::all(&world, &mut report).await?;
    faults::all(&world, &mut report).await?;
    glewlwyd::all(&world, &mut report).await?;
    node_oauth::all(&world, &mut report).await?;
    authlib::all(&world, &mut report).await?;
    haproxy::all(&world, &mut report).await?;
    apache::all(&world, &mut report).await?;
    proxies::all(&world, &mut report).await?;
    grpc::all(&world, &mut report).await?;
    report.finish(Path::new(floor), Path::new(page), write)
}

async fn grpc_cases(directory: &str) -> Check<bool> {
    let world = World::read(Path::new(directory))?;
    let mut report = Report::default();
    grpc::all(&world, &mut report).await?;
    Ok(report.finish_part())
}
