//! PyPI grpcio and npm grpc-js: UNAUTHENTICATED in five forms, to a tonic client with this crate's layer.

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tower::{Layer as _, Service};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{BearerAuth, BoxError, ClientCredentials, TokenSource};

use crate::World;
use crate::issuer::{Noted, Since, all_noted, post};
use crate::oidc::TOKEN;
use crate::plain;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, boxed, equal, fail};

/// What two calls in sequence with a revoked token end in, and what the servers count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counts {
    codes: [Code; 2],
    calls: usize,
    token_requests: u64,
}

const fn counts(codes: [Code; 2], calls: usize, token_requests: u64) -> Counts {
    Counts { codes, calls, token_requests }
}

/// The first call is replayed with a new token.
const REPLAYED: Counts = counts([Code::Ok, Code::Ok], 3, 1);
/// The first call fails. The second one has a new token.
const REJECTED_FOR_LATER_CALLS: Counts = counts([Code::Unauthenticated, Code::Ok], 2, 1);
/// Both calls fail with the same token.
const UNSEEN: Counts = counts([Code::Unauthenticated, Code::Unauthenticated], 2, 0);

/// One form of UNAUTHENTICATED.
struct Form {
    method: &'static str,
    what: &'static str,
    /// With the main layer alone.
    present: Counts,
    /// With `grpc::layer` below the main layer. Any of these. If the trailers come later than the first poll of the
    /// body, or after a message, the call cannot be replayed.
    required: &'static [Counts],
}

const FORMS: [Form; 5] = [
    Form { method: "TrailersOnly", what: "only trailers", present: REPLAYED, required: &[REPLAYED] },
    Form {
        method: "HeadThenTrailers",
        what: "a head, then trailers",
        present: UNSEEN,
        required: &[REPLAYED, REJECTED_FOR_LATER_CALLS],
    },
    Form {
        method: "EmptyMessage",
        what: "an empty message, then trailers",
        present: UNSEEN,
        required: &[REPLAYED, REJECTED_FOR_LATER_CALLS],
    },
    Form {
        method: "Message",
        what: "a message, then trailers",
        present: UNSEEN,
        required: &[REJECTED_FOR_LATER_CALLS],
    },
    Form {
        method: "MidStream",
        what: "an abort in mid-stream",
        present: UNSEEN,
        required: &[REJECTED_FOR_LATER_CALLS],
    },
];

pub async fn all(world: &World, report: &mut Report) -> Check {
    for name in ["grpcio", "grpc-js"] {
        let facts = world.server(name)?;
        let mut suite = Suite::new(facts);
        let api = Api { world, facts, issuer: world.server("oidc-provider")? };
        api.forms(&mut suite).await;
        suite
            .wrong("a revoked token is accepted", "found Unauthenticated, wanted Ok", async {
                let (source, channel) = api.revoked("Message").await?;
                equal("code", api.call(stack(&source, channel), "Message").await?, Code::Ok)
            })
            .await;
        suite.counted = all_noted(facts).await?.len();
        report.suites.push(suite);
    }
    Ok(())
}

type Stack = BearerAuth<Channel, ClientCredentials, Buffered<fn(ReplayBody<Body>) -> Body>>;

struct Api<'a> {
    world: &'a World,
    facts: &'a Facts,
    issuer: &'a Facts,
}

impl Api<'_> {
    /// A source with a token that was accepted by `method`, and is revoked.
    async fn revoked(&self, method: &str) -> Check<(TokenSource<ClientCredentials>, Channel)> {
        let url = format!("{}{TOKEN}", self.issuer.url);
        let source = TokenSource::new(post(&url, "orders", self.world.secret(), self.facts).build()?);
        let channel = Channel::from_shared(self.facts.url.clone())?.connect().await?;
        equal("with the first token", self.call(stack(&source, channel.clone()), method).await?, Code::Ok)?;
        let token = source.token().await?;
        let fields =
            [("token", token.expose_secret()), ("client_id", "orders"), ("client_secret", self.world.secret())];
        let reply = plain::post_form(&format!("{}/token/revocation", self.issuer.url), &fields).await?;
        equal("revocation", reply.status.as_u16(), 200)?;
        Ok((source, channel))
    }

    async fn forms(&self, suite: &mut Suite) {
        for Form { method, what, present, required } in FORMS {
            let work = async {
                let (source, channel) = self.revoked(method).await?;
                let found = self.twice(&stack(&source, channel), method).await?;
                println!("        with the main layer alone: {found:?}; required with grpc::layer: {required:?}");
                equal("with the main layer alone", found, present)
            };
            suite.case(&format!("UNAUTHENTICATED as {what}"), work).await;
        }
    }

    /// Makes two calls through `service`, and counts at both servers.
    async fn twice<S, B>(&self, service: &S, method: &str) -> Check<Counts>
    where
        S: Service<http::Request<Body>, Response = http::Response<B>, Error = BoxError> + Clone,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let issued = Since::now(self.issuer, TOKEN).await?;
        let at_api = Since::now_at(self.facts, path(method)).await?;
        let codes = [self.call(service.clone(), method).await?, self.call(service.clone(), method).await?];
        let noted: Vec<Noted> = at_api.noted().await?;
        let found = Counts { codes, calls: noted.len(), token_requests: issued.count().await? };
        // A call that succeeds is the last one with its token.
        match noted.last().and_then(|noted| noted.status) {
            Some(last) if (last == 0) == (codes[1] == Code::Ok) => Ok(found),
            last => fail(format!("the last call ended in {:?}, and the server noted {last:?}", codes[1])),
        }
    }

    /// Calls `method` and reads all of its response. Returns the code that the call ends in.
    async fn call<S, B>(&self, service: S, method: &str) -> Check<Code>
    where
        S: Service<http::Request<Body>, Response = http::Response<B>, Error = BoxError>,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let mut client = Grpc::with_origin(service, self.facts.url.parse()?);
        client.ready().await.map_err(boxed)?;
        let request = Request::new(Bytes::from_static(b"request"));
        let outcome = client.server_streaming(request, PathAndQuery::try_from(path(method))?, Raw).await;
        let mut stream = match outcome {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(status.code()),
        };
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Code::Ok),
                Err(status) => return Ok(status.code()),
            }
        }
    }
}

/// The main layer alone. It keeps what has been sent of a request body, for a replay.
fn stack(source: &TokenSource<ClientCredentials>, channel: Channel) -> Stack {
    source.layer().bodies(Buffered::new(64 * 1024, Body::new as fn(ReplayBody<Body>) -> Body)).layer(channel)
}

fn path(method: &str) -> String {
    format!("/interop.Calls/{method}")
}

/// Messages as bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
