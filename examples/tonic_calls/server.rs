//! A tonic server that rejects calls in each form that gRPC servers use. Its messages are plain bytes, so it needs no protobuf.

use std::convert::Infallible;
use std::fmt;
use std::future::ready;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{HeaderMap, Request, Response};
use parking_lot::Mutex;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::NamedService;
use tonic::transport::{Server, server::TcpIncoming};
use tonic::{Status, Streaming};
use tower::Service;
use tower_bearer_auth::BoxError;

/// How the server rejects a call. The status is 16, `UNAUTHENTICATED`, in each form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The status is in the head, and there is no body.
    TrailersOnly,
    /// The status is in trailers after the head.
    HeadThenTrailers,
    /// The status is in trailers after one empty message.
    EmptyMessage,
    /// The status is in trailers after a message.
    Message,
    /// The status is in trailers after several messages.
    MidStream,
}

impl Form {
    pub(crate) const ALL: [Self; 5] =
        [Self::TrailersOnly, Self::HeadThenTrailers, Self::EmptyMessage, Self::Message, Self::MidStream];
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrailersOnly => "Trailers-Only",
            Self::HeadThenTrailers => "head, trailers",
            Self::EmptyMessage => "head, empty message, trailers",
            Self::Message => "head, message, trailers",
            Self::MidStream => "head, messages, trailers",
        })
    }
}

/// The four kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Unary,
    ServerStream,
    ClientStream,
    Bidirectional,
}

impl Method {
    pub(crate) const ALL: [Self; 4] = [Self::Unary, Self::ServerStream, Self::ClientStream, Self::Bidirectional];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Unary => "/calls.Calls/Unary",
            Self::ServerStream => "/calls.Calls/ServerStream",
            Self::ClientStream => "/calls.Calls/ClientStream",
            Self::Bidirectional => "/calls.Calls/Bidirectional",
        }
    }
}

/// The calls that the server has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: usize,
    pub(crate) rejected: usize,
}

/// The service. A clone is the same one.
#[derive(Clone)]
pub(crate) struct CallServer {
    accepts: Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>,
    form: Arc<Mutex<Form>>,
    counts: Arc<Mutex<Counts>>,
}

impl CallServer {
    pub(crate) fn new(accepts: impl Fn(&HeaderMap) -> bool + Send + Sync + 'static) -> Self {
        Self { accepts: Arc::new(accepts), form: Arc::new(Mutex::new(Form::TrailersOnly)), counts: Arc::default() }
    }

    /// Starts the server on a loopback port.
    pub(crate) fn start(&self, mut server: Server) -> Result<SocketAddr, BoxError> {
        let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = incoming.local_addr()?;
        tokio::spawn(server.add_service(self.clone()).serve_with_incoming(incoming));
        Ok(address)
    }

    pub(crate) fn reject_as(&self, form: Form) {
        *self.form.lock() = form;
    }

    /// The counts since the last time.
    pub(crate) fn take_counts(&self) -> Counts {
        std::mem::take(&mut *self.counts.lock())
    }

    async fn respond(self, request: Request<Body>) -> Response<Body> {
        let form = *self.form.lock();
        let accepted = (self.accepts)(request.headers());
        {
            let mut counts = self.counts.lock();
            counts.calls += 1;
            counts.rejected += usize::from(!accepted);
        }
        if !accepted && form == Form::TrailersOnly {
            return rejection().into_http();
        }
        let path = request.uri().path().to_owned();
        let handler = tower::service_fn(move |request: tonic::Request<Streaming<Bytes>>| {
            let messages = request.into_inner();
            let responses = if accepted { accepted_call(&path, messages) } else { rejected_call(form) };
            ready(Ok::<_, Status>(tonic::Response::new(responses)))
        });
        tonic::server::Grpc::new(Raw).streaming(handler, request).await
    }
}

fn rejection() -> Status {
    Status::unauthenticated("the token is not accepted")
}

type Responses = BoxStream<'static, Result<Bytes, Status>>;

fn rejected_call(form: Form) -> Responses {
    let messages: &[&[u8]] = match form {
        Form::TrailersOnly | Form::HeadThenTrailers => &[],
        Form::EmptyMessage => &[b""],
        Form::Message => &[b"message"],
        Form::MidStream => &[b"one", b"two", b"three"],
    };
    let messages: Vec<_> = messages.iter().map(|&message| Ok(Bytes::from_static(message))).collect();
    stream::iter(messages).chain(stream::once(async { Err(rejection()) })).boxed()
}

/// Responds to each message of a bidirectional call, and else after the last one.
fn accepted_call(path: &str, messages: Streaming<Bytes>) -> Responses {
    if path == Method::Bidirectional.path() {
        return messages.boxed();
    }
    let count = if path == Method::ServerStream.path() { 3 } else { 1 };
    let last = messages.fold(Ok(Bytes::new()), |last, message| async { last.and(message) });
    stream::once(last).flat_map(move |last| stream::iter(vec![last; count])).boxed()
}

impl Service<Request<Body>> for CallServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async { Ok(server.respond(request).await) })
    }
}

impl NamedService for CallServer {
    const NAME: &'static str = "calls.Calls";
}

/// Bytes in, bytes out.
#[derive(Clone, Copy, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
