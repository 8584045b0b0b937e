//! The code of the guide runs, before and after a migration.

use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[cfg(feature = "reqwest-middleware")]
mod middleware {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use http::header::RETRY_AFTER;
    use http::{Extensions, HeaderValue, StatusCode};
    use migration::errors::status_for;
    use migration::middleware::{after, before};
    use reqwest::{Certificate, Client, Request, Response, redirect};
    use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
    use tokio::sync::RwLock;
    use tower_bearer_auth::token_endpoint::HttpClient;
    use tower_bearer_auth::{AccessPsp, Audit, BearerAuthLayer, Deadline, ErrorKind, Unauthenticated};
    use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault};

    use super::Result;

    /// A middleware after the layer.
    #[derive(Clone, Default)]
    struct Counter(Arc<AtomicUsize>);

    #[async_trait]
    impl Middleware for Counter {
        async fn handle(
            &self,
            request: Request,
            extensions: &mut Extensions,
            next: Next<'_>,
        ) -> reqwest_middleware::Result<Response> {
            assert_eq!(extensions.get(), Some(&"of the caller"));
            self.0.fetch_add(1, Ordering::SeqCst);
            next.run(request, extensions).await
        }
    }

    fn client(sandbox: &AccessPspSandbox) -> Result<Client> {
        let roots = [Certificate::from_pem(sandbox.ca_pem().as_bytes())?];
        Ok(Client::builder().tls_certs_only(roots).redirect(redirect::Policy::none()).no_proxy().build()?)
    }

    async fn start() -> Result<(AccessPspSandbox, ClientWithMiddleware, Counter)> {
        let sandbox = AccessPspSandbox::start().await?;
        let provider = AccessPsp::builder()
            .environment("sandbox")
            .token_url(sandbox.token_url())
            .api_origin(sandbox.api_origin())
            .client_id(sandbox.client_id())
            .client_secret(sandbox.client_secret())
            .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
            .build()?;
        let counter = Counter::default();
        let bearer = after::Bearer::new(BearerAuthLayer::new(provider));
        let client = ClientBuilder::new(client(&sandbox)?).with(bearer).with(counter.clone()).build();
        Ok((sandbox, client, counter))
    }

    #[tokio::test]
    async fn the_middleware_before_the_migration_returns_the_401_of_an_old_token() -> Result<()> {
        let sandbox = AccessPspSandbox::start().await?;
        let bearer = before::Bearer(Arc::new(RwLock::new(HeaderValue::from_static("Bearer old"))));
        let client = ClientBuilder::new(client(&sandbox)?).with(bearer).build();
        let response = client.get(format!("{}/echo", sandbox.api_origin())).send().await?;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        Ok(())
    }

    #[tokio::test]
    async fn the_layer_as_a_middleware_replays_and_keeps_bodies_extensions_and_the_url() -> Result<()> {
        let (sandbox, client, counter) = start().await?;
        let url = format!("{}/echo", sandbox.api_origin());
        let put = || client.put(&url).with_extension("of the caller").body("the same body twice").send();
        assert_eq!(put().await?.status(), StatusCode::OK);
        sandbox.revoke_all();
        let response = put().await?;
        assert_eq!((response.status(), response.url().as_str()), (StatusCode::OK, url.as_str()));
        assert_eq!((sandbox.token_request_count(), sandbox.api_request_count()), (2, 3));
        assert_eq!(counter.0.load(Ordering::SeqCst), 3);
        assert!(sandbox.api_requests().iter().all(|request| request.body == "the same body twice"));
        Ok(())
    }

    // R84
    #[tokio::test]
    async fn a_request_that_was_not_sent_is_found_in_the_error_of_the_middlewares() -> Result<()> {
        let (sandbox, client, counter) = start().await?;
        sandbox.script_always(Fault::disabled_client());
        let request = client.get(format!("{}/echo", sandbox.api_origin())).with_extension("of the caller");
        let error = request.send().await.unwrap_err();
        let found = tower_bearer_auth::Error::find(&error).ok_or("nothing is found")?;
        assert_eq!(found.kind(), ErrorKind::InvalidCredentials);
        assert_eq!((sandbox.api_request_count(), counter.0.load(Ordering::SeqCst)), (0, 0));
        Ok(())
    }

    /// The response of a service to its own caller.
    fn response_for(error: reqwest_middleware::Error) -> http::Response<()> {
        let (status, retry_after) = status_for(&error.into());
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    // R84
    #[tokio::test]
    async fn a_request_that_was_not_sent_is_a_503_with_retry_after() -> Result<()> {
        let (sandbox, client, counter) = start().await?;
        let down = Fault::retry_after(StatusCode::SERVICE_UNAVAILABLE, HeaderValue::from_static("7"));
        sandbox.script_always(down);
        let request = client.post(format!("{}/echo", sandbox.api_origin())).with_extension("of the caller");
        let response = response_for(request.send().await.unwrap_err());
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let seconds: u64 = response.headers()[RETRY_AFTER].to_str()?.parse()?;
        assert!((7..=37).contains(&seconds), "{seconds}");
        assert_eq!((sandbox.api_request_count(), counter.0.load(Ordering::SeqCst)), (0, 0));
        Ok(())
    }

    // R84: the error names no time, because the token request continues.
    #[tokio::test]
    async fn a_request_that_reaches_its_deadline_without_a_token_is_a_503_with_retry_after() -> Result<()> {
        let (sandbox, client, counter) = start().await?;
        sandbox.hold_issuer();
        let request = client.get(format!("{}/echo", sandbox.api_origin())).with_extension("of the caller");
        let request = request.with_extension(Deadline::after(Duration::from_millis(1)));
        let error = request.send().await.unwrap_err();
        let found = tower_bearer_auth::Error::find(&error).ok_or("nothing is found")?;
        assert_eq!((found.kind(), found.retry_after()), (ErrorKind::Timeout, None));
        let response = response_for(error);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!((sandbox.api_request_count(), counter.0.load(Ordering::SeqCst)), (0, 0));
        Ok(())
    }

    #[tokio::test]
    async fn an_unauthenticated_request_has_no_token_and_its_401_is_not_replayed() -> Result<()> {
        let (sandbox, client, counter) = start().await?;
        let get = || client.get(format!("{}/echo", sandbox.api_origin())).with_extension("of the caller");
        let response = get().with_extension(Unauthenticated).send().await?;
        assert_eq!((response.status(), counter.0.load(Ordering::SeqCst)), (StatusCode::UNAUTHORIZED, 1));
        assert!(!sandbox.api_requests()[0].headers.contains_key("authorization"));
        assert_eq!(sandbox.token_request_count(), 0);

        // The same request with a token that is rejected once.
        sandbox.reject_next(1);
        let response = get().send().await?;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.extensions().get::<Audit>().ok_or("no audit")?.sends, 2);
        assert_eq!((counter.0.load(Ordering::SeqCst), sandbox.token_request_count()), (3, 2));
        Ok(())
    }

    #[tokio::test]
    async fn a_foreign_url_gets_no_token_and_errors_of_reqwest_keep_their_type() -> Result<()> {
        let (sandbox, client, _) = start().await?;
        let foreign = sandbox.recorder().await?;
        let get = |url: String| client.get(url).with_extension("of the caller").send();
        get(foreign.origin()).await?;
        assert_eq!((foreign.request_count(), foreign.has_received(b"Bearer")), (1, false));
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://{}", closed.local_addr()?);
        drop(closed);
        let error = get(url).await.unwrap_err();
        assert!(matches!(&error, reqwest_middleware::Error::Reqwest(error) if error.is_connect()), "{error:?}");
        Ok(())
    }
}

