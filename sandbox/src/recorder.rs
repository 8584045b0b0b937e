//! A foreign server: it understands nothing, and keeps every byte.

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::{
    journal::Journal,
    psp::AccessPspSandbox,
    response::ScriptedResponse,
    server::{Server, Stream},
};

/// A server that is none of the provider's: it keeps every byte that reaches it over HTTP/1.1,
/// after TLS where there is any, and answers 200 or what it was told.
///
/// It is what a redirect may point at, and the place to look for a token that went astray.
pub struct Recorder {
    server: Server,
    seen: Arc<Seen>,
    scheme: &'static str,
}

impl Recorder {
    /// Starts one on a loopback port, without TLS. [`AccessPspSandbox::recorder`] starts one
    /// with it.
    ///
    /// # Errors
    ///
    /// The port could not be bound.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub async fn start() -> io::Result<Self> {
        Self::serve(None).await
    }

    /// Scheme, host and port, without a slash at the end.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.server.address())
    }

    /// Sets the answer to all requests to come. A missing `content-length` is added.
    pub fn respond_with(&self, answer: ScriptedResponse) {
        *self.seen.answer.lock() = answer;
    }

    /// Every whole request, head and body, byte for byte and in order.
    pub fn requests(&self) -> Vec<Bytes> {
        self.seen.requests.all()
    }

    /// How many whole requests have come.
    pub fn request_count(&self) -> usize {
        self.seen.requests.count()
    }

    /// Waits until `count` whole requests have come.
    pub async fn wait_requests(&self, count: usize) {
        self.seen.requests.wait(count).await;
    }

    /// How many connections were accepted, before any TLS handshake.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Whether these bytes came over any connection, whole requests or not.
    pub fn has_seen(&self, needle: &[u8]) -> bool {
        let streams = self.seen.streams.lock();
        let holds = |stream: &Vec<u8>| find(stream, needle).is_some();
        streams.iter().any(holds)
    }

    async fn serve(tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let seen = Arc::new(Seen {
            streams: Mutex::new(Vec::new()),
            requests: Journal::new(),
            answer: Mutex::new(ScriptedResponse::new(StatusCode::OK)),
        });
        let record = Arc::clone(&seen);
        let server = Server::raw(tls, move |stream| {
            let seen = Arc::clone(&record);
            async move {
                // A client that breaks off is nothing to report: its bytes are kept.
                let _ = seen.converse(stream).await;
            }
        })
        .await?;
        Ok(Self { server, seen, scheme })
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
    /// Starts a foreign server on another loopback port, with TLS by the same authority, or
    /// without TLS under [`plain_http`](super::AccessPspSandboxBuilder::plain_http).
    ///
    /// # Errors
    ///
    /// Keys could not be made or the port not bound.
    pub async fn recorder(&self) -> io::Result<Recorder> {
        let tls = match self.plain {
            true => None,
            false => Some(self.authority.acceptor(vec![b"http/1.1".to_vec()], false)?),
        };
        Recorder::serve(tls).await
    }
}

struct Seen {
    /// One for each connection: what two of them sent must not run together.
    streams: Mutex<Vec<Vec<u8>>>,
    requests: Journal<Bytes>,
    answer: Mutex<ScriptedResponse>,
}

impl Seen {
    async fn converse(&self, mut stream: Stream) -> io::Result<()> {
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
                let answer = self.answer.lock().clone();
                stream.write_all(&answer.into_http1()).await?;
                stream.flush().await?;
            }
        }
    }
}

/// The length of the first whole request, if there is one yet (RFC 9112 section 6).
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
