//! What each crate must do, and the list of crates.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;

use crate::batch::Way;
use crate::issuer::Issuer;
use crate::peers;
use crate::wire::BoxError;

/// One crate with one issuer. It is set up as its documentation says, with its defaults.
#[async_trait]
pub trait Peer: Send + Sync {
    /// Returns a token. Waits for one if none is cached.
    async fn token(&self) -> Result<String, BoxError>;

    /// Sends a request to the API, and does what the crate does after a rejection.
    async fn send(&self) -> Result<StatusCode, BoxError>;

    /// The ways to read the cached token, if the crate returns it, and to stamp a request with this many headers.
    fn cached(&self, headers: usize) -> Cached;
}

pub struct Cached {
    pub read: Option<Way>,
    /// The first way is the most similar to this crate's layer.
    pub stamped: Vec<Way>,
}

/// What a crate does when the API rejects its token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rejections {
    /// It fetches a new token and replays the request.
    Replays,
    /// Its user reports the rejection and replays the request. The code for this is here, with one replay for each request.
    ReplayedByUser,
    /// It ignores the rejection.
    Ignores,
}

impl Rejections {
    /// The note in a cell of the table.
    pub fn note(self) -> &'static str {
        match self {
            Self::Replays => "",
            Self::ReplayedByUser => ", replayed by its user",
            Self::Ignores => ", no 401 handling",
        }
    }
}

#[derive(Clone, Copy)]
pub struct Kind {
    /// The name on crates.io.
    pub name: &'static str,
    pub rejections: Rejections,
    /// Whether it makes token requests. If not, only the costs of a cached token are measured.
    pub fetches: bool,
    /// Called inside a runtime.
    pub build: fn(&Issuer) -> Arc<dyn Peer>,
}

pub const ALL: &[Kind] = &[
    Kind { name: "tower-bearer-auth", rejections: Rejections::Replays, fetches: true, build: peers::ours::build },
    Kind {
        name: "cf-gears-toolkit-auth",
        rejections: Rejections::Replays,
        fetches: true,
        build: peers::cf_gears::build,
    },
    Kind {
        name: "google-cloud-auth",
        rejections: Rejections::Ignores,
        fetches: true,
        build: peers::google_cloud_auth::build,
    },
    Kind {
        name: "a2a-protocol-client",
        rejections: Rejections::ReplayedByUser,
        fetches: true,
        build: peers::a2a::build,
    },
    Kind { name: "huskarl", rejections: Rejections::ReplayedByUser, fetches: true, build: peers::huskarl::build },
    Kind { name: "azure_core", rejections: Rejections::Replays, fetches: true, build: peers::azure::build },
    Kind { name: "aws-smithy-runtime", rejections: Rejections::Ignores, fetches: true, build: peers::aws::build },
    Kind { name: "gcp_auth", rejections: Rejections::Ignores, fetches: true, build: peers::gcp_auth::build },
    Kind { name: "object_store", rejections: Rejections::Ignores, fetches: true, build: peers::object_store::build },
    Kind { name: "kube-client", rejections: Rejections::Ignores, fetches: false, build: peers::kube::build },
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
