//! The field `cause`: why this crate's own HTTP client failed.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient};
use tower_bearer_auth::{AccessPsp, BoxError, TokenSource};
use tower_bearer_auth_sandbox::AccessPspSandbox;

use crate::support::telemetry::Capture;

const SECRET: &str = "cZ7kQ9vX-client-secret";

/// The kind and the cause in the event of a token request to `token_url`.
async fn failed(token_url: &str, client: impl Into<TokenClient>) -> (String, Option<String>) {
    let capture = Capture::start();
    let provider = AccessPsp::builder()
        .client_id("the-client")
        .client_secret(SECRET)
        .environment("staging")
        .token_url(token_url)
        .api_origin("https://api.test")
        .http_client(client);
    TokenSource::builder(provider.build().unwrap())
        .patience(std::time::Duration::ZERO)
        .build()
        .token()
        .await
        .unwrap_err();
    let [failed] = &capture.named("token_request_failed")[..] else { panic!("{:?}", capture.lines()) };
    assert!(!failed.line().contains(SECRET), "{}", failed.line());
    (failed.field("kind").unwrap().to_owned(), failed.field("cause").map(str::to_owned))
}

/// A URL on which this text is sent.
async fn sending(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut received = [0; 4096];
            let _ = stream.read(&mut received).await;
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
            while let Ok(1..) = stream.read(&mut received).await {}
        }
    });
    format!("//{address}/token")
}

// R57: before, these had the same line.
#[tokio::test]
async fn the_event_of_a_failed_fetch_tells_the_causes_apart() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = HttpClient::builder().proxy(format!("http://{unused}")).build().unwrap();
    let refused = "tcp connect error: Connection refused";
    let table = [
        (sandbox.token_url().to_owned(), HttpClient::new().unwrap(), "tls", "invalid peer certificate: UnknownIssuer"),
        (format!("https://{unused}/token"), HttpClient::new().unwrap(), "unavailable", refused),
        (sandbox.token_url().to_owned(), proxy, "unavailable", refused),
        (format!("https:{}", sending("").await), HttpClient::new().unwrap(), "unavailable", "tls handshake eof"),
        (
            format!("https:{}", sending("HTTP/1.1 400 Bad Request\r\n\r\n").await),
            HttpClient::new().unwrap(),
            "unavailable",
            "received corrupt message",
        ),
        (
            format!("http:{}", sending("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{").await),
            HttpClient::new().unwrap(),
            "unavailable",
            "end of file before message length reached",
        ),
    ];
    for (url, client, kind, cause) in table {
        let (found, text) = failed(&url, client).await;
        let text = text.unwrap();
        assert_eq!(found, kind, "{text}");
        assert!(text.contains(cause) && !text.contains('\n') && text.len() <= 300, "{text}");
        // Each part is printed once.
        assert_eq!(text.matches(cause).count(), 1, "{text}");
    }
}

// R57, R83: another client may print a secret.
#[tokio::test]
async fn the_event_has_no_cause_of_another_client() {
    let other = tower::service_fn(|_: Request<Full<Bytes>>| async {
        Err::<http::Response<Full<Bytes>>, BoxError>(format!("cannot send {SECRET}").into())
    });
    let event = failed("https://issuer.test/token", TokenClient::new(other)).await;
    assert_eq!(event, ("unavailable".to_owned(), None));
}
