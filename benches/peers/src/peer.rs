//! What is asked of each crate, and the list of them.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;

use crate::batch::Way;
use crate::issuer::Issuer;
use crate::peers;
use crate::wire::BoxError;

/// One crate, set up as its documentation says, with its defaults, against one issuer.
#[async_trait]
pub trait Peer: Send + Sync {
    /// What a caller has to send: waits for a token where there is none.
    async fn token(&self) -> Result<String, BoxError>;

    /// Sends a request to the API. What the crate does about a refusal it does here.
    async fn send(&self) -> Result<StatusCode, BoxError>;

    /// The ways to read the token out of the cache, if the crate hands it out, and to put it on a request.
    fn cached(&self) -> Cached;
}

pub struct Cached {
    pub read: Option<Way>,
    /// The first is the one that does what this crate's layer does, or comes nearest to it.
    pub stamped: Vec<Way>,
}

/// What a crate does when the API refuses its token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rejections {
    /// It asks anew and sends again.
    Heals,
    /// It can be told that a token was bad. Sending again is written here, once for each request.
    Told,
    Nothing,
}

impl Rejections {
    /// What a cell of the table says of it.
    pub fn note(self) -> &'static str {
        match self {
            Self::Heals => "",
            Self::Told => ", resent by its user",
            Self::Nothing => ", no 401 handling",
        }
    }
}

#[derive(Clone, Copy)]
pub struct Kind {
    /// As on crates.io.
    pub name: &'static str,
    pub refusals: Rejections,
    /// Is called inside a runtime.
    pub build: fn(&Issuer) -> Arc<dyn Peer>,
}

pub const ALL: &[Kind] = &[
    Kind { name: "tower-bearer-auth", refusals: Rejections::Heals, build: peers::ours::build },
    Kind { name: "cf-gears-toolkit-auth", refusals: Rejections::Heals, build: peers::cf_gears::build },
    Kind { name: "google-cloud-auth", refusals: Rejections::Nothing, build: peers::google_cloud_auth::build },
    Kind { name: "a2a-protocol-client", refusals: Rejections::Told, build: peers::a2a::build },
    Kind { name: "huskarl", refusals: Rejections::Told, build: peers::huskarl::build },
    Kind { name: "azure_core", refusals: Rejections::Heals, build: peers::azure::build },
    Kind { name: "aws-smithy-runtime", refusals: Rejections::Nothing, build: peers::aws::build },
    Kind { name: "gcp_auth", refusals: Rejections::Nothing, build: peers::gcp_auth::build },
];

impl Kind {
    pub fn ours(self) -> bool {
        self.name == ALL[0].name
    }

    /// The version in the lock file.
    pub fn version(self) -> &'static str {
        let entry = format!("name = \"{}\"\nversion = \"", self.name);
        let lock = include_str!("../Cargo.lock");
        let found = lock.find(&entry).expect("the lock file names every peer");
        lock[found + entry.len()..].split('"').next().expect("a version")
    }
}
