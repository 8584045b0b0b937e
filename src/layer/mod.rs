//! The middleware: it stamps requests, reads responses, and replays a rejected request.
//!
//! A file uses only files above it in this table, and nothing here reads a clock.
//!
//! | file | contents |
//! |---|---|
//! | `api_headers` | the provider's headers for API requests, which may change |
//! | `audit` | how often a request was sent, and with which token |
//! | `replay/` | when a request is replayed, and how a copy of it is kept |
//! | `settings` | the settings of a layer, and the methods that prepare a request |
//! | `cached_grant` | the token that one service keeps between its requests |
//! | `response` | the methods of the settings that read a response |
//! | `replaying` | from a rejection to the replay |
//! | `future` | from the first send to the response |
//! | `service` | from a request to its first send |
//! | `layer` | the layer and its builder methods |

mod api_headers;
mod audit;
mod cached_grant;
mod future;
#[expect(clippy::module_inception, reason = "the files of a tower middleware are named by role")]
mod layer;
pub mod replay;
mod replaying;
mod response;
mod service;
mod settings;

pub use self::audit::{Audit, ReplayOutcome};
pub use self::future::ResponseFuture;
pub use self::layer::BearerAuthLayer;
pub use self::service::BearerAuth;
pub use self::settings::OnForeignOrigin;
