//! Looking again for a moment before going to sleep.
//!
//! A wake-up across processors costs tens of microseconds, so looking for about as long can at worst
//! double the wait. It is done only where two processors are there, and each place learns: when it was
//! in vain the next time is shorter.
//!
//! Each look takes the memory looked at away from the processor that is about to write there. Between two
//! who hand over one thing at a time, looking often is right; in a stream it slows the writer down, and
//! looking seldom lets several things gather. Which it is shows when a longer pause is tried: now and then
//! one is, and if more than one thing had come ([`Spin::hit`]), the pauses stay long.

use std::hint;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::deadline::monotonic_ns;
use crate::sys::cpu;

const LONGEST_NS: u32 = 50_000;
const FIRST_NS: u32 = 20_000;
/// Below this a spin is not worth its clock reads; now and then it is tried again.
const SHORTEST_NS: u32 = 1_000;
const RETRY_ONE_IN: u32 = 32;

/// Between two looks: so many hints to the processor that this is a spin, some ten nanoseconds each.
const SHORTEST_PAUSE: u32 = 4;
const LONGEST_PAUSE: u32 = 64;
const TRIAL_PAUSE: u32 = 32;
/// So many things found without a wait make a stream.
const STREAM: u32 = 2;

/// What one place learned about spinning; of this process alone.
#[derive(Debug)]
pub(crate) struct Spin {
    nanos: AtomicU32,
    skipped: AtomicU32,
    pause: AtomicU32,
    waits: AtomicU32,
    /// What was found without a wait since the last one.
    hits: AtomicU32,
}

impl Default for Spin {
    fn default() -> Self {
        Spin {
            nanos: AtomicU32::new(FIRST_NS),
            skipped: AtomicU32::new(0),
            pause: AtomicU32::new(SHORTEST_PAUSE),
            waits: AtomicU32::new(0),
            hits: AtomicU32::new(0),
        }
    }
}

impl Spin {
    /// Something was found without a wait.
    #[inline]
    pub(crate) fn hit(&self) {
        let hits = self.hits.load(Ordering::Relaxed);
        self.hits.store(hits.wrapping_add(1), Ordering::Relaxed);
    }

    /// How long to pause between the looks of a wait that begins.
    fn next_pause(&self) -> u32 {
        let streaming = self.hits.load(Ordering::Relaxed) >= STREAM;
        self.hits.store(0, Ordering::Relaxed);
        let waits = self.waits.load(Ordering::Relaxed).wrapping_add(1);
        self.waits.store(waits, Ordering::Relaxed);
        let pause = match self.pause.load(Ordering::Relaxed) {
            pause if streaming => (pause * 2).min(LONGEST_PAUSE),
            _ if waits.is_multiple_of(RETRY_ONE_IN) => TRIAL_PAUSE,
            _ => SHORTEST_PAUSE,
        };
        self.pause.store(pause, Ordering::Relaxed);
        pause
    }

    /// Asks `ready` a few times more, for about a microsecond.
    pub(crate) fn briefly<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        if cpu::available() < 2 || self.nanos.load(Ordering::Relaxed) < SHORTEST_NS {
            return None;
        }
        let mut left = LONGEST_PAUSE;
        let pause = self.next_pause();
        while left > 0 {
            rest(pause);
            if let Some(found) = ready() {
                return Some(found);
            }
            left = left.saturating_sub(pause);
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
        let pause = self.next_pause();
        loop {
            for _ in 0..16 {
                rest(pause);
                if let Some(found) = ready() {
                    let grown = (budget.saturating_mul(2)).min(LONGEST_NS);
                    self.nanos.store(grown, Ordering::Relaxed);
                    return Some(found);
                }
            }
            // Where more threads want to run than there are processors, they are not held up by this one.
            std::thread::yield_now();
            if monotonic_ns() >= end {
                let shrunk = self.nanos.load(Ordering::Relaxed) / 2;
                self.nanos.store(shrunk, Ordering::Relaxed);
                return None;
            }
        }
    }
}

fn rest(pause: u32) {
    (0..pause).for_each(|_| hint::spin_loop());
}
