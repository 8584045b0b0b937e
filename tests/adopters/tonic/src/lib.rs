//! Client of the ledger's gRPC API.
//!
//! [`Ledger::from_env`] reads the production settings:
//!
//! | variable | |
//! | --- | --- |
//! | `LEDGER_URL` | origin of the API, `https://host` or `https://host:port` |
//! | `LEDGER_DEADLINE_MS` | deadline of each call in milliseconds; default: 3000 |
//! | `OAUTH_TOKEN_URL`, `OAUTH_CLIENT_ID`, `OAUTH_CLIENT_SECRET`, ... | as in `ClientCredentialsBuilder::from_env` |

mod error;

pub use error::{Error, http_status};

use std::env::{self, VarError};
use std::time::Duration;

use tonic::Request;
use tonic::body::Body;
use tonic::transport::{Channel, ClientTlsConfig};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceBuilder;
use tower_bearer_auth::grpc::tonic_0_14::{StatusLayer, StatusService};
use tower_bearer_auth::grpc::{self, GrpcService};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{BearerAuthLayer, ClientCredentials, OnForeignOrigin, TokenSource};

/// Request messages up to this size are kept, so that a call whose token is rejected can be replayed.
const REPLAY_LIMIT: usize = 64 * 1024;

const DEFAULT_DEADLINE: Duration = Duration::from_secs(3);

type Bodies = Buffered<fn(ReplayBody<Body>) -> Body>;
type Stack = StatusService<GrpcService<Channel, ClientCredentials, Bodies>>;

/// Calls the ledger with a bearer token. Clones share the connection and the token.
#[derive(Clone, Debug)]
pub struct Ledger {
    health: HealthClient<Stack>,
    tokens: TokenSource<ClientCredentials>,
    deadline: Duration,
}

impl Ledger {
    /// Reads the settings from the environment. Does no I/O except for `NAME_FILE` variables; needs a tokio runtime.
    pub fn from_env() -> Result<Self, Error> {
        let url = env::var("LEDGER_URL").map_err(|_| Error::Setting("LEDGER_URL"))?;
        let deadline = match env::var("LEDGER_DEADLINE_MS") {
            Ok(text) => Duration::from_millis(
                text.parse()
                    .map_err(|_| Error::Setting("LEDGER_DEADLINE_MS"))?,
            ),
            Err(VarError::NotPresent) => DEFAULT_DEADLINE,
            Err(VarError::NotUnicode(_)) => return Err(Error::Setting("LEDGER_DEADLINE_MS")),
        };
        let provider = ClientCredentials::builder()
            .api_origin(&url)
            .from_env("OAUTH")?
            .build()?;
        Self::new(
            &url,
            provider,
            ClientTlsConfig::new().with_enabled_roots(),
            deadline,
        )
    }

    /// A client of the API at the origin `url`. Connects at the first call.
    pub fn new(
        url: &str,
        provider: ClientCredentials,
        tls: ClientTlsConfig,
        deadline: Duration,
    ) -> Result<Self, Error> {
        let endpoint =
            Channel::from_shared(url.to_owned()).map_err(|_| Error::Setting("LEDGER_URL"))?;
        let origin = endpoint.uri().clone();
        let channel = endpoint.tls_config(tls)?.connect_lazy();

        let auth = BearerAuthLayer::new(provider)
            .on_foreign_origin(OnForeignOrigin::Fail)
            .bodies(Bodies::new(REPLAY_LIMIT, Body::new));
        let tokens = auth.source().clone();
        let stack = ServiceBuilder::new()
            .layer(StatusLayer::new())
            .layer(grpc::layer(auth))
            .service(channel);
        Ok(Self {
            health: HealthClient::with_origin(stack, origin),
            tokens,
            deadline,
        })
    }

    /// The cache of tokens, for readiness probes and counters.
    pub fn tokens(&self) -> &TokenSource<ClientCredentials> {
        &self.tokens
    }

    /// The state of one of the ledger's services.
    pub async fn status(&self, service: &str) -> Result<ServingStatus, Error> {
        let mut request = Request::new(HealthCheckRequest {
            service: service.to_owned(),
        });
        request.set_timeout(self.deadline);
        let response = self.health.clone().check(request).await?;
        Ok(response.into_inner().status())
    }
}
