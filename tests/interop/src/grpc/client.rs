//! A tonic client whose messages are bytes.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::Uri;
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};
use tower::Service;
use tower_bearer_auth::BoxError;

use crate::suite::{Check, boxed};

/// Calls `path` and reads all of its response. Returns the code that the call ends in.
pub async fn call<S, B>(service: S, origin: Uri, path: &str, timeout: Option<Duration>) -> Check<Code>
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = BoxError>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut client = Grpc::with_origin(service, origin);
    client.ready().await.map_err(boxed)?;
    let mut request = Request::new(Bytes::from_static(b"request"));
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    let outcome = client.server_streaming(request, PathAndQuery::try_from(path)?, Raw).await;
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
