//! Threads that look for results themselves, and the watching thread, which keeps out of their way.
//!
//! Usually a result wakes the thread that watches the task queue, and that thread wakes the one that waits for the
//! result. A thread that has just begun to wait for a short task does better to look itself: then nobody has to be
//! woken. This works only while the watching thread does not sleep where workers would wake it. While other threads
//! look, and for a moment after one of them found something, the watching thread naps here instead. A thread that
//! gives up ends the nap.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::deadline::{Deadline, monotonic_ns};
use crate::eventcount::EventCount;
use crate::sync::spin::Spin;
use crate::sys::futex;

/// The longest nap. A death is noticed later by at most this time.
const NAP: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct Assistants {
    active: AtomicU32,
    /// When a thread last found its result, in nanoseconds; zero when the last thread to leave gave up.
    last_success: AtomicU64,
    pub(super) spin: Spin,
    /// Announces that a thread gave up.
    given_up: EventCount,
}

impl Assistants {
    /// The calling thread begins to look for results.
    pub(super) fn enter(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
    }

    /// The calling thread stops looking.
    pub(super) fn leave(&self, successful: bool) {
        let now = if successful { monotonic_ns() } else { 0 };
        self.last_success.store(now, Ordering::SeqCst);
        self.active.fetch_sub(1, Ordering::SeqCst);
        if !successful {
            self.given_up.notify(u32::MAX);
        }
    }

    fn is_needed(&self) -> bool {
        let nap = NAP.as_nanos() as u64;
        self.active.load(Ordering::SeqCst) > 0
            || monotonic_ns() < self.last_success.load(Ordering::SeqCst).saturating_add(nap)
    }

    /// Naps once if other threads look for results; false if none does.
    pub(super) fn nap(&self) -> bool {
        let key = self.given_up.announce();
        if !self.is_needed() {
            return false;
        }
        futex::wait(self.given_up.word(), key, Deadline::after(NAP));
        true
    }
}
