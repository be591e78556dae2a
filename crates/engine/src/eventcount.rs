//! An event count: sleep until something is published elsewhere, without a lost wake-up.
//!
//! ```text
//! publisher: publish (SeqCst);  read the word (SeqCst);  sleepers? call them
//! sleeper:   announce (SeqCst); look for what is published (SeqCst);  sleep while the word is as announced
//! call:      count it;  wake;  nobody slept, and nobody announced since it was counted? no sleepers
//! ```
//!
//! The four accesses of publisher and sleeper are in one total order. So either the publisher sees
//! the sleeper announced, or the sleeper sees what was published. Release and acquire alone would
//! let both miss the other (store buffering). If nobody sleeps, publishing costs one load. What is
//! published by weaker accesses needs a fence on both sides: the functions that end in `fenced`.
//!
//! The process that calls, and the one that is woken, may be stopped or killed at any step. So the
//! announcement stays until a call finds nobody asleep; until then every publisher calls. A process
//! that falls asleep after a call was counted announced itself after that, and the last step of the
//! call sees it.

use crate::sys::atomic::{AtomicU32, Ordering, fence, total_order};

const SLEEPERS: u32 = 1;
const ANNOUNCED: u32 = 2;
const CALL: u32 = 4;

/// Bit 0: a process may be asleep. Bit 1: a process announced itself after the last call. Bits
/// 2-31: how often sleepers were called.
#[repr(transparent)]
#[cfg_attr(not(loom), derive(Debug, Default))]
pub(crate) struct EventCount(AtomicU32);

impl EventCount {
    #[cfg(loom)]
    pub(crate) fn new() -> EventCount {
        EventCount(AtomicU32::new(0))
    }

    /// The event count in a word that is zero at first.
    #[cfg(not(loom))]
    pub(crate) fn in_word(word: &AtomicU32) -> &EventCount {
        // SAFETY: `EventCount` is a transparent wrapper of this word.
        unsafe { &*std::ptr::from_ref(word).cast() }
    }

    /// Announces a sleeper. Returns the value that the word must still have when it falls asleep.
    pub(crate) fn announce(&self) -> u32 {
        let announced = SLEEPERS | ANNOUNCED;
        let announced = self.0.fetch_or(announced, Ordering::SeqCst) | announced;
        total_order();
        announced
    }

    /// As [`EventCount::announce`], before a look at words that were published by weaker accesses
    /// than `SeqCst`.
    pub(crate) fn announce_fenced(&self) -> u32 {
        let announced = self.announce();
        fence(Ordering::SeqCst);
        announced
    }

    /// The word to sleep on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Whether a process may be asleep. Call it after publishing with `SeqCst`.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        total_order();
        self.0.load(Ordering::SeqCst) & SLEEPERS != 0
    }

    /// As [`EventCount::is_awaited`], after publishing by weaker accesses than `SeqCst`.
    #[inline]
    pub(crate) fn is_awaited_fenced(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_awaited()
    }

    /// Keeps everybody who announced before this call from falling asleep, and wakes some of the
    /// sleepers. `wake` wakes them and returns how many there were.
    pub(crate) fn call(&self, wake: impl FnOnce(&AtomicU32) -> usize) {
        let counted = |word: u32| Some(word.wrapping_add(CALL) & !ANNOUNCED);
        let previous = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, counted);
        let now = previous.ok().and_then(counted);
        if wake(&self.0) == 0
            && let Some(now) = now
        {
            let no_sleepers = now & !SLEEPERS;
            let _ = self
                .0
                .compare_exchange(now, no_sleepers, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Wakes up to `count` sleepers, if there are any.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn notify(&self, count: u32) {
        if self.is_awaited() {
            self.wake(count);
        }
    }

    /// As [`EventCount::notify`], after publishing by weaker accesses than `SeqCst`.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn notify_fenced(&self, count: u32) {
        if self.is_awaited_fenced() {
            self.wake(count);
        }
    }

    /// A process that slept calls this before it goes on. `more`: something is left for another
    /// one.
    #[cfg(not(loom))]
    pub(crate) fn woke(&self, more: impl FnOnce() -> bool) {
        if self.is_awaited() && more() {
            self.wake(1);
        }
    }

    #[cfg(not(loom))]
    #[cold]
    fn wake(&self, count: u32) {
        self.call(|word| {
            crate::failpoint::hit("sync.called");
            crate::sys::futex::wake(word, count)
        });
    }
}

/// A point in time, before a look at what an event count announces: whether a queue has room, for example. If there was
/// none, another look is worthwhile once something was announced after this point.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventKey(pub(crate) u32);

#[cfg(not(loom))]
impl EventKey {
    pub(crate) fn now(events: &EventCount) -> EventKey {
        EventKey(events.announce())
    }

    pub(crate) fn is_over(self, events: &EventCount) -> bool {
        events.word().load(Ordering::SeqCst) != self.0
    }

    /// Passing on a wake-up that never came would itself be one.
    pub(crate) fn pass_on(self, events: &EventCount) {
        if self.is_over(events) {
            events.woke(|| true);
        }
    }
}
