//! A rejection in trailers.

use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_bearer_auth::{BoxError, TokenSource, grpc};

use super::*;
use crate::support::issuer::Issuer;

/// A call with a token that is rejected in late trailers.
pub(crate) async fn too_late() -> TokenSource<Issuer> {
    let source = TokenSource::new(Issuer::new().with_label("staging"));
    source.warm_up().await.unwrap();
    let layer = source.layer().allow_origin("https://api.example.com").unwrap();
    let client = grpc::layer(layer).layer(service_fn(async |_: http::Request<Full<bytes::Bytes>>| {
        let trailers = futures::stream::once(async {
            tokio::task::yield_now().await;
            let status = http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "16".parse().unwrap())]);
            Ok::<_, BoxError>(Frame::<bytes::Bytes>::trailers(status))
        });
        let body = StreamBody::new(Box::pin(trailers));
        Ok::<_, BoxError>(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
    }));
    let request = http::Request::post("https://api.example.com/test/Call").body(Full::default()).unwrap();
    client.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    source
}

// R73: a status that comes too late for a replay is a rejected request, with its reason.
#[tokio::test(start_paused = true)]
async fn a_rejection_that_comes_too_late_is_reported() {
    let capture = Capture::start();
    let source = too_late().await;

    let lines: Vec<_> = capture.named("request_not_replayed").iter().map(|event| event.line()).collect();
    assert_eq!(lines, ["DEBUG request_not_replayed generation=1 provider=staging reason=too_late"]);
    let labels = [("provider", "staging"), ("outcome", "too_late"), ("error", "none")];
    assert_eq!(capture.count("rejected_requests_total", &labels), 1);
    assert_eq!(capture.count("replays_total", &[]), 0);
    equal_to_stats(&capture, &source.stats());
}
