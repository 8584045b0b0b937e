use async_trait::async_trait;
use http::Extensions;
use reqwest::{Body, Request, Response, ResponseBuilderExt as _};
use reqwest_middleware::{Error, Middleware, Next, Result};
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{BearerAuthLayer, BoxError, TokenProvider};

type Bodies = Buffered<fn(ReplayBody<Body>) -> Body>;

/// Stamps requests, and sends one again after its token was rejected.
pub struct Bearer<P: TokenProvider>(BearerAuthLayer<P, Bodies>);

impl<P: TokenProvider> Bearer<P> {
    pub fn new(layer: BearerAuthLayer<P>) -> Self {
        Self(layer.bodies(Buffered::new(64 * 1024, Body::wrap)))
    }
}

#[async_trait]
impl<P: TokenProvider> Middleware for Bearer<P> {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let url = request.url().clone();
        // The layer calls it once for each send.
        let rest = tower::service_fn(|request: http::Request<Body>| {
            let (next, mut extensions) = (next.clone(), extensions.clone());
            async move {
                let response = next
                    .run(Request::try_from(request)?, &mut extensions)
                    .await?;
                Ok::<_, Error>(http::Response::<Body>::from(response))
            }
        });
        let mut request = http::Request::try_from(request)?;
        request.extensions_mut().extend(extensions.clone()); // for example `Unauthenticated`
        let response = self.0.layer(rest).oneshot(request).await;
        let (mut parts, body) = response.map_err(to_error)?.into_parts();
        // reqwest reads the URL of a response from a private extension.
        let of_url = http::Response::builder()
            .url(url)
            .body(())
            .map_err(Error::middleware)?;
        parts.extensions.extend(of_url.into_parts().0.extensions);
        Ok(http::Response::from_parts(parts, body).into())
    }
}

fn to_error(error: BoxError) -> Error {
    error.downcast().map_or_else(
        |error| Error::Middleware(anyhow::Error::from_boxed(error)),
        |error| *error,
    )
}