#[cfg(feature = "oauth2")]
mod oauth2_crate {
    use std::collections::BTreeSet;
    use std::process::Stdio;

    use migration::oauth2_crate::before;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::process::Command;

    use super::Result;

    const ID: &str = "orders";
    const SECRET: &str = "100 % secret: a+b";

    /// Responds to one request whose head and body are complete. Returns its `Authorization` header and its body.
    async fn respond(
        listener: &TcpListener,
        is_complete: fn(&str) -> bool,
        status: &str,
        content: &str,
    ) -> Result<(Option<String>, String)> {
        let (mut connection, _) = listener.accept().await?;
        let mut request = String::new();
        let mut buffer = [0; 4096];
        let (head, body) = loop {
            let read = connection.read(&mut buffer).await?;
            request.push_str(std::str::from_utf8(&buffer[..read])?);
            if let Some((head, body)) = request.split_once("\r\n\r\n")
                && is_complete(body)
            {
                break (head, body);
            }
        };
        let head_of_response = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n");
        let response = format!("{head_of_response}content-length: {}\r\n\r\n{content}", content.len());
        connection.write_all(response.as_bytes()).await?;
        let value = head.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization: "));
        let value = value.map(|line| line["authorization: ".len()..].to_owned());
        Ok((value, body.to_owned()))
    }

    /// Responds to one token request, and returns its `Authorization` header and the fields of its form.
    async fn issue(listener: &TcpListener) -> Result<(Option<String>, BTreeSet<String>)> {
        let json = r#"{"access_token":"opaque-token","token_type":"bearer","expires_in":1800}"#;
        let (basic, body) = respond(listener, |body| body.contains("scope=orders"), "200 OK", json).await?;
        Ok((basic, body.split('&').map(str::to_owned).collect()))
    }

