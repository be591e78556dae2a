//! Which slots of a chunk are over, where one before them is not: a writer or a reader was stopped in the middle.
//!
//! Whoever looks for messages would otherwise go over all of them for each message, as long as that lasts. A mark
//! stands for a group of slots, and is set by who saw that all of them are over. No mark tells nothing.

use crate::sys::atomic::{AtomicU64, Ordering};

/// The marks (low half) in one life of the chunk (high half).
#[repr(transparent)]
pub(crate) struct Over(AtomicU64);

impl Over {
    pub(crate) const GROUPS: u32 = 32;

    /// Whether marks were set in this life.
    pub(crate) fn is_of(&self, inc: u32) -> bool {
        self.0.load(Ordering::Relaxed) >> 32 == u64::from(inc)
    }

    pub(crate) fn has(&self, inc: u32, group: u32) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word >> 32 == u64::from(inc) && word & 1 << group != 0
    }

    /// Sets a mark. Who stalled over a former life sets none in this one.
    pub(crate) fn set(&self, inc: u32, group: u32) {
        let seen = self.0.load(Ordering::Relaxed);
        let marks = match seen >> 32 == u64::from(inc) {
            true => seen,
            false => u64::from(inc) << 32,
        };
        // One that another sets at the same time is missed, and set by the next who looks.
        let marked = marks | 1 << group;
        let _ = self
            .0
            .compare_exchange(seen, marked, Ordering::Relaxed, Ordering::Relaxed);
    }
}
