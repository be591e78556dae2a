//! Marks for finished slots of a chunk that lie behind an unfinished one (its writer or reader was
//! stopped).
//!
//! Without the marks, each look for a message would visit all of them, for as long as that lasts. A
//! mark stands for a group of slots. A process sets it when it sees that all of them are finished.
//! A missing mark says nothing.

use crate::sys::atomic::{AtomicU64, Ordering};

/// The marks (low half) and the chunk's generation they belong to (high half).
#[repr(transparent)]
pub(crate) struct DoneMarks(AtomicU64);

impl DoneMarks {
    pub(crate) const GROUPS: u32 = 32;

    /// Whether a mark was set in this generation.
    pub(crate) fn is_of(&self, inc: u32) -> bool {
        self.0.load(Ordering::Relaxed) >> 32 == u64::from(inc)
    }

    pub(crate) fn has(&self, inc: u32, group: u32) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word >> 32 == u64::from(inc) && word & 1 << group != 0
    }

    /// Sets a mark. A process that stalled in an earlier generation cannot set one in this
    /// generation.
    pub(crate) fn set(&self, inc: u32, group: u32) {
        let seen = self.0.load(Ordering::Relaxed);
        let marks = match seen >> 32 == u64::from(inc) {
            true => seen,
            false => u64::from(inc) << 32,
        };
        // A mark that another process sets at the same time is lost. The next look sets it again.
        let marked = marks | 1 << group;
        let _ = self
            .0
            .compare_exchange(seen, marked, Ordering::Relaxed, Ordering::Relaxed);
    }
}
