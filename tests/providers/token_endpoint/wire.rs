//! A server that sends the given bytes, valid or not, and records every byte that it receives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tower_bearer_auth::{ClientCredentials, ClientCredentialsBuilder};

pub(crate) const ID: &str = "the-client";
pub(crate) const SECRET: &str = "S3cret-CANARY/with:+%&= \u{fc}";
pub(crate) const GOOD: &str = r#"{"access_token":"abc","token_type":"Bearer","expires_in":1800}"#;

/// What the server does after it has received a request.
#[derive(Clone)]
pub(crate) enum Then {
    /// Sends these bytes and closes the connection.
    Send(Vec<u8>),
    /// Sends these bytes and keeps the connection open.
    Hang(Vec<u8>),
}

pub(crate) struct Wire {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    connections: Arc<AtomicUsize>,
    accepting: AbortHandle,
}

/// A test that starts hundreds of servers must work with 256 open files.
impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Wire {
    pub(crate) async fn start(then: Then) -> Self {
        Self::start_with(|_| then).await
    }

    /// `then` receives the origin of the server.
    pub(crate) async fn start_with(then: impl FnOnce(&str) -> Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let then = then(&format!("http://{address}"));
        let received = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (keep, count) = (Arc::clone(&received), Arc::clone(&connections));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, then.clone(), Arc::clone(&keep)));
            }
        });
        Self { address, received, connections, accepting: accepting.abort_handle() }
    }

    pub(crate) async fn responding(response: Vec<u8>) -> Self {
        Self::start(Then::Send(response)).await
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn token_url(&self) -> String {
        format!("{}/oauth/token", self.origin())
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The bytes of each connection, in the order in which the requests were complete.
    pub(crate) fn requests(&self) -> Vec<String> {
        let received = self.received.lock();
        received.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// A provider for this issuer with default settings.
    pub(crate) fn client(&self) -> ClientCredentials {
        client(&self.token_url()).build().unwrap()
    }
}

pub(crate) fn client(token_url: &str) -> ClientCredentialsBuilder {
    ClientCredentials::builder().client_id(ID).client_secret(SECRET).token_url(token_url).api_origin("https://api.test")
}

/// A complete response with a `Content-Length`.
pub(crate) fn http_response(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

async fn serve(mut stream: TcpStream, then: Then, received: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !is_complete(&request) {
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
            _ => break,
        }
    }
    received.lock().push(request);
    match then {
        Then::Send(response) => {
            // The client may have closed the connection.
            let _ = stream.write_all(&response).await;
            let _ = stream.shutdown().await;
        }
        Then::Hang(response) => {
            let _ = stream.write_all(&response).await;
            std::future::pending::<()>().await;
        }
    }
}

pub(crate) fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        // A TLS client does not send HTTP, so its first record is enough.
        return request.first() == Some(&0x16);
    };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0);
    body.len() >= length
}
