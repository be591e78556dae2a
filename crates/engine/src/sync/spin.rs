//! Spins for a moment before going to sleep.
//!
//! A wake-up across processors costs tens of microseconds, so spinning for about as long can at
//! worst double the wait. It is done only if there are at least two processors, and each place
//! learns: after it spun in vain, it spins for a shorter time.
//!
//! Each look takes the cache line away from the processor that is about to write to it. If two
//! processes hand over one thing at a time, looking often is right. In a stream it slows the writer
//! down; looking seldom lets several things gather. A trial of a longer pause shows which of the
//! two it is. Now and then one is made, and if more than one thing had come ([`Spin::hit`]), the
//! pauses stay long.

use std::hint;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::deadline::monotonic_ns;
use crate::sys::cpu;

const LONGEST_NS: u32 = 50_000;
const FIRST_NS: u32 = 20_000;
/// Below this a spin is not worth its clock reads. Now and then it is tried again.
const SHORTEST_NS: u32 = 1_000;
const RETRY_ONE_IN: u32 = 32;

/// Between two looks: the number of spin hints to the processor, some ten nanoseconds each.
const SHORTEST_PAUSE: u32 = 4;
const LONGEST_PAUSE: u32 = 64;
const TRIAL_PAUSE: u32 = 32;
/// This many things found without a wait make a stream.
const STREAM: u32 = 2;

/// What one place has learned about spinning. Private to this process.
#[derive(Debug)]
pub(crate) struct Spin {
    nanos: AtomicU32,
    skipped: AtomicU32,
    pause: AtomicU32,
    waits: AtomicU32,
    /// How many things were found without a wait since the last wait.
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
    /// Records that something was found without a wait.
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

    /// Calls `ready` a few more times, for about a microsecond.
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

    /// Calls `ready` again and again for a bounded time.
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
            // Let other threads run if there are more than processors.
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
