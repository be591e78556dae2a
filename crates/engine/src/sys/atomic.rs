//! The atomics of the protocols: the real ones, or loom's when the models run.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Put between two accesses that must be in one total order with other accesses of the protocol.
///
/// Loom treats sequentially consistent accesses as acquire and release ones, and only fences as what they are. The real
/// accesses are in one total order without a fence.
#[inline(always)]
pub(crate) fn total_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
