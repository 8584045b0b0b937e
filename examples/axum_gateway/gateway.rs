//! The gateway itself. `tests/stacks.rs` drives this file.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use futures::FutureExt;
use http::header;
use http::{Method, StatusCode, Uri, Version};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use tower::{Layer, Service, ServiceExt};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{BearerAuthLayer, BoxError, Error, TokenProvider, TokenSource};

#[path = "headers.rs"]
mod headers;

pub(crate) type Https = Client<HttpsConnector<HttpConnector>, Body>;

/// Up to this size a request can be sent again after a refusal. Longer ones pass through just the same.
const KEPT: usize = 64 * 1024;

/// `/livez` and `/readyz` are the gateway's own. Everything else goes to `upstream`, a scheme and an authority.
pub(crate) fn router<P: TokenProvider<Key = ()>>(upstream: Uri, layer: BearerAuthLayer<P>, https: Https) -> Router {
    let source = layer.source().clone();
    let client = layer.bodies(Buffered::new(KEPT, Body::new as fn(ReplayBody<Body>) -> Body)).layer(https);
    Router::new()
        .route("/livez", routing::get(|| async { StatusCode::OK }))
        .route("/readyz", routing::get(async move || readiness(&source)))
        .fallback(move |request| pass_on(client, upstream, request))
}

/// Ready as long as a token is usable: an outage of the issuer does not show before the token's end.
fn readiness<P: TokenProvider<Key = ()>>(source: &TokenSource<P>) -> StatusCode {
    // Nothing renews a token without a request, and who is not ready gets none: so a probe asks as well, and does not wait.
    let _ = source.token().now_or_never();
    if source.status().is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn pass_on<S>(client: S, upstream: Uri, mut request: Request) -> Response
where
    S: Service<Request, Response = http::Response<hyper::body::Incoming>, Error = BoxError>,
{
    // The answer to TRACE would show the token to the caller (RFC 9110 section 9.3.8), and CONNECT asks for a tunnel.
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let mut target = upstream.into_parts();
    target.path_and_query = request.uri().path_and_query().cloned();
    let Ok(target) = Uri::from_parts(target) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = target;
    // Each side has a version of its own; the client's connection decides about this one.
    *request.version_mut() = Version::HTTP_11;
    headers::drop_hop_by_hop(request.headers_mut());
    headers::join_cookies(request.headers_mut());
    headers::frame_body(&mut request);
    request.headers_mut().remove(header::HOST);
    // The layer replaces it where it stamps. It does not stamp what goes to an origin that is not allowed.
    request.headers_mut().remove(header::AUTHORIZATION);
    match client.oneshot(request).await {
        // It was our token that was refused, and no credentials of the caller's.
        Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => StatusCode::BAD_GATEWAY.into_response(),
        Ok(answer) => {
            let (mut head, body) = answer.into_parts();
            headers::drop_hop_by_hop(&mut head.headers);
            Response::from_parts(head, Body::new(body))
        }
        Err(error) => error_response(&error),
    }
}

/// By the table of docs/errors.md: 502 where the upstream failed. Where there is no token, nothing was sent: 503 if that may
/// pass, 500 if a setting has to change. Why is for the log: it names the issuer, and the caller can mend nothing.
fn error_response(error: &BoxError) -> Response {
    let Some(ours) = Error::find(&**error) else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    eprintln!("no token: {ours}");
    if !ours.is_transient() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let mut answer = StatusCode::SERVICE_UNAVAILABLE.into_response();
    if let Some(wait) = ours.retry_after() {
        // Rounded up: a caller that comes too early is told the same once more.
        answer.headers_mut().insert(header::RETRY_AFTER, (wait.as_secs() + 1).into());
    }
    answer
}
