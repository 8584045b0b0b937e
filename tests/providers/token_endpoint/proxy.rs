//! An egress proxy with CONNECT: what it receives, how it can fail, and which issuers bypass it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower_bearer_auth::token_endpoint::{HttpClient, HttpClientBuilder};
use tower_bearer_auth::{BasicEncoding, ClientCredentials, Error, ErrorKind, FetchContext, TokenProvider as _};
use tower_bearer_auth_sandbox::AccessPspSandbox;

use super::access_psp::settings;
use super::wire::{GOOD, Wire, client, http_response};
use crate::support::canary::shown_in;

const PASSWORD: &str = "cZ7kQ9vX:proxy/pass word";

// What squid 5.7 and tinyproxy 1.11.1 (Debian 12) respond to CONNECT, without the HTML.

/// For a name that the name server does not know.
const SQUID_DNS: &str = "HTTP/1.1 500 Internal Server Error\r\nServer: squid/5.7\r\nMime-Version: 1.0\r\n\
    Content-Type: text/html;charset=utf-8\r\nContent-Length: 3387\r\nX-Squid-Error: ERR_CANNOT_FORWARD 0\r\n\
    Vary: Accept-Language\r\nContent-Language: en\r\n\r\n";
const SQUID_CONNECT: &str = "HTTP/1.1 503 Service Unavailable\r\nServer: squid/5.7\r\nMime-Version: 1.0\r\n\
    Content-Type: text/html;charset=utf-8\r\nContent-Length: 3048\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\
    Vary: Accept-Language\r\nContent-Language: en\r\n\r\n";
const SQUID_DIGEST: &str = "HTTP/1.1 407 Proxy Authentication Required\r\nServer: squid/5.7\r\nMime-Version: 1.0\r\n\
    Content-Type: text/html;charset=utf-8\r\nContent-Length: 3072\r\nX-Squid-Error: ERR_CACHE_ACCESS_DENIED 0\r\n\
    Proxy-Authenticate: Digest realm=\"CANARY\", nonce=\"f9b30e75bcee50f0d6c3fff47fd8606c\", qop=\"auth\", \
    stale=false\r\nX-Cache: MISS from proxy\r\n\r\n";
/// The same for a name that is unknown and for a refused connection.
const TINYPROXY_DNS: &str = "HTTP/1.1 500 Unable to connect\r\nServer: tinyproxy/1.11.1\r\nContent-Type: text/html\r\n\
    Connection: close\r\n\r\n";
const TINYPROXY_PORT: &str = "HTTP/1.1 403 Access violation\r\nServer: tinyproxy/1.11.1\r\nContent-Type: text/html\r\n\
    Connection: close\r\n\r\n";
const TINYPROXY_BASIC: &str = "HTTP/1.0 407 Proxy Authentication Required\r\nServer: tinyproxy/1.11.1\r\n\
    Content-Type: text/html\r\nProxy-Authenticate: Basic realm=\"Tinyproxy\"\r\nConnection: close\r\n\r\n";

