//! Connections that the issuer closes while a request is on its way: a token request is sent once more, and only then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, Notify};
use tokio_rustls::TlsAcceptor;
use tower::{Service as _, ServiceExt as _};
use tower_bearer_auth::token_endpoint::{HttpClient, HttpClientBuilder};
use tower_bearer_auth::{ClientCredentials, ErrorKind, FetchContext, TokenProvider as _};

use super::tls_server::{Accepts, Authority, server_config};
use super::wire::{GOOD, client, http_response, is_complete};
use crate::support::wait::within;

/// What the issuer does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Respond,
    /// Responds when two requests have arrived.
    RespondToBoth,
    /// Closes the connection when the first bytes have arrived. If there are more, the client gets a reset.
    CloseAtFirstBytes,
    /// Closes the connection with a FIN when the request has arrived.
    Close,
    /// Resets the connection when the request has arrived.
    Reset,
    /// Sends these bytes and closes the connection.
    CloseAfter(&'static str),
}

/// An issuer that counts its connections and its requests, complete or not.
struct Closing {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// The client has closed a connection.
    closed: Arc<Notify>,
    both: Arc<Barrier>,
}

impl Closing {
    /// `act` receives the numbers of the connection and of its request, from 1.
    async fn start(tls: Option<TlsAcceptor>, act: fn(usize, usize) -> Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests, closed) = Default::default();
        let issuer = Self { address, connections, requests, closed, both: Arc::new(Barrier::new(2)) };
        let (connections, requests) = (Arc::clone(&issuer.connections), Arc::clone(&issuer.requests));
        let (closed, both) = (Arc::clone(&issuer.closed), Arc::clone(&issuer.both));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst) + 1;
                if (1..10).any(|request| act(number, request) == Act::Reset) {
                    tcp.set_zero_linger().unwrap();
                }
                let (tls, requests, closed) = (tls.clone(), Arc::clone(&requests), Arc::clone(&closed));
                let both = Arc::clone(&both);
                tokio::spawn(async move {
                    let act = |request| act(number, request);
                    match tls {
                        Some(tls) => serve(tls.accept(tcp).await.unwrap(), act, &requests, &closed, &both).await,
                        None => serve(tcp, act, &requests, &closed, &both).await,
                    }
                });
            }
        });
        issuer
    }

    fn provider(&self, scheme: &str, http_client: HttpClientBuilder) -> ClientCredentials {
        let url = format!("{scheme}://{}/token", self.address);
        client(&url).http_client(http_client.build().unwrap()).build().unwrap()
    }

    fn counts(&self) -> (usize, usize) {
        (self.connections.load(Ordering::SeqCst), self.requests.load(Ordering::SeqCst))
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    act: impl Fn(usize) -> Act,
    requests: &AtomicUsize,
    closed: &Notify,
    both: &Barrier,
) {
    for number in 1.. {
        let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
        let act = act(number);
        while !is_complete(&request) {
            let piece = if act == Act::CloseAtFirstBytes { &mut chunk[..4] } else { &mut chunk[..] };
            match stream.read(piece).await {
                Ok(read @ 1..) => request.extend_from_slice(&piece[..read]),
                _ => return closed.notify_one(),
            }
            if act == Act::CloseAtFirstBytes {
                break;
            }
        }
        requests.fetch_add(1, Ordering::SeqCst);
        if act == Act::RespondToBoth {
            both.wait().await;
        }
        match act {
            Act::Respond | Act::RespondToBoth => stream.write_all(&http_response(200, &[], GOOD)).await.unwrap(),
            Act::CloseAtFirstBytes | Act::Reset => return,
            Act::Close => return stream.shutdown().await.unwrap(),
            Act::CloseAfter(bytes) => {
                stream.write_all(bytes.as_bytes()).await.unwrap();
                return stream.shutdown().await.unwrap();
            }
        }
    }
}

async fn fetch(provider: &ClientCredentials) -> Result<(), tower_bearer_auth::Error> {
    within("a token request", provider.fetch(&(), &FetchContext::default())).await.map(drop)
}

