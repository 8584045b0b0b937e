//! A server that sends bytes as they are, right or wrong, and keeps every byte that it got.

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

/// What to do with a connection once its request is in.
#[derive(Clone)]
pub(crate) enum Then {
    /// Send this, then close.
    Send(Vec<u8>),
    /// Send this, and leave the connection open.
    Hang(Vec<u8>),
}

pub(crate) struct Wire {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    connections: Arc<AtomicUsize>,
    accepting: AbortHandle,
}

/// A test that starts hundreds of them must do with 256 open files.
impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Wire {
    pub(crate) async fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (keep, count) = (Arc::clone(&seen), Arc::clone(&connections));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(stream, then.clone(), Arc::clone(&keep)));
            }
        });
        Self { address, seen, connections, accepting: accepting.abort_handle() }
    }

    pub(crate) async fn answering(answer: Vec<u8>) -> Self {
        Self::start(Then::Send(answer)).await
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

    /// What came over each connection, in the order in which their requests were in.
    pub(crate) fn requests(&self) -> Vec<String> {
        let seen = self.seen.lock();
        seen.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// A client of this issuer, with everything else at its default.
    pub(crate) fn client(&self) -> ClientCredentials {
        client(&self.token_url()).build().unwrap()
    }
}

pub(crate) fn client(token_url: &str) -> ClientCredentialsBuilder {
    ClientCredentials::builder().client_id(ID).client_secret(SECRET).token_url(token_url).api_origin("https://api.test")
}

/// A whole answer with its `Content-Length`.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

async fn converse(mut stream: TcpStream, then: Then, seen: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !is_whole(&request) {
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
            _ => break,
        }
    }
    seen.lock().push(request);
    match then {
        Then::Send(answer) => {
            // A client that has read enough may be gone.
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
        Then::Hang(answer) => {
            let _ = stream.write_all(&answer).await;
            std::future::pending::<()>().await;
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        // A TLS client does not speak HTTP: its first record is all that is waited for.
        return request.first() == Some(&0x16);
    };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0);
    body.len() >= length
}
