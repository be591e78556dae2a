//! Counts the slots of a chunk list that hold no message, where tasks are counted.
//!
//! The number of messages put is the number of claimed slots, minus those whose writer died. While
//! such a slot is being counted, a word names it. So it is counted once, whichever process helps or
//! dies:
//!
//! ```text
//! slot LOST     count n, no slot named --> n, this slot     slot LOST --> SKIPPED     n, this slot --> n + 1, none
//! ```
//!
//! The word is settled before a chunk begins another generation, so it never names a slot of an
//! earlier generation.

use crate::sys::atomic::{AtomicU64, Ordering};

/// Four million writers may die in one queue before the count wraps.
const COUNT: u32 = 42;
const INDEX: u32 = 32;

#[repr(transparent)]
pub(crate) struct SkippedCount(AtomicU64);

/// The word as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SkippedSeen(u64);

impl SkippedSeen {
    pub(crate) fn count(self) -> u64 {
        self.0 >> COUNT
    }

    /// The block of the chunk, and the index of the slot that is being counted.
    pub(crate) fn slot(self) -> Option<(u32, u32)> {
        let index = (self.0 >> INDEX) as u32 & ((1 << (COUNT - INDEX)) - 1);
        (self.0 as u32 != 0).then_some((self.0 as u32, index))
    }
}

impl SkippedCount {
    #[cfg(loom)]
    pub(crate) fn new() -> SkippedCount {
        SkippedCount(AtomicU64::new(0))
    }

    pub(crate) fn get(&self) -> SkippedSeen {
        SkippedSeen(self.0.load(Ordering::SeqCst))
    }

    /// Names a slot to be counted; `seen` named none.
    pub(crate) fn name(&self, seen: SkippedSeen, block: u32, index: u32) -> bool {
        self.swing(seen, seen.0 | u64::from(index) << INDEX | u64::from(block))
    }

    /// Counts the slot that `seen` names, after it became SKIPPED.
    pub(crate) fn count(&self, seen: SkippedSeen) -> bool {
        self.swing(seen, ((seen.0 >> COUNT) + 1) << COUNT)
    }

    fn swing(&self, from: SkippedSeen, to: u64) -> bool {
        self.0
            .compare_exchange(from.0, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}
