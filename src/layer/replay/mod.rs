//! Whether a rejected request is replayed, and how its body is kept for that.
//!
//! There are two separate settings. [`bodies`](crate::BearerAuthLayer::bodies) sets how the layer keeps a copy of the
//! body. [`replay`](crate::BearerAuthLayer::replay) sets when the layer may send that copy. Without a complete copy, a
//! request is never replayed. [The guide](crate::guide::replay) has a table of all cases, and explains them for
//! payments.
//!
//! | setting | empty bodies | bodies that are `Clone` | streams |
//! |---|---|---|---|
//! | [`Off`] | not kept | not kept | not kept |
//! | [`Empty`] | kept | not kept | not kept |
//! | [`Cloned`] | kept | kept | not kept |
//! | [`Buffered`] | kept | kept | kept up to a limit, while they are sent |

mod bodies;
mod buffered;
mod mode;
mod saved;
mod saved_head;

pub use self::bodies::{Bodies, Cloned, Empty, Off};
pub use self::buffered::{Buffered, ReplayBody};
pub use self::mode::Mode;

pub(super) use self::bodies::wrap;
pub(super) use self::saved::{KeepCopy, Replayable, Restored, SavedRequest};
pub(super) use self::saved_head::SavedHead;
