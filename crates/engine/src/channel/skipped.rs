//! How many slots of a chain stand for no message, where tasks are counted.
//!
//! All messages that were put are as many as slots were claimed, but for those whose writer died. One of those is
//! counted in a word that names it meanwhile, so that it is counted once, whoever helps and whoever dies:
//!
//! ```text
//! slot LOST     count n, nobody's slot --> n, this slot     slot LOST --> SKIPPED     n, this slot --> n + 1, nobody's
//! ```
//!
//! Before a chunk begins another life the word is settled, so no slot of that life is named by it.

use crate::sys::atomic::{AtomicU64, Ordering};

/// Four million writers may die in one queue before the count begins anew.
const COUNT: u32 = 42;
const INDEX: u32 = 32;

#[repr(transparent)]
pub(crate) struct Pads(AtomicU64);

/// The word as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenPads(u64);

impl SeenPads {
    pub(crate) fn count(self) -> u64 {
        self.0 >> COUNT
    }

    /// The chunk's block and the slot that are being counted.
    pub(crate) fn slot(self) -> Option<(u32, u32)> {
        let index = (self.0 >> INDEX) as u32 & ((1 << (COUNT - INDEX)) - 1);
        (self.0 as u32 != 0).then_some((self.0 as u32, index))
    }
}

impl Pads {
    #[cfg(loom)]
    pub(crate) fn new() -> Pads {
        Pads(AtomicU64::new(0))
    }

    pub(crate) fn get(&self) -> SeenPads {
        SeenPads(self.0.load(Ordering::SeqCst))
    }

    /// Names a slot that is to be counted; `seen` named none.
    pub(crate) fn name(&self, seen: SeenPads, block: u32, index: u32) -> bool {
        self.swing(seen, seen.0 | u64::from(index) << INDEX | u64::from(block))
    }

    /// Counts the slot that `seen` names, once that says SKIPPED.
    pub(crate) fn count(&self, seen: SeenPads) -> bool {
        self.swing(seen, ((seen.0 >> COUNT) + 1) << COUNT)
    }

    fn swing(&self, from: SeenPads, to: u64) -> bool {
        self.0
            .compare_exchange(from.0, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}
