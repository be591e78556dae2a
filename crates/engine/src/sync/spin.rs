//! Looking again for a moment before going to sleep.
//!
//! A wake-up across processors costs tens of microseconds, so looking for about as long can at worst
//! double the wait. It is done only where two processors are there, and each place learns: when it was
//! in vain the next time is shorter.

use std::hint;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::deadline::monotonic_ns;
use crate::sys::cpu;

const LONGEST_NS: u32 = 50_000;
const FIRST_NS: u32 = 20_000;
/// Below this a spin is not worth its clock reads; now and then it is tried again.
const SHORTEST_NS: u32 = 1_000;
const RETRY_ONE_IN: u32 = 32;

/// What one place learned about spinning; of this process alone.
#[derive(Debug)]
pub(crate) struct Spin {
    nanos: AtomicU32,
    skipped: AtomicU32,
}

impl Default for Spin {
    fn default() -> Self {
        Spin {
            nanos: AtomicU32::new(FIRST_NS),
            skipped: AtomicU32::new(0),
        }
    }
}

impl Spin {
    /// Asks `ready` a few times more, for less than a microsecond.
    pub(crate) fn briefly<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        if cpu::available() < 2 || self.nanos.load(Ordering::Relaxed) < SHORTEST_NS {
            return None;
        }
        for _ in 0..4 {
            (0..4).for_each(|_| hint::spin_loop());
            if let Some(found) = ready() {
                return Some(found);
            }
        }
        None
    }

    /// Asks `ready` again and again for a bounded time.
    pub(crate) fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        if cpu::available() < 2 {
            return None;
        }
        let mut budget = self.nanos.load(Ordering::Relaxed);
        if budget < SHORTEST_NS {
            let skipped = self.skipped.fetch_add(1, Ordering::Relaxed);
            if !skipped.is_multiple_of(RETRY_ONE_IN) {
                return None;
            }
            budget = FIRST_NS;
        }
        let end = monotonic_ns() + u64::from(budget);
        loop {
            for _ in 0..16 {
                if let Some(found) = ready() {
                    let grown = (budget.saturating_mul(2)).min(LONGEST_NS);
                    self.nanos.store(grown, Ordering::Relaxed);
                    return Some(found);
                }
                for _ in 0..8 {
                    hint::spin_loop();
                }
            }
            if monotonic_ns() >= end {
                let shrunk = self.nanos.load(Ordering::Relaxed) / 2;
                self.nanos.store(shrunk, Ordering::Relaxed);
                return None;
            }
        }
    }
}
