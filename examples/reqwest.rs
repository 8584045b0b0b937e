//! Three ways to use reqwest: below the layer in a tower stack, with reqwest's own requests and responses; with a
//! `TokenSource` and without the layer; and as the client of token requests.
//!
//! ```sh
//! cargo run --example reqwest
//! ```

use http::{HeaderValue, Request, Response, StatusCode, header};
use reqwest::{Body, Certificate, Client, Url, redirect};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{AccessPsp, BoxError, TokenSource};
use tower_bearer_auth_sandbox::{AccessPspSandbox, ScriptedResponse};
use tower_http::follow_redirect::FollowRedirectLayer;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // If more than one cryptography is compiled in, as in this repository, reqwest needs a default of the process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let sandbox = AccessPspSandbox::start().await?;
    let client = Client::builder()
        .tls_certs_only([Certificate::from_pem(sandbox.ca_pem().as_bytes())?])
        .redirect(redirect::Policy::none())
        .no_proxy()
        .build()?;

    // The client as a tower service of `http` types, for API requests and for token requests.
    let http = ServiceBuilder::new()
        .map_response(Response::<Body>::from)
        .filter(|request: Request<Body>| reqwest::Request::try_from(request))
        .service(client.clone());
    let provider = AccessPsp::builder()
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .environment("sandbox")
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .http_client(TokenClient::new(http.clone()))
        .build()?;
    let source = TokenSource::new(provider);
    let bodies = Buffered::new(64 * 1024, |body: ReplayBody<Body>| Body::wrap(body));
    let api = ServiceBuilder::new().layer(source.layer().bodies(bodies)).service(http);

    // reqwest's builder makes the request, and reqwest's methods read the response.
    let url = format!("{}/echo", sandbox.api_origin());
    for what in ["tower stack, cold start", "tower stack, after a revocation"] {
        if what.ends_with("revocation") {
            sandbox.revoke_all();
        }
        let request = client.put(&url).body("the same body twice").build()?;
        let response = reqwest::Response::from(api.clone().oneshot(request.try_into()?).await?);
        let status = response.error_for_status()?.status();
        report(what, status, &sandbox)?;
    }

    // `FollowRedirect` is above the layer, so the layer checks the origin of each redirect.
    let foreign = sandbox.recorder().await?;
    let location = HeaderValue::from_str(&foreign.origin())?;
    sandbox.script_api(ScriptedResponse::new(StatusCode::FOUND).header(header::LOCATION, location));
    let following = ServiceBuilder::new().layer(FollowRedirectLayer::new()).service(api);
    let status = following.oneshot(client.get(&url).build()?.try_into()?).await?.status();
    report("tower stack, a redirect", status, &sandbox)?;

    // The same source without the layer. Both share one token.
    sandbox.revoke_all();
    let status = get(&client, &source, &sandbox.api_origin().parse()?, url.parse()?).await?.status();
    report("token source, after a revocation", status, &sandbox)?;
    let foreign_url = get(&client, &source, &sandbox.api_origin().parse()?, foreign.origin().parse()?).await;
    println!("token source, a foreign URL: {}", foreign_url.err().ok_or("the request was sent")?);

    let leaked = foreign.has_received(b"Bearer");
    println!("foreign server: {} request, with a token: {leaked}", foreign.request_count());
    if leaked || foreign.request_count() != 1 { Err("the foreign server received a token".into()) } else { Ok(()) }
}

/// Does by hand what the layer does, for an idempotent request.
async fn get(
    client: &Client,
    source: &TokenSource<AccessPsp>,
    api: &Url,
    url: Url,
) -> Result<reqwest::Response, BoxError> {
    // reqwest and this comparison use the same parser of URLs.
    if url.origin() != api.origin() {
        return Err("not a URL of the API".into());
    }
    let mut token = source.token().await?;
    let mut response = client.get(url.clone()).header(header::AUTHORIZATION, token.header_value()).send().await?;
    if response.status() == StatusCode::UNAUTHORIZED && source.reject(&(), &token) {
        token = source.token().await?;
        response = client.get(url).header(header::AUTHORIZATION, token.header_value()).send().await?;
    }
    if response.status().is_success() {
        source.accept(&token);
    }
    Ok(response)
}

/// Prints and checks what the servers counted since the last report.
fn report(what: &str, status: StatusCode, sandbox: &AccessPspSandbox) -> Result<(), BoxError> {
    let requests = sandbox.api_requests();
    let version = requests[0].version;
    let (sends, tokens) = (requests.len(), sandbox.token_request_count());
    println!("{what}: {status} over {version:?}, sent {sends} time(s), {tokens} token request");
    sandbox.reset_records();
    let expected = match what {
        _ if what.ends_with("cold start") => (1, 1),
        _ if what.ends_with("revocation") => (2, 1),
        _ => (1, 0),
    };
    if (status, (sends, tokens)) == (StatusCode::OK, expected) {
        Ok(())
    } else {
        Err("the counts differ from the expected ones".into())
    }
}
