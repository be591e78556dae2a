//! The word of a lock: which thread holds it, and whether anybody sleeps.
//!
//! ```text
//! bits 32-63  the holding thread's number (for `is_mine` and recursion)
//! bit  31     a thread may be asleep on the low half
//! bits 0-30   the holding process, zero if the lock is free
//! ```
//!
//! Taking the lock, releasing it and breaking a dead holder's hold are each one compare-and-swap on
//! the whole word. Sleepers are a bit, not a count: a count would be wrong for ever after a sleeper
//! was killed. Freeing clears the bit and wakes one sleeper. That one sets the bit again when it
//! takes the lock, because others may still sleep ("Mutex, take 3" of Drepper's *Futexes Are
//! Tricky*, 2011). If it is killed in between, that is noticed. If it is stopped there, the
//! others find the lock free after the longest sleep (`sys/futex.rs`). If the bit stayed in the
//! free word, each release in a tight loop would wake another one in vain.

use crate::arena::owner::ProcId;
use crate::sys::atomic::{AtomicU64, Ordering};

const SLEEPERS: u64 = 1 << 31;
const HOLDER: u64 = SLEEPERS - 1;

/// The value of a [`LockState`] as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Seen {
    pub(crate) fn holder(self) -> Option<ProcId> {
        ProcId::from_u32((self.0 & HOLDER) as u32)
    }

    pub(crate) fn is_free(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn thread(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn has_sleepers(self) -> bool {
        self.0 & SLEEPERS != 0
    }

    /// The low half, as a futex compares it.
    pub(crate) fn futex(self) -> u32 {
        self.0 as u32
    }
}

fn held(owner: ProcId, thread: u32, sleepers: bool) -> u64 {
    let bit = if sleepers { SLEEPERS } else { 0 };
    u64::from(thread) << 32 | bit | u64::from(owner.as_u32())
}

#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct LockState(AtomicU64);

impl LockState {
    #[cfg(loom)]
    pub(crate) fn new() -> LockState {
        LockState(AtomicU64::new(0))
    }

    #[cfg(not(loom))]
    pub(crate) fn futex(&self) -> &std::sync::atomic::AtomicU32 {
        crate::sys::futex::low_half(&self.0)
    }

    pub(crate) fn look(&self) -> Seen {
        Seen(self.0.load(Ordering::SeqCst))
    }

    fn swap(&self, seen: Seen, new: u64) -> Result<(), Seen> {
        self.0
            .compare_exchange(seen.0, new, Ordering::SeqCst, Ordering::SeqCst)
            .map(drop)
            .map_err(Seen)
    }

    /// Takes the lock if it is free; otherwise returns what it saw. `slept`: others may still
    /// sleep.
    #[inline]
    pub(crate) fn take(&self, me: ProcId, thread: u32, slept: bool) -> Result<(), Seen> {
        self.swap(Seen(0), held(me, thread, slept))
    }

    /// Announces that a thread is about to sleep. Returns the value to sleep on, or `None` if the
    /// word changed.
    pub(crate) fn announce_sleeper(&self, seen: Seen) -> Option<Seen> {
        let announced = Seen(seen.0 | SLEEPERS);
        (seen == announced || self.swap(seen, announced.0).is_ok()).then_some(announced)
    }

    /// Frees the lock, whichever process holds it. Returns whether to wake a sleeper; `Err` if it
    /// was free.
    #[inline]
    pub(crate) fn free(&self) -> Result<bool, ()> {
        let mut seen = self.look();
        loop {
            if seen.is_free() {
                return Err(());
            }
            match self.swap(seen, 0) {
                Ok(()) => return Ok(seen.has_sleepers()),
                Err(now) => seen = now,
            }
        }
    }

    /// Frees the lock of a holder that died. Returns true to exactly one caller.
    pub(crate) fn break_hold(&self, seen: Seen) -> bool {
        self.swap(seen, 0).is_ok()
    }

    /// Takes the lock over from a holder that died. Returns true to exactly one caller.
    pub(crate) fn inherit(&self, seen: Seen, me: ProcId, thread: u32) -> bool {
        self.swap(seen, held(me, thread, true)).is_ok()
    }

    /// Leaves the lock held for good, by nobody in particular, if the word still is as `seen`.
    #[cfg(not(loom))]
    pub(crate) fn keep(&self, seen: Seen) -> bool {
        self.swap(seen, held(ProcId::ABANDONED, 0, seen.has_sleepers()))
            .is_ok()
    }
}
