//! gRPC with tonic's channel and health service. There is no gRPC over HTTP/1.1.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Server};
use tonic_health::ServingStatus::NotServing;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::{HealthReporter, health_reporter};
use tower::layer::layer_fn;
use tower::{Layer as _, Service};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{BearerAuth, ClientCredentials};

use super::*;

/// Checks and records the calls of the server, and can hold them.
struct Door {
    sandbox: AccessPspSandbox,
    calls: Mutex<Vec<(Version, Verdict)>>,
    open: watch::Sender<bool>,
    held: watch::Sender<usize>,
}

impl Door {
    fn counted(&self) -> (usize, usize) {
        (self.sandbox.token_request_count(), self.calls.lock().len())
    }

    fn judged(&self, verdict: Verdict) -> usize {
        self.calls.lock().iter().filter(|(_, judged)| *judged == verdict).count()
    }
}

/// A service that lets a call in only if the door is open and accepts the token.
#[derive(Clone)]
struct Guarded<S> {
    inner: S,
    door: Arc<Door>,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let clone = self.inner.clone();
        let (mut inner, door) = (std::mem::replace(&mut self.inner, clone), Arc::clone(&self.door));
        Box::pin(async move {
            door.held.send_modify(|held| *held += 1);
            let _ = door.open.subscribe().wait_for(|open| *open).await;
            door.held.send_modify(|held| *held -= 1);
            let verdict = door.sandbox.judge(request.headers());
            door.calls.lock().push((request.version(), verdict));
            match verdict.is_accepted() {
                true => inner.call(request).await,
                false => Ok(Status::unauthenticated("the token is not accepted").into_http()),
            }
        })
    }
}

type Stack = BearerAuth<Channel, ClientCredentials, Buffered<fn(ReplayBody<Body>) -> Body>>;

struct Grpc {
    door: Arc<Door>,
    reporter: HealthReporter,
    source: TokenSource<ClientCredentials>,
    clock: Ahead,
    client: HealthClient<Stack>,
}

impl Grpc {
    async fn set() -> Self {
        let sandbox = AccessPspSandbox::builder().token_lifetime(LIFETIME).start().await.unwrap();
        // TLS is not from tonic's server: that one needs a process default if two cryptography libraries are compiled
        // in.
        let tls = upstream::acceptor(&sandbox, Http::Two);
        let ca_pem = sandbox.ca_pem().to_owned();
        let (open, held) = (watch::Sender::new(true), watch::Sender::new(0));
        let door = Arc::new(Door { sandbox, calls: Mutex::default(), open, held });
        let (reporter, health) = health_reporter();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin: Uri = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let incoming = futures::stream::unfold((listener, tls), async |(listener, tls)| {
            let (stream, _) = listener.accept().await.unwrap();
            Some((tls.accept(stream).await, (listener, tls)))
        });
        let guard = Arc::clone(&door);
        let server = Server::builder()
            .layer(layer_fn(move |inner| Guarded { inner, door: Arc::clone(&guard) }))
            .add_service(health);
        tokio::spawn(server.serve_with_incoming(incoming));

        let clock = Ahead::default();
        let provider = ClientCredentials::builder()
            .client_id(door.sandbox.client_id())
            .client_secret(door.sandbox.client_secret())
            .token_url(door.sandbox.token_url())
            .api_origin(origin.to_string())
            .http_client(HttpClient::builder().roots_pem(&ca_pem).build().unwrap())
            .build()
            .unwrap();
        let source = TokenSource::builder(provider).clock(clock.clone()).build();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
        let channel = Channel::builder(origin.clone()).tls_config(tls).unwrap().connect().await.unwrap();
        let wrap: fn(ReplayBody<Body>) -> Body = Body::new;
        let stack = source.layer().bodies(Buffered::new(1024, wrap)).layer(channel);
        let client = HealthClient::with_origin(stack, origin);
        Self { door, reporter, source, clock, client }
    }

    fn age(&self, by: Duration) {
        *self.clock.0.lock() += by;
        self.door.sandbox.advance(by);
    }

    /// `CALLS` concurrent calls of `check`, or of `watch` until its first message.
    fn burst(&self, streaming: bool) -> impl Future<Output = ()> + use<> {
        let call = || {
            let mut client = self.client.clone();
            let request = HealthCheckRequest::default();
            is_sent(async move {
                match streaming {
                    false => client.check(request).await.unwrap().into_inner(),
                    true => client.watch(request).await.unwrap().into_inner().message().await.unwrap().unwrap(),
                }
            })
        };
        let calls: Vec<_> = (0..CALLS).map(|_| tokio::spawn(call())).collect();
        async move {
            for call in calls {
                assert_eq!(within("a response", call).await.unwrap().status(), ServingStatus::Serving);
            }
        }
    }

    async fn interrupt(&self, streaming: bool, what: fn(&Self)) {
        self.door.open.send_replace(false);
        let responses = self.burst(streaming);
        within("the door holds them", self.door.held.subscribe().wait_for(|held| *held == CALLS)).await.unwrap();
        what(self);
        self.door.open.send_replace(true);
        responses.await;
    }
}

// R4, R20, R22: calls and streams that fail with `UNAUTHENTICATED` are replayed.
#[tokio::test]
async fn a_tonic_channel_survives_expired_and_revoked_tokens() {
    for streaming in [false, true] {
        let grpc = Grpc::set().await;
        is_shared(&grpc.client);
        let door = &grpc.door;
        grpc.burst(streaming).await;
        assert_eq!(door.counted(), (1, CALLS), "without a token");
        grpc.age(OVER);
        grpc.burst(streaming).await;
        assert_eq!(
            (door.counted(), door.judged(Verdict::Accepted)),
            ((2, 2 * CALLS), 2 * CALLS),
            "the server gets no expired token"
        );
        grpc.interrupt(streaming, |grpc| grpc.age(OVER)).await;
        assert_eq!(
            (door.counted(), door.judged(Verdict::Expired)),
            ((3, 4 * CALLS), CALLS),
            "a token that expires during the requests"
        );
        grpc.interrupt(streaming, |grpc| grpc.door.sandbox.revoke_all()).await;
        assert_eq!(
            (door.counted(), door.judged(Verdict::Revoked)),
            ((4, 6 * CALLS), CALLS),
            "a token that is revoked during the requests"
        );
        assert!(door.calls.lock().iter().all(|(version, _)| *version == Version::HTTP_2));
        let stats = grpc.source.stats();
        assert_eq!((stats.fetches, stats.rejections, stats.replays), (4, 2 * CALLS as u64, 2 * CALLS as u64));
        no_process_default();
    }
}

// The server checks the token when a stream starts. A running stream continues and is not replayed.
#[tokio::test]
async fn a_running_stream_outlives_its_token() {
    let grpc = Grpc::set().await;
    let mut client = grpc.client.clone();
    let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    grpc.door.sandbox.revoke_all();
    grpc.reporter.set_service_status("", NotServing).await;
    let message = within("the next message", stream.message()).await.unwrap().unwrap();
    assert_eq!(message.status(), ServingStatus::NotServing);
    assert_eq!(grpc.door.counted(), (1, 1));
}
