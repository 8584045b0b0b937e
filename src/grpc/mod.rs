//! gRPC: a status in trailers, and deadlines.
//!
//! [`BearerAuthLayer`](crate::BearerAuthLayer) alone reads the head of a response. Many gRPC servers send the status after it, in
//! trailers. [`layer()`] adds a layer below the main one that watches for them:
//!
//! | response | what happens |
//! | --- | --- |
//! | status 16 in the head (`Trailers-Only`) | as without this layer: the token is rejected, and the request is replayed |
//! | status 16 in trailers that are there with the head, without a message, or after one empty message | the same |
//! | status 16 in trailers in any other case | the token is rejected for later requests, and the caller gets the status |
//!
//! The layer holds nothing back, unless [`hold_head`](GrpcLayer::hold_head) is set. Responses of another content type than
//! `application/grpc*` are passed on.
//!
//! It also records when a request with a `grpc-timeout` was sent. The wait for a new token and the replay then have the time
//! that is left, and the header of the replay says so.
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_bearer_auth::{BearerAuthLayer, BoxError, FixedToken, grpc};
//! # use http::{Request, Response};
//! # use http_body_util::Full;
//! # async fn channel(_: Request<Full<bytes::Bytes>>) -> Result<Response<Full<bytes::Bytes>>, BoxError> {
//! #     Ok(Response::default())
//! # }
//! # fn main() -> Result<(), tower_bearer_auth::Error> {
//! let layer = BearerAuthLayer::new(FixedToken::new("opaque-token")?).allow_origin("https://api.example.com")?;
//! let client = ServiceBuilder::new().layer(grpc::layer(layer)).service(tower::service_fn(channel));
//! # let _: grpc::GrpcService<_, _, _> = client;
//! # Ok(()) }
//! ```
//!
//! [The guide](crate::guide::grpc) shows a stack with tonic.
//!
//! | file | contents |
//! |---|---|
//! | `body` | a response body that is watched |
//! | `watch` | the service below the main one |
//! | `service` | both services together |
//! | `layer` | the layer |
//! | `tonic_0_14` | the layer that gives errors a status code |

mod body;
mod layer;
mod service;
#[cfg(feature = "tonic-0_14")]
pub mod tonic_0_14;
mod watch;

pub use self::body::GrpcBody;
pub use self::layer::{GrpcLayer, layer};
pub use self::service::{GrpcFuture, GrpcService};
