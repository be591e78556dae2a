//! Threads that look for results themselves, and the one that stands aside meanwhile.
//!
//! A result usually wakes the thread that watches the task queue, which wakes the thread that waits for the result. A
//! thread that has just begun to wait, and whose task is short, does better to look itself: nobody has to
//! be woken then. For that the watching thread must not sleep where workers would wake it. While others look, and for
//! a moment after one of them found something, it naps here instead; one that gives up ends the nap.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::deadline::monotonic_ns;
use crate::sync::spin::Spin;

/// The longest nap: a death is noticed so much later.
const NAP: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct Aside {
    looking: AtomicU32,
    /// When somebody found what it looked for, in nanoseconds; zero when the last one gave up.
    found: AtomicU64,
    pub(super) spin: Spin,
    napping: Mutex<()>,
    over: Condvar,
}

impl Aside {
    /// Somebody looks for results.
    pub(super) fn enter(&self) {
        self.looking.fetch_add(1, Ordering::SeqCst);
    }

    /// It does so no more.
    pub(super) fn leave(&self, successful: bool) {
        let found = if successful { monotonic_ns() } else { 0 };
        self.found.store(found, Ordering::SeqCst);
        self.looking.fetch_sub(1, Ordering::SeqCst);
        if !successful {
            // Within the lock: who is about to nap looked before, or hears this.
            let _napping = self.napping.lock().unwrap_or_else(PoisonError::into_inner);
            self.over.notify_all();
        }
    }

    fn is_needed(&self) -> bool {
        let nap = NAP.as_nanos() as u64;
        self.looking.load(Ordering::SeqCst) > 0
            || monotonic_ns() < self.found.load(Ordering::SeqCst).saturating_add(nap)
    }

    /// Naps once if others look for results; false if nobody does.
    pub(super) fn nap(&self) -> bool {
        let napping = self.napping.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_needed() {
            return false;
        }
        let _ = self.over.wait_timeout(napping, NAP);
        true
    }
}