/// The client closes no idle connection, however slow the machine is.
fn kept() -> HttpClientBuilder {
    HttpClient::builder().idle_timeout(Duration::from_secs(600))
}

/// The second request on the first connection gets no response.
fn second_request(connection: usize, request: usize, act: Act) -> Act {
    if (connection, request) == (1, 2) { act } else { Act::Respond }
}

const LOST: [fn(usize, usize) -> Act; 3] = [
    |connection, request| second_request(connection, request, Act::CloseAtFirstBytes),
    |connection, request| second_request(connection, request, Act::Close),
    |connection, request| second_request(connection, request, Act::Reset),
];

// R58: haproxy and Apache close an idle connection at the moment at which the next request comes.
#[tokio::test]
async fn a_token_request_on_a_connection_that_closes_is_sent_once_more_on_a_new_one() {
    for act in LOST {
        let issuer = Closing::start(None, act).await;
        let provider = issuer.provider("http", kept());
        fetch(&provider).await.unwrap();
        fetch(&provider).await.unwrap();
        assert_eq!(issuer.counts(), (2, 3), "{:?}", act(1, 2));
        fetch(&provider).await.unwrap();
    }
}

// R58: the other idle connections are as old as the one that has closed.
#[tokio::test]
async fn the_second_request_does_not_use_another_idle_connection() {
    let issuer = Closing::start(None, |connection, request| match (connection, request) {
        (1 | 2, 1) => Act::RespondToBoth,
        (1 | 2, _) => Act::Close,
        _ => Act::Respond,
    });
    let issuer = issuer.await;
    let provider = issuer.provider("http", kept());
    let (first, second) = tokio::join!(fetch(&provider), fetch(&provider));
    first.and(second).unwrap();
    assert_eq!(issuer.counts(), (2, 2));
    fetch(&provider).await.unwrap();
    assert_eq!(issuer.counts(), (3, 4));
}

// R58: the bytes of TLS itself, for example session tickets and alerts, are not bytes of the response.
#[tokio::test]
async fn a_token_request_over_tls_is_sent_once_more_too() {
    let authority = Authority::new();
    for act in LOST {
        let config = server_config(&authority.issue(|_| {}), Accepts::default());
        let issuer = Closing::start(Some(TlsAcceptor::from(Arc::new(config))), act).await;
        let provider = issuer.provider("https", kept().roots_pem(authority.pem()));
        fetch(&provider).await.unwrap();
        fetch(&provider).await.unwrap();
        assert_eq!(issuer.counts(), (2, 3), "{:?}", act(1, 2));
    }
}

// R58: the issuer is the reason then, and the source decides when the next fetch starts.
#[tokio::test]
async fn a_token_request_that_fails_on_a_new_connection_is_not_sent_again() {
    let acts: [fn(usize, usize) -> Act; 3] = [|_, _| Act::CloseAtFirstBytes, |_, _| Act::Close, |_, _| Act::Reset];
    for act in acts {
        let issuer = Closing::start(None, act).await;
        let error = fetch(&issuer.provider("http", kept())).await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true));
        assert_eq!(issuer.counts(), (1, 1), "{:?}", act(1, 1));
    }
}

// R58: one retry. The new connection fails in the same way.
#[tokio::test]
async fn a_token_request_is_sent_at_most_twice() {
    let issuer = Closing::start(None, |connection, request| match (connection, request) {
        (1, 1) => Act::Respond,
        _ => Act::Close,
    });
    let issuer = issuer.await;
    let provider = issuer.provider("http", kept());
    fetch(&provider).await.unwrap();
    let error = fetch(&provider).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true));
    assert_eq!(issuer.counts(), (2, 3));
}

// R58: the issuer has received the request, and responds.
#[tokio::test]
async fn a_token_request_whose_response_has_begun_is_not_sent_again() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{";
    let acts: [fn(usize, usize) -> Act; 3] = [
        |connection, request| second_request(connection, request, Act::CloseAfter("H")),
        |connection, request| second_request(connection, request, Act::CloseAfter("HTTP/1.1 200 OK\r\nContent-")),
        |connection, request| second_request(connection, request, Act::CloseAfter(HEAD)),
    ];
    for act in acts {
        let issuer = Closing::start(None, act).await;
        let provider = issuer.provider("http", kept());
        fetch(&provider).await.unwrap();
        let error = fetch(&provider).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(issuer.counts(), (1, 2), "{:?}", act(1, 2));
    }
}

