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
//!
//! Calling takes the announcement out, though more may sleep than are woken. So whoever slept announces
//! again before it goes on, and lets one more look if something is left ([`EventCount::woke`]).

use crate::sys::atomic::{AtomicU32, Ordering, total_order};

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
        let announced = self.0.fetch_or(SLEEPERS, Ordering::SeqCst) | SLEEPERS;
        total_order();
        announced
    }

    /// The word to sleep on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Whether somebody may be asleep. To be asked after publishing with `SeqCst`.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        total_order();
        self.0.load(Ordering::SeqCst) & SLEEPERS != 0
    }

    /// Takes the announcement out and lets nobody fall asleep who announced before.
    pub(crate) fn call(&self) {
        let bump = |word: u32| Some(word.wrapping_add(BUMP) & !SLEEPERS);
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, bump);
    }

    /// Wakes up to `count` sleepers, if there are any.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn notify(&self, count: u32) {
        if self.is_awaited() {
            self.wake(count);
        }
    }

    /// To be called by whoever slept, before it goes on. `more`: something is left for another.
    #[cfg(not(loom))]
    pub(crate) fn woke(&self, more: impl FnOnce() -> bool) {
        self.announce();
        if more() {
            self.wake(1);
        }
    }

    #[cfg(not(loom))]
    #[cold]
    fn wake(&self, count: u32) {
        self.call();
        crate::kill::point("sync.called");
        crate::sys::futex::wake(&self.0, count);
    }
}