#[derive(Clone)]
enum Behavior {
    /// Opens the tunnel.
    Open,
    /// Sends this text first, and then opens the tunnel.
    OpenAfter(&'static str),
    /// Sends this text and closes the connection.
    Send(&'static str),
    /// Sends this text and keeps the connection open.
    Hang(&'static str),
}

/// A proxy that records every byte that a client sends, before and inside the tunnel.
struct ConnectProxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl ConnectProxy {
    async fn start(behavior: Behavior) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let keep = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let at = keep.lock().len();
                keep.lock().push(Vec::new());
                tokio::spawn(serve(stream, behavior.clone(), Arc::clone(&keep), at));
            }
        });
        Self { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn with_password(&self) -> String {
        format!("http://us%2Der:cZ7kQ9vX%3Aproxy%2Fpass%20word@{}/", self.address)
    }

    fn connections(&self) -> usize {
        self.seen.lock().len()
    }

    /// The bytes before the tunnel, and the bytes inside it.
    fn bytes(&self, connection: usize) -> (String, Vec<u8>) {
        let seen = self.seen.lock()[connection].clone();
        let end = seen.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        (String::from_utf8(seen[..end].to_vec()).unwrap(), seen[end..].to_vec())
    }
}

async fn serve(mut stream: TcpStream, behavior: Behavior, keep: Arc<Mutex<Vec<Vec<u8>>>>, at: usize) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
        keep.lock()[at].push(byte);
    }
    match behavior {
        Behavior::Open => {}
        Behavior::OpenAfter(text) => stream.write_all(text.as_bytes()).await.unwrap(),
        Behavior::Send(text) => {
            // The client may have closed the connection.
            let _ = stream.write_all(text.as_bytes()).await;
            return;
        }
        Behavior::Hang(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            return std::future::pending().await;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
    let upstream = TcpStream::connect(target).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 Connection established\r\nX-Via: test\r\n\r\n").await.unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (stream.into_split(), upstream.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut chunk = [0; 4096];
    while let Ok(read) = from_client.read(&mut chunk).await {
        keep.lock()[at].extend_from_slice(&chunk[..read]);
        if read == 0 || to_server.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

fn trusting(sandbox: &AccessPspSandbox) -> HttpClientBuilder {
    HttpClient::builder().roots_pem(sandbox.ca_pem())
}

async fn fetch(sandbox: &AccessPspSandbox, client: HttpClientBuilder) -> Result<(), Error> {
    settings(sandbox).http_client(client.build()?).build()?.fetch(&(), &FetchContext::default()).await.map(drop)
}

// RFC 9110 section 9.3.6: the proxy receives the host, the port and its own credentials.
#[tokio::test]
async fn the_proxy_receives_the_host_and_port_and_nothing_of_the_token_request() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let proxy = ConnectProxy::start(Behavior::Open).await;
    fetch(&sandbox, trusting(&sandbox).proxy(proxy.url())).await.unwrap();
    fetch(&sandbox, trusting(&sandbox).proxy(proxy.with_password())).await.unwrap();
    // A header of the token request is not sent to the proxy.
    let basic = ClientCredentials::builder()
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .client_secret_basic(BasicEncoding::Percent)
        .token_header("x-api-key", "for-the-issuer")
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .http_client(trusting(&sandbox).proxy(proxy.url()).build().unwrap());
    basic.build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!((proxy.connections(), sandbox.token_request_count()), (3, 3));
    let issuer = sandbox.issuer_origin().replace("https://", "");
    let authorization = format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("us-er:{PASSWORD}")));
    for (connection, credentials) in ["", &authorization, ""].into_iter().enumerate() {
        let (head, tunnel) = proxy.bytes(connection);
        assert_eq!(head, format!("CONNECT {issuer} HTTP/1.1\r\nHost: {issuer}\r\n{credentials}\r\n"));
        // A TLS handshake, and then encrypted bytes.
        assert_eq!(tunnel[0], 0x16);
        let text = String::from_utf8_lossy(&tunnel);
        assert!(!["POST", "oauth/token", "client_credentials", "x-api-key"].iter().any(|part| text.contains(part)));
        let secrets = [sandbox.client_secret(), sandbox.client_id()];
        assert_eq!(shown_in(&text, &secrets), None);
    }
}

// The proxy resolves a host that this machine cannot resolve. The default port is that of https.
#[tokio::test]
async fn the_proxy_resolves_the_name_of_the_issuer() {
    for (url, target) in [
        ("https://issuer.invalid/token?tenant=7", "issuer.invalid:443"),
        ("https://Issuer.invalid:8443/token", "issuer.invalid:8443"),
        ("https://[2001:db8::1]/token", "[2001:db8::1]:443"),
    ] {
        let proxy = ConnectProxy::start(Behavior::Send("HTTP/1.1 403 Forbidden\r\n\r\n")).await;
        let through = HttpClient::builder().proxy(proxy.url()).build().unwrap();
        let error =
            client(url).http_client(through).build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap_err();
        assert!(error.to_string().to_ascii_lowercase().contains(target), "{error}");
        let (head, _) = proxy.bytes(0);
        assert_eq!(head.to_ascii_lowercase(), format!("connect {target} http/1.1\r\nhost: {target}\r\n\r\n"));
    }
}

// RFC 9110 section 15.2: any number of interim responses may come before the final one.
#[tokio::test]
async fn interim_responses_of_a_proxy_are_skipped() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let proxy = ConnectProxy::start(Behavior::OpenAfter(interim)).await;
    fetch(&sandbox, trusting(&sandbox).proxy(proxy.url())).await.unwrap();
    assert_eq!((proxy.connections(), sandbox.token_request_count()), (1, 1));
}

#[tokio::test]
async fn a_tunnel_is_reused() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let proxy = ConnectProxy::start(Behavior::Open).await;
    let client = trusting(&sandbox).proxy(proxy.url()).build().unwrap();
    let provider = settings(&sandbox).http_client(client).build().unwrap();
    for _ in 0..5 {
        provider.fetch(&(), &FetchContext::default()).await.unwrap();
    }
    assert_eq!((proxy.connections(), sandbox.token_request_count()), (1, 5));
}

