//! The atomics of the protocols: the real ones, or loom's when the models run.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Between two accesses that are in one total order with others of the protocol.
///
/// Loom takes sequentially consistent accesses for acquire and release ones, and only fences for what they
/// are. The real accesses are in one total order without it.
#[inline(always)]
pub(crate) fn total_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
