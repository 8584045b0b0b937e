//! The tower face: stamps requests, reads answers, and sends a refused request again.
//!
//! | file | what it holds |
//! |---|---|
//! | `layer` | settings |
//! | `service` | from a request to its first sending |
//! | `lease` | the token that a service stamped last |
//! | `future` | the states from there on |
//! | `answer` | what an answer says, and what a refusal comes to |
//! | `heal` | between a refusal and the second sending |
//! | `replay`, `buffered` | faithful copies of bodies |
//! | `copy` | the copy of a request that waits for its answer |
//! | `audit` | what a response says of how it came about |

mod answer;
mod audit;
mod buffered;
mod copy;
mod future;
mod heal;
#[expect(clippy::module_inception, reason = "the files of a tower middleware are named by role")]
mod layer;
mod lease;
pub mod replay;
mod service;

pub use self::audit::{Audit, ReplayOutcome};
pub use self::future::ResponseFuture;
pub use self::layer::BearerAuthLayer;
pub use self::service::BearerAuth;