#[tokio::test]
async fn the_error_names_a_proxy_that_opens_no_tunnel_and_the_issuer_receives_nothing() {
    const SHORT: Duration = Duration::from_millis(200);
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let table = [
        (
            Behavior::Send("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"),
            ErrorKind::Config,
            "407",
        ),
        // R62
        (Behavior::Send("HTTP/1.1 401 Unauthorized\r\n\r\n"), ErrorKind::Config, "user and the password of the proxy"),
        (
            Behavior::Send("HTTP/1.1 407 Denied\r\nProxy-Authenticate: Digest realm=\"CANARY\", nonce=\"x\"\r\n\r\n"),
            ErrorKind::Config,
            "accepts Digest only",
        ),
        (
            Behavior::Send("HTTP/1.1 407 Denied\r\nproxy-authenticate: NTLM\r\nproxy-authenticate: Basic\r\n\r\n"),
            ErrorKind::Config,
            "user and the password of the proxy",
        ),
        (Behavior::Send("HTTP/1.1 404 No such domain\r\n\r\n"), ErrorKind::Unavailable, "404"),
        (Behavior::Send(SQUID_DIGEST), ErrorKind::Config, "accepts Digest only"),
        (Behavior::Send(TINYPROXY_BASIC), ErrorKind::Config, "user and the password of the proxy"),
        (Behavior::Send(TINYPROXY_PORT), ErrorKind::Config, "allow CONNECT to this host and port"),
        // A failure of DNS at the proxy, or of the connection to the issuer.
        (Behavior::Send(SQUID_DNS), ErrorKind::Unavailable, "500 and cannot open"),
        (Behavior::Send(SQUID_CONNECT), ErrorKind::Unavailable, "503 and cannot open"),
        (Behavior::Send(TINYPROXY_DNS), ErrorKind::Unavailable, "500 and cannot open"),
        (Behavior::Send("HTTP/1.1 502 Bad Gateway\r\n\r\n"), ErrorKind::Unavailable, "502 and cannot open"),
        (Behavior::Send("HTTP/1.1 504 Gateway Timeout\r\n\r\n"), ErrorKind::Unavailable, "504 and cannot open"),
        (Behavior::Send("HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nCANARY"), ErrorKind::Config, "403"),
        (Behavior::Send("HTTP/1.1 302 Found\r\nLocation: https://CANARY.test\r\n\r\n"), ErrorKind::Config, "302"),
        (Behavior::Hang("HTTP/1.1 101 Switching Protocols\r\nUpgrade: CANARY\r\n\r\n"), ErrorKind::Config, "101"),
        (Behavior::Send("HTTP/1.0 502 Bad Gateway CANARY\r\n\r\n"), ErrorKind::Unavailable, "502"),
        (Behavior::Send("HTTP/1.1 429 Slow down\r\n\r\n"), ErrorKind::Unavailable, "429"),
        (Behavior::Send(""), ErrorKind::Unavailable, "closed the connection"),
        (Behavior::Send("HTTP/1.1 200 OK\r\n"), ErrorKind::Unavailable, "closed the connection"),
        (Behavior::Send("SSH-2.0-CANARY\r\n\r\n"), ErrorKind::MalformedResponse, "did not send an HTTP response"),
        (Behavior::Send("HTTP/1.1 2000 CANARY\r\n\r\n"), ErrorKind::MalformedResponse, "did not send an HTTP response"),
        (Behavior::Send("HTTP/1.1 200 OK\r\n\r\nCANARY"), ErrorKind::MalformedResponse, "sent bytes of its own"),
        (Behavior::Hang(""), ErrorKind::Timeout, "within 200ms"),
        (Behavior::Hang("HTTP/1.1 200 OK\r\n"), ErrorKind::Timeout, "within 200ms"),
    ];
    for (behavior, kind, what) in table {
        let proxy = ConnectProxy::start(behavior).await;
        let client = trusting(&sandbox).proxy(proxy.with_password()).connect_timeout(SHORT);
        let error = fetch(&sandbox, client).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.is_transient(), kind != ErrorKind::Config, "{error}");
        let shown = format!("{error} {error:?} {:?}", error.hint());
        assert!(shown.contains(&format!("the proxy at {}", proxy.address)), "{shown}");
        assert!(shown.contains(what), "{what}: {shown}");
        assert!(!shown.contains("CANARY"), "{shown}");
        assert_eq!(shown_in(&shown, &[PASSWORD]), None, "{shown}");
    }
    let endless =
        ConnectProxy::start(Behavior::Hang(Box::leak(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(9000)).into())))
            .await;
    let error = fetch(&sandbox, trusting(&sandbox).proxy(endless.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedResponse, "{error}");
    // Nothing listens on this port.
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = fetch(&sandbox, trusting(&sandbox).proxy(format!("http://{unused}"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&unused.to_string()), "{error}");
    assert_eq!(sandbox.token_request_count(), 0);
}

// The client checks the issuer's certificate, so a proxy cannot respond in its place.
#[tokio::test]
async fn a_proxy_that_responds_in_place_of_the_issuer_is_not_trusted() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let impostor = AccessPspSandbox::start().await.unwrap();
    let proxy = ConnectProxy::start(Behavior::Open).await;
    let client = HttpClient::builder().roots_pem(impostor.ca_pem()).proxy(proxy.url());
    let error = fetch(&sandbox, client).await.unwrap_err();
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    assert_eq!(proxy.connections(), 1);
    assert_eq!(sandbox.token_request_count(), 0);
}

