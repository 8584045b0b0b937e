//! A client of the health API, with OAuth 2.0 client credentials.

mod error;

use std::env;
use std::time::Duration;

use tonic::body::Body;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceBuilder;
use tower_bearer_auth::grpc::tonic_0_14::{StatusLayer, StatusService};
use tower_bearer_auth::grpc::{self, GrpcService};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{BearerAuthLayer, ClientCredentials, OnForeignOrigin};

pub use error::{CallError, SetupError};

/// The time for a call in production, with the wait for a token and a replay.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after the deadline a call whose response has begun may take.
const STALL_GRACE: Duration = Duration::from_millis(500);
/// The largest request that is sent again after its token was rejected.
const REPLAY_LIMIT: usize = 64 * 1024;

type Bodies = Buffered<fn(ReplayBody<Body>) -> Body>;
type Authorized = StatusService<GrpcService<Channel, ClientCredentials, Bodies>>;

/// A client of the health API. Clones share the connection and the token.
#[derive(Clone)]
pub struct Health {
    client: HealthClient<InterceptedService<Authorized, Deadline>>,
    timeout: Duration,
}

impl Health {
    /// Reads `API_ORIGIN`, `OAUTH_TOKEN_URL`, `OAUTH_CLIENT_ID`, `OAUTH_CLIENT_SECRET` and the optional settings of
    /// [`ClientCredentials`].
    pub fn from_env() -> Result<Self, SetupError> {
        let origin = env::var("API_ORIGIN").map_err(SetupError::Origin)?;
        let credentials = ClientCredentials::builder()
            .api_origin(&origin)
            .from_env("OAUTH")?
            .build()?;
        Self::new(
            &origin,
            credentials,
            ClientTlsConfig::new().with_enabled_roots(),
            CALL_TIMEOUT,
        )
    }

    /// Connects at the first call. `credentials` must allow `origin`. `timeout` limits each call.
    pub fn new(
        origin: &str,
        credentials: ClientCredentials,
        tls: ClientTlsConfig,
        timeout: Duration,
    ) -> Result<Self, SetupError> {
        let channel = Channel::from_shared(origin.to_owned())?
            .tls_config(tls)?
            .connect_lazy();
        let auth = BearerAuthLayer::new(credentials)
            .on_foreign_origin(OnForeignOrigin::Fail)
            .bodies(Bodies::new(REPLAY_LIMIT, Body::new));
        let authorized = ServiceBuilder::new()
            .layer(StatusLayer::new())
            .layer(grpc::layer(auth))
            .service(channel);
        // Above the authorization, so that the deadline includes the wait for a token.
        let service = InterceptedService::new(authorized, Deadline(timeout));
        Ok(Self {
            client: HealthClient::with_origin(service, origin.parse()?),
            timeout,
        })
    }

    /// Whether `service` is serving.
    pub async fn is_serving(&self, service: &str) -> Result<bool, CallError> {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let response = self
            .limit(self.client.clone().check(request))
            .await?
            .into_inner();
        Ok(response.status() == ServingStatus::Serving)
    }

    /// Ends a call whose response stalls: tonic's deadline ends with the head of the response. The limit is later than the
    /// deadline, because an error at the deadline says whether the call was sent.
    async fn limit<T>(
        &self,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(self.timeout + STALL_GRACE, call).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(CallError::Failed(Status::deadline_exceeded(
                "the response stalled",
            ))),
        }
    }
}

/// Sets the deadline of calls that have none.
#[derive(Clone)]
struct Deadline(Duration);

impl Interceptor for Deadline {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !request.metadata().contains_key("grpc-timeout") {
            request.set_timeout(self.0);
        }
        Ok(request)
    }
}
