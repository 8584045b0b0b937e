//! What a token request contains, byte by byte.

use tower_bearer_auth::{ClientCredentials, ErrorKind, FetchContext, TokenProvider as _};

use super::wire::{GOOD, ID, Wire, client, http_response};

// Unusual secrets with `client_secret_post`: `:+/% &=` and non-ASCII characters (WHATWG form encoding).
#[tokio::test]
async fn the_form_has_the_documented_bytes() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    wire.client().fetch(&(), &FetchContext::default()).await.unwrap();
    let requests = wire.requests();
    let [request] = requests.as_slice() else {
        panic!("{} requests", requests.len());
    };
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        "grant_type=client_credentials&client_id=the-client\
         &client_secret=S3cret-CANARY%2Fwith%3A%2B%25%26%3D+%C3%BC"
    );
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("POST /oauth/token HTTP/1.1"));
    let mut headers: Vec<String> = lines.map(str::to_ascii_lowercase).collect();
    headers.sort();
    assert_eq!(
        headers,
        [
            String::from("accept-encoding: identity"),
            String::from("accept: application/json"),
            format!("content-length: {}", body.len()),
            String::from("content-type: application/x-www-form-urlencoded"),
            format!("host: {}", wire.origin().replace("http://", "")),
            format!("user-agent: tower-bearer-auth/{}", env!("CARGO_PKG_VERSION")),
        ]
    );
}

// R59: GitHub rejects a request without a User-Agent.
#[tokio::test]
async fn a_header_of_the_provider_replaces_the_user_agent() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    let provider = client(&wire.token_url()).token_header("User-Agent", "orders/7").build().unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    let request = wire.requests().remove(0).to_ascii_lowercase();
    assert!(request.contains("\r\nuser-agent: orders/7\r\n"), "{request}");
    assert!(!request.contains("tower-bearer-auth"), "{request}");
    // A request for metadata has one too.
    ClientCredentials::builder().discover(wire.origin()).await.map(drop).unwrap_err();
    let requests = wire.requests();
    let get = requests.iter().find(|request| request.starts_with("GET ")).unwrap().to_ascii_lowercase();
    assert!(get.contains("\r\nuser-agent: tower-bearer-auth/"), "{get}");
    assert!(get.contains("\r\naccept-encoding: identity\r\n"), "{get}");
}

#[tokio::test]
async fn a_scope_is_sent_only_if_it_is_set() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    let scoped = client(&wire.token_url()).scope("read write").build().unwrap();
    scoped.fetch(&(), &FetchContext::default()).await.unwrap();
    wire.client().fetch(&(), &FetchContext::default()).await.unwrap();
    let requests = wire.requests();
    assert!(requests[0].ends_with("&scope=read+write"), "{}", requests[0]);
    assert!(!requests[1].contains("scope"));
}

#[tokio::test]
async fn headers_for_token_requests_and_for_the_api_are_separate() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    let provider = client(&wire.token_url())
        .token_header("x-api-key", "for-the-issuer")
        .api_header("x-api-key", "for-the-api")
        .build()
        .unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    let request = wire.requests().remove(0).to_ascii_lowercase();
    assert!(request.contains("\r\nx-api-key: for-the-issuer\r\n"));
    assert!(!request.contains("for-the-api"));
    assert!(!request.contains("authorization"));
    let headers = provider.api_headers();
    assert_eq!(headers.len(), 1);
    assert_eq!(headers["x-api-key"], "for-the-api");
    assert!(headers["x-api-key"].is_sensitive());
}

// RFC 6749 section 3.2: a query of the token URL is kept.
#[tokio::test]
async fn the_query_of_the_token_url_is_kept() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    let url = format!("{}?tenant=7", wire.token_url());
    let provider = client(&url).build().unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    assert!(wire.requests()[0].starts_with("POST /oauth/token?tenant=7 HTTP/1.1\r\n"));
    assert_eq!(provider.label(), wire.origin());
}

// A secret in a file is read again for each fetch, and one trailing newline is removed.
#[tokio::test]
async fn a_secret_that_changes_in_its_file_is_used_by_the_next_fetch() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("rotating-secret");
    std::fs::write(&path, "old\n").unwrap();
    let provider =
        client(&wire.token_url()).client_secret(tower_bearer_auth::Secret::from_file(&path).unwrap()).build().unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    std::fs::write(&path, "new\r\n").unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    let sent = |secret: &str| format!("grant_type=client_credentials&client_id={ID}&client_secret={secret}");
    let requests = wire.requests();
    assert!(requests[0].ends_with(&sent("old")));
    assert!(requests[1].ends_with(&sent("new")));
}

#[tokio::test]
async fn an_invalid_secret_from_a_function_is_not_sent() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    for secret in ["", "a\nb", "a\0"] {
        let provider = client(&wire.token_url())
            .client_secret(tower_bearer_auth::Secret::from_fn(move || Ok(secret.into())))
            .build()
            .unwrap();
        let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with("client_secret: "), "{error}");
        assert!(!error.is_transient());
    }
    assert_eq!(wire.connections(), 0);
}