#[tokio::test]
async fn clear_text_to_loopback_and_listed_hosts_bypass_the_proxy() {
    let proxy = ConnectProxy::start(Behavior::Open).await;
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    let through = HttpClient::builder().proxy(proxy.url()).build().unwrap();
    client(&wire.token_url()).http_client(through).build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap();
    assert_eq!((proxy.connections(), wire.connections()), (0, 1));
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let port = sandbox.issuer_origin().rsplit_once(':').unwrap().1.to_owned();
    let bypassing = ["127.0.0.1", "issuer.test, 127.0.0.0/8", "*", " *,x", &format!("127.0.0.1:{port}"), "127.0.0.1."];
    for list in bypassing {
        fetch(&sandbox, trusting(&sandbox).proxy(proxy.url()).no_proxy(list)).await.unwrap();
    }
    assert_eq!((proxy.connections(), sandbox.token_request_count()), (0, 6));
    for list in ["127.0.0.2", "issuer.test", "", "127.0.0.1:443"] {
        fetch(&sandbox, trusting(&sandbox).proxy(proxy.url()).no_proxy(list)).await.unwrap();
    }
    assert_eq!((proxy.connections(), sandbox.token_request_count()), (4, 10));
}

#[test]
fn an_invalid_proxy_is_rejected_by_name_and_never_printed() {
    for url in [
        "",
        "http://",
        "http://user:CANARY@",
        "https://CANARY.test:3128",
        "socks5://user:CANARY@proxy.test:1080",
        "http://proxy.test/CANARY",
        "http://proxy.test:99999",
        "http://proxy.test:",
        "http://proxy.test?CANARY",
        "http://us\u{0}er:CANARY@proxy.test",
        "http://us%3Aer:CANARY@proxy.test",
        "http://user:CANARY%0D%0A@proxy.test",
        "http://pro xy.test",
    ] {
        let builder = HttpClient::builder().proxy(url);
        let shown = format!("{builder:?}");
        let error = builder.build().unwrap_err();
        assert_eq!(error.setting(), "proxy", "{url}");
        assert!(error.to_string().starts_with("proxy: "), "{url}: {error}");
        assert!(!format!("{shown} {error} {error:?}").contains("CANARY"), "{error}");
    }
    for url in
        ["http://proxy.test", "HTTP://proxy.test:3128/", "proxy.test:3128", "http://u@[::1]:3128", " http://p:1 "]
    {
        HttpClient::builder().proxy(url).build().unwrap();
    }
    // R62
    let socks = HttpClient::builder().proxy("socks5h://proxy.test:1080").build().unwrap_err();
    assert!(socks.to_string().starts_with("proxy: it is a SOCKS proxy"), "{socks}");
    let both = HttpClient::builder().proxy("http://proxy.test").proxy_from_env().build().unwrap_err();
    assert!(both.to_string().starts_with("proxy: "), "{both}");
    let alone = HttpClient::builder().no_proxy("issuer.test").build().unwrap_err();
    assert!(alone.to_string().starts_with("no_proxy: "), "{alone}");
}

