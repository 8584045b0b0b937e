//! The gateway. `tests/stacks/` tests this file.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
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

/// Requests with a longer body are forwarded, but not replayed.
const REPLAY_LIMIT: usize = 64 * 1024;

/// Serves `/livez` and `/readyz`, and forwards all other requests to `upstream`, a scheme and an authority.
pub(crate) fn router<P: TokenProvider<Key = ()>>(upstream: Uri, layer: BearerAuthLayer<P>, https: Https) -> Router {
    let source = layer.source().clone();
    let client = layer.bodies(Buffered::new(REPLAY_LIMIT, Body::new as fn(ReplayBody<Body>) -> Body)).layer(https);
    Router::new()
        .route("/livez", routing::get(|| async { StatusCode::OK }))
        .route("/readyz", routing::get(async move || readiness(&source)))
        .fallback(move |request| forward(client, upstream, request))
}

/// The gateway is ready while it has a usable token. During an outage of the issuer it stays ready until the token expires.
fn readiness<P: TokenProvider<Key = ()>>(source: &TokenSource<P>) -> StatusCode {
    // Only requests start a fetch, and a gateway that is not ready receives none. So the probe starts the fetch that is due.
    if source.check_ready(&()).is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn forward<S>(client: S, upstream: Uri, mut request: Request) -> Response
where
    S: Service<Request, Response = http::Response<hyper::body::Incoming>, Error = BoxError>,
{
    // The response to TRACE would contain the token (RFC 9110 section 9.3.8), and CONNECT would open a tunnel.
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let mut target = upstream.into_parts();
    target.path_and_query = request.uri().path_and_query().cloned();
    let Ok(target) = Uri::from_parts(target) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = target;
    // The HTTP version of the caller does not matter upstream.
    *request.version_mut() = Version::HTTP_11;
    headers::drop_hop_by_hop(request.headers_mut());
    headers::join_cookies(request.headers_mut());
    headers::frame_body(&mut request);
    request.headers_mut().remove(header::HOST);
    // The layer replaces this header only if it stamps the request, and it does not stamp requests to foreign origins.
    request.headers_mut().remove(header::AUTHORIZATION);
    match client.oneshot(request).await {
        // The API rejected our token. The caller's credentials are not the cause.
        Ok(response) if response.status() == StatusCode::UNAUTHORIZED => StatusCode::BAD_GATEWAY.into_response(),
        Ok(response) => {
            let (mut head, body) = response.into_parts();
            headers::drop_hop_by_hop(&mut head.headers);
            Response::from_parts(head, Body::new(body))
        }
        Err(error) => error_response(&error),
    }
}

/// The statuses of the table in docs/errors.md: 502 if the upstream failed; 503 or 500 if there is no token.
///
/// 503 means that a retry may succeed, 500 that someone must change a setting. The reason goes to the log only, because it names
/// the issuer.
fn error_response(error: &BoxError) -> Response {
    let Some(ours) = Error::find(&**error) else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    eprintln!("no token: {ours}");
    if !ours.is_transient() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
    // Rounded up, so that the caller does not retry too early. Without a time it is one second.
    let seconds = ours.retry_after().unwrap_or_default().as_secs() + 1;
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}