// R58: another request may have an effect, so its caller decides.
#[tokio::test]
async fn a_request_that_is_not_a_token_request_is_not_sent_again() {
    for act in LOST {
        let issuer = Closing::start(None, act).await;
        let mut client = kept().build().unwrap();
        let request = || Request::post(format!("http://{}/orders", issuer.address)).body(Bytes::new()).unwrap();
        let response = client.ready().await.unwrap().call(request()).await.unwrap();
        response.into_body().collect().await.unwrap();
        client.ready().await.unwrap().call(request()).await.unwrap_err();
        assert_eq!(issuer.counts(), (1, 2), "{:?}", act(1, 2));
    }
}

// R58: the extension of a caller does not make a request a token request.
#[tokio::test]
async fn a_payment_without_a_token_is_not_sent_again() {
    let issuer = Closing::start(None, LOST[0]).await;
    let mut client = kept().build().unwrap();
    let request = || {
        let request = Request::post(format!("http://{}/orders", issuer.address));
        request.extension(tower_bearer_auth::Unauthenticated).body(Bytes::new()).unwrap()
    };
    let response = client.ready().await.unwrap().call(request()).await.unwrap();
    response.into_body().collect().await.unwrap();
    client.ready().await.unwrap().call(request()).await.unwrap_err();
    assert_eq!(issuer.counts(), (1, 2));
}

// R58: an issuer may accept an assertion once, and would return `invalid_client` for the second one.
#[tokio::test]
async fn a_token_request_with_an_assertion_is_not_sent_again() {
    let issuer = Closing::start(None, LOST[0]).await;
    let provider = ClientCredentials::builder()
        .token_url(format!("http://{}/token", issuer.address))
        .api_origin("https://api.example.com")
        .client_id("orders")
        .client_assertion("header.claims.signature")
        .http_client(kept().build().unwrap())
        .build()
        .unwrap();
    fetch(&provider).await.unwrap();
    assert!(fetch(&provider).await.unwrap_err().is_transient());
    assert_eq!(issuer.counts(), (1, 2));
}

// R58
#[tokio::test]
async fn the_client_closes_an_idle_connection_before_the_issuer_does() {
    let short = Duration::from_millis(100);
    // The default of 1.5 seconds is less than what Apache, Node and gunicorn wait.
    for builder in [HttpClient::builder().idle_timeout(short), HttpClient::builder()] {
        let issuer = Closing::start(None, |_, _| Act::Respond).await;
        let provider = issuer.provider("http", builder);
        fetch(&provider).await.unwrap();
        fetch(&provider).await.unwrap();
        assert_eq!(issuer.counts(), (1, 2));
        within("the client closes the connection", issuer.closed.notified()).await;
        fetch(&provider).await.unwrap();
        assert_eq!(issuer.counts(), (2, 3));
    }
    assert!(format!("{:?}", HttpClient::builder()).contains("idle_timeout: 1.5s"));
}

#[tokio::test]
async fn an_idle_timeout_of_zero_uses_no_connection_twice() {
    let issuer = Closing::start(None, |_, _| Act::Respond).await;
    let provider = issuer.provider("http", HttpClient::builder().idle_timeout(Duration::ZERO));
    for _ in 0..3 {
        fetch(&provider).await.unwrap();
    }
    assert_eq!(issuer.counts(), (3, 3));
    HttpClient::builder().idle_timeout(Duration::from_secs(3_600)).build().unwrap();
    for long in [Duration::from_millis(3_600_001), Duration::MAX] {
        let error = HttpClient::builder().idle_timeout(long).build().unwrap_err();
        assert!(error.to_string().starts_with("idle_timeout: it is longer than one hour"), "{error}");
    }
}