// If an invalid entry were ignored, requests would go to the proxy that must not go there.
#[test]
fn an_invalid_entry_of_no_proxy_is_rejected_by_name_and_never_printed() {
    for entry in [
        "10.0.0.*",
        "*CANARY",
        "CANARY.*",
        "*.*.test",
        "*:443",
        "*.",
        ".",
        "a..b",
        "http://CANARY.test",
        "/CANARY",
        "user@CANARY.test",
        "CANARY.test:",
        "CANARY.test:https",
        "CANARY.test:99999",
        "CANARY.test:+443",
        "10.0.0.0/33",
        "fd00::/129",
        "::ffff:10.0.0.0/95",
        "10.0.0.0/+8",
        "10.0.0.0/CANARY",
        "10.0.",
        "*.0.0.1",
        "[10.0.0.1]",
        "[CANARY]",
        "fe80::1%CANARY",
        "b\u{fc}cher.test",
    ] {
        for list in [entry.to_owned(), format!("issuer.test, {entry}")] {
            let builder = || HttpClient::builder().no_proxy(list.as_str());
            for builder in [builder().proxy("http://proxy.test"), builder().proxy_from_env()] {
                let error = builder.build().unwrap_err();
                assert_eq!(error.setting(), "no_proxy", "{entry}");
                assert!(error.to_string().starts_with("no_proxy: entry "), "{entry}: {error}");
                assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
            }
        }
    }
}

/// Runs the test below in a child process with these proxy variables and no others.
fn under(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(name);
    }
    let test = "token_endpoint::proxy::a_client_without_proxy_from_env_ignores_proxy_variables";
    let variables = variables.iter().map(|(name, value)| (*name, OsString::from(value)));
    let output = command.args(["--exact", test, "--nocapture"]).envs(variables).output().unwrap();
    let shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Lines of the child's test harness would look like results of this one.
    let shown: Vec<&str> = shown.lines().filter(|line| !line.starts_with("test ")).collect();
    let shown = shown.join("\n");
    assert!(output.status.success(), "{shown}");
    shown
}

// It must pass with any proxy variables. It prints the outcome with `proxy_from_env` for the test below.
#[tokio::test]
async fn a_client_without_proxy_from_env_ignores_proxy_variables() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    fetch(&sandbox, trusting(&sandbox)).await.unwrap();
    assert_eq!(sandbox.token_request_count(), 1);
    match fetch(&sandbox, trusting(&sandbox).proxy_from_env()).await {
        Ok(()) => println!("outcome: direct"),
        Err(error) => println!("outcome: {error}"),
    }
}

// Nothing listens on the ports of these proxies, so the error names the proxy that was used.
#[test]
fn proxy_from_env_uses_the_proxy_variables() {
    let (one, two) = ("http://user:CANARY@127.0.0.1:1", "127.0.0.1:2");
    let through = |port| format!("outcome: the proxy at 127.0.0.1:{port} could not be reached");
    let direct = String::from("outcome: direct");
    for (variables, expected) in [
        (vec![], direct.clone()),
        (vec![("HTTPS_PROXY", one)], through(1)),
        (vec![("https_proxy", two)], through(2)),
        (vec![("ALL_PROXY", one)], through(1)),
        (vec![("all_proxy", two)], through(2)),
        (vec![("HTTPS_PROXY", one), ("https_proxy", two), ("ALL_PROXY", two)], through(1)),
        (vec![("HTTPS_PROXY", ""), ("ALL_PROXY", two)], through(2)),
        // These are for clear text.
        (vec![("HTTP_PROXY", one), ("http_proxy", one)], direct.clone()),
        (vec![("HTTPS_PROXY", one), ("NO_PROXY", "issuer.test,127.0.0.1")], direct.clone()),
        (vec![("HTTPS_PROXY", one), ("no_proxy", "*")], direct.clone()),
        (vec![("HTTPS_PROXY", one), ("NO_PROXY", "issuer.test")], through(1)),
        (vec![("HTTPS_PROXY", one), ("NO_PROXY", "issuer.test 127.0.0.1.")], direct.clone()),
        (vec![("HTTPS_PROXY", one), ("NO_PROXY", "127.0.0.1:443")], through(1)),
        (vec![("HTTPS_PROXY", one), ("NO_PROXY", "issuer.test,127.0.0.*")], "outcome: NO_PROXY: entry 2 ".into()),
        (vec![("HTTPS_PROXY", one), ("no_proxy", "http://CANARY")], "outcome: no_proxy: entry 1 ".into()),
        (vec![("HTTPS_PROXY", "socks5://user:CANARY@127.0.0.1:1")], "outcome: HTTPS_PROXY: ".into()),
        (vec![("ALL_PROXY", "http://")], "outcome: ALL_PROXY: ".into()),
    ] {
        let shown = under(&variables);
        assert!(shown.contains(&expected), "{variables:?}: {shown}");
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}
