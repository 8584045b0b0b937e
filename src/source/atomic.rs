//! The atomics of `rotations`. `tests/loom` uses that file with loom's.

pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
