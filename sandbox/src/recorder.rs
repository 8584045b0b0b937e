//! A foreign server that records every byte.

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::{
    access_psp::AccessPspSandbox,
    journal::Journal,
    response::ScriptedResponse,
    server::{Server, Stream},
};

/// A foreign server on loopback that records every byte it receives.
///
/// It is not part of the provider, so it must never receive a token. Use it as the target of a redirect or as a host that is
/// not allowed. It speaks HTTP/1.1 and sends a 200, or the response of [`respond_with`](Self::respond_with).
pub struct Recorder {
    server: Server,
    received: Arc<Received>,
    scheme: &'static str,
}

impl Recorder {
    /// Starts a recorder without TLS. [`AccessPspSandbox::recorder`] starts one with TLS.
    ///
    /// # Errors
    ///
    /// The port could not be bound.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime with I/O enabled.
    pub async fn start() -> io::Result<Self> {
        Self::serve(None).await
    }

    /// The scheme, host and port, without a trailing slash.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.server.address())
    }

    /// Sets the response to all later requests. A missing `content-length` is added.
    pub fn respond_with(&self, response: ScriptedResponse) {
        *self.received.response.lock() = response;
    }

    /// The complete requests in order, each with head and body, byte for byte.
    pub fn requests(&self) -> Vec<Bytes> {
        self.received.requests.all()
    }

    /// The number of complete requests.
    pub fn request_count(&self) -> usize {
        self.received.requests.count()
    }

    /// Waits until the recorder has received `count` complete requests.
    pub async fn wait_requests(&self, count: usize) {
        self.received.requests.wait(count).await;
    }

    /// The number of accepted connections. A connection counts before its TLS handshake.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Whether any connection received these bytes. Incomplete requests count as well.
    pub fn has_received(&self, needle: &[u8]) -> bool {
        let streams = self.received.streams.lock();
        let contains = |stream: &Vec<u8>| find(stream, needle).is_some();
        streams.iter().any(contains)
    }

    async fn serve(tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let received = Arc::new(Received {
            streams: Mutex::new(Vec::new()),
            requests: Journal::new(),
            response: Mutex::new(ScriptedResponse::new(StatusCode::OK)),
        });
        let record = Arc::clone(&received);
        let server = Server::raw(tls, move |stream| {
            let received = Arc::clone(&record);
            async move {
                // A broken connection is not an error here. Its bytes are recorded.
                let _ = received.serve(stream).await;
            }
        })
        .await?;
        Ok(Self { server, received, scheme })
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("origin", &self.origin())
            .field("requests", &self.request_count())
            .finish_non_exhaustive()
    }
}

impl AccessPspSandbox {
    /// Starts a foreign server on another loopback port.
    ///
    /// It uses TLS with a certificate of the same authority, or no TLS with
    /// [`plain_http`](super::AccessPspSandboxBuilder::plain_http).
    ///
    /// # Errors
    ///
    /// A key could not be generated, or the port could not be bound.
    pub async fn recorder(&self) -> io::Result<Recorder> {
        let tls = match self.plain {
            true => None,
            false => Some(self.authority.acceptor(vec![b"http/1.1".to_vec()], false)?),
        };
        Recorder::serve(tls).await
    }
}

struct Received {
    /// The bytes of each connection.
    streams: Mutex<Vec<Vec<u8>>>,
    requests: Journal<Bytes>,
    response: Mutex<ScriptedResponse>,
}

impl Received {
    async fn serve(&self, mut stream: Stream) -> io::Result<()> {
        let index = {
            let mut streams = self.streams.lock();
            streams.push(Vec::new());
            streams.len() - 1
        };
        let mut pending = Vec::new();
        let mut chunk = vec![0; 16 * 1024];
        loop {
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            self.streams.lock()[index].extend_from_slice(&chunk[..read]);
            pending.extend_from_slice(&chunk[..read]);
            while let Some(length) = request_length(&pending) {
                let request: Vec<u8> = pending.drain(..length).collect();
                self.requests.push(Bytes::from(request));
                let response = self.response.lock().clone();
                stream.write_all(&response.into_http1()).await?;
                stream.flush().await?;
            }
        }
    }
}

/// The length of the first request, if it is complete (RFC 9112 section 6).
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let field = |name: &str| {
        let mut lines = text.split("\r\n").skip(1);
        lines.find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    if field("transfer-encoding:").is_some_and(|coding| coding.ends_with("chunked")) {
        return chunks_length(&bytes[head..]).map(|body| head + body);
    }
    let body = match field("content-length:") {
        Some(length) => length.parse().ok()?,
        None => 0,
    };
    head.checked_add(body).filter(|whole| *whole <= bytes.len())
}

/// The length of a chunked body, trailers included (RFC 9112 section 7.1).
fn chunks_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = find(bytes.get(at..)?, b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        at += line + 2;
        if size == 0 {
            break;
        }
        at = at.checked_add(size)?.checked_add(2)?;
    }
    loop {
        let line = find(bytes.get(at..)?, b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    bytes.windows(needle.len()).position(|part| part == needle)
}
