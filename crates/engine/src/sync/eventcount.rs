//! Sleeping until something is published elsewhere, without a lost wake-up.
//!
//! ```text
//! publisher: publish (SeqCst);  look at the word (SeqCst);  sleepers? bump it and wake
//! sleeper:   announce (SeqCst); look for what is published (SeqCst);  sleep while the word is unbumped
//! ```
//!
//! The four accesses are in one total order, so either the publisher sees the sleeper announced or the
//! sleeper sees what was published. Release and acquire alone would let both look away (store
//! buffering). When nobody sleeps, publishing costs one load.

use crate::sys::atomic::{AtomicU32, Ordering};

const SLEEPERS: u32 = 1;
const BUMP: u32 = 2;

/// Bit 0: somebody may be asleep. Bits 1-31: how often sleepers were called.
#[repr(transparent)]
pub(crate) struct EventCount(AtomicU32);

impl EventCount {
    #[cfg(loom)]
    pub(crate) fn new() -> EventCount {
        EventCount(AtomicU32::new(0))
    }

    /// Announces a sleeper; what the word must still be when it falls asleep.
    pub(crate) fn announce(&self) -> u32 {
        self.0.fetch_or(SLEEPERS, Ordering::SeqCst) | SLEEPERS
    }

    /// The word to sleep on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Whether somebody may be asleep. To be asked after publishing with `SeqCst`.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.load(Ordering::SeqCst) & SLEEPERS != 0
    }

    /// Lets nobody fall asleep who announced before; what the word is then.
    pub(crate) fn bump(&self) -> u32 {
        self.0.fetch_add(BUMP, Ordering::SeqCst).wrapping_add(BUMP)
    }

    /// Nobody was left asleep after `bump` gave `bumped`: takes the announcement out.
    ///
    /// Whoever announced since then did not change the word, finds it changed now and looks again.
    pub(crate) fn settle(&self, bumped: u32) {
        let _ = self.0.compare_exchange(
            bumped | SLEEPERS,
            bumped & !SLEEPERS,
            Ordering::SeqCst,
            Ordering::Relaxed,
        );
    }

    /// Wakes up to `count` sleepers, if there are any.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn notify(&self, count: u32) {
        if self.is_awaited() {
            self.wake(count);
        }
    }

    #[cfg(not(loom))]
    #[cold]
    fn wake(&self, count: u32) {
        let bumped = self.bump();
        crate::kill::point("sync.bumped");
        if crate::sys::futex::wake(&self.0, count) < count as usize {
            self.settle(bumped);
        }
    }
}