    /// The client after the migration, with this listener as its issuer and its API.
    fn client(origin: &str) -> Command {
        let mut client = Command::new(env!("CARGO_BIN_EXE_orders"));
        client
            .env("ORDERS_URL", format!("{origin}/orders"))
            .env("ORDERS_TOKEN_URL", format!("{origin}/token"))
            .env("ORDERS_CLIENT_ID", ID)
            .env("ORDERS_CLIENT_SECRET", SECRET)
            .env("HTTPS_PROXY", "")
            .env_remove("https_proxy")
            .env_remove("ALL_PROXY")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        client
    }

    #[tokio::test]
    async fn both_send_the_same_token_request_and_the_status_of_the_api_is_checked() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let (sent, token) = tokio::join!(issue(&listener), async {
            let url = format!("{origin}/token");
            before::token(url, ID.to_owned(), SECRET.to_owned()).await.map_err(|error| error.to_string())
        });
        assert_eq!(token?, "opaque-token");
        let sent = sent?;
        assert!(sent.0.is_some());
        for (status, is_success) in [("200 OK", true), ("403 Forbidden", false)] {
            let ended = client(&origin).spawn()?.wait_with_output();
            tokio::pin!(ended);
            let served = async {
                let sent_after = issue(&listener).await?;
                let (stamped, _) = respond(&listener, |_| true, status, "the orders").await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>((sent_after, stamped))
            };
            let (sent_after, stamped) = tokio::select! {
                served = served => served?,
                output = &mut ended => return Err(format!("it ended early: {output:?}").into()),
            };
            assert_eq!(sent, sent_after);
            assert_eq!(stamped.as_deref(), Some("Bearer opaque-token"));
            let output = ended.await?;
            assert_eq!(output.status.success(), is_success, "{output:?}");
            assert_eq!(output.stdout, if is_success { "the orders" } else { "" }.as_bytes());
        }
        Ok(())
    }

    #[tokio::test]
    async fn the_client_after_reads_the_proxy_variables_that_reqwest_reads() -> Result<()> {
        // A proxy that this crate does not support shows that the variable is read, and the error sends nothing.
        for name in ["HTTPS_PROXY", "ALL_PROXY"] {
            let output = client("http://127.0.0.1:9").env(name, "socks5://127.0.0.1:9").output().await?;
            let error = String::from_utf8(output.stderr)?;
            assert!(!output.status.success() && error.contains(name) && error.contains("SOCKS"), "{error}");
        }
        Ok(())
    }
}

#[cfg(feature = "kube")]
mod kube_auth_layer {
    use http::{Request, StatusCode};
    use kube::Config;
    use migration::kube_auth_layer::{after, before};
    use tower_bearer_auth::AccessPsp;
    use tower_bearer_auth::token_endpoint::HttpClient;
    use tower_bearer_auth_sandbox::AccessPspSandbox;

    use super::Result;

    fn config(sandbox: &AccessPspSandbox) -> Result<Config> {
        let mut config = Config::new(sandbox.api_origin().parse()?);
        let pem: String = sandbox.ca_pem().lines().filter(|line| !line.starts_with("---")).collect();
        config.root_cert = Some(vec![decode(&pem)]);
        Ok(config)
    }

    /// Decodes base64, because kube wants DER.
    fn decode(text: &str) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digits: Vec<_> = text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)).collect();
        let bytes = digits.chunks(4).flat_map(|chunk| {
            let word = chunk.iter().fold(0, |word, digit| word << 6 | digit) << (6 * (4 - chunk.len()));
            let [_, bytes @ ..] = u32::try_from(word).unwrap().to_be_bytes();
            bytes.into_iter().take(chunk.len() - 1)
        });
        bytes.collect()
    }

    // R85: kube with its default features, and this crate with ring.
    #[tokio::test]
    async fn the_layer_stamps_and_refreshes_in_place_of_the_one_of_kube() -> Result<()> {
        let sandbox = AccessPspSandbox::start().await?;
        let echo = || Request::get("/echo").body(Vec::new());
        let before = before::client(config(&sandbox)?)?;
        assert!(before.request_text(echo()?).await.is_err());
        assert_eq!(sandbox.api_requests()[0].status, Some(StatusCode::UNAUTHORIZED));
        sandbox.reset_records();

        let provider = AccessPsp::builder()
            .environment("sandbox")
            .token_url(sandbox.token_url())
            .api_origin(sandbox.api_origin())
            .client_id(sandbox.client_id())
            .client_secret(sandbox.client_secret())
            .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
            .build()?;
        let after = after::client(config(&sandbox)?, provider)?;
        after.request_text(echo()?).await?;
        sandbox.revoke_all();
        assert!(after.request_text(echo()?).await.is_err());
        after.request_text(echo()?).await?;
        let statuses: Vec<_> = sandbox.api_requests().iter().map(|request| request.status).collect();
        assert_eq!(statuses, [StatusCode::OK, StatusCode::UNAUTHORIZED, StatusCode::OK].map(Some));
        assert_eq!(sandbox.token_request_count(), 2);
        Ok(())
    }
}
