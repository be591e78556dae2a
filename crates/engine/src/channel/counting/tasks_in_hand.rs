//! How many tasks of a queue one process has in hand: one word per process.
//!
//! The word is believed only while that process lives, so it does not matter what it lacks when the
//! process dies. A task that is about to be taken is counted beforehand and separately: other
//! processes may report a taken task done, but not this one. A number that reached its maximum
//! stays there, and the process counts as busy for as long as it lives.

use crate::arena::owner::ProcId;
use crate::sys::atomic::{AtomicU64, Ordering};

const OWNER: u32 = 33;
const TAKING: u32 = 24;
const MAX_TAKING: u64 = (1 << (OWNER - TAKING)) - 1;
const MAX_TAKEN: u64 = (1 << TAKING) - 1;

/// The word of one process that takes tasks: the process, how many tasks it is about to take, and how
/// many it took that are not reported done.
#[repr(transparent)]
pub(crate) struct Taker(AtomicU64);

/// The word as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InHand(u64);

impl InHand {
    fn new(owner: ProcId, taking: u64, taken: u64) -> InHand {
        InHand(u64::from(owner.as_u32()) << OWNER | taking << TAKING | taken)
    }

    pub(crate) fn owner(self) -> Option<ProcId> {
        ProcId::from_u32((self.0 >> OWNER) as u32)
    }

    fn taking(self) -> u64 {
        self.0 >> TAKING & MAX_TAKING
    }

    pub(crate) fn taken(self) -> u64 {
        self.0 & MAX_TAKEN
    }

    pub(crate) fn is_idle(self) -> bool {
        self.taking() == 0 && self.taken() == 0
    }
}

/// Adds or subtracts one. A number at its maximum stays there, because the true one is unknown.
fn more(number: u64, max: u64) -> u64 {
    (number + 1).min(max)
}

fn less(number: u64, max: u64) -> u64 {
    match number == max {
        true => max,
        false => number.saturating_sub(1),
    }
}

impl Taker {
    #[cfg(loom)]
    pub(crate) fn new() -> Taker {
        Taker(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn get(&self) -> InHand {
        InHand(self.0.load(Ordering::SeqCst))
    }

    /// Takes a word that belongs to nobody, to a dead process, or to one with nothing in hand, for
    /// a task that `owner` is about to take.
    pub(crate) fn enter(&self, seen: InHand, owner: ProcId) -> bool {
        self.swing(seen, InHand::new(owner, 1, 0))
    }

    /// `owner` is about to take a task. Returns false if the word belongs to another process.
    pub(crate) fn begin(&self, owner: ProcId) -> bool {
        self.change(owner, |seen| {
            Some((more(seen.taking(), MAX_TAKING), seen.taken()))
        })
    }

    /// `owner` took the task, or did not.
    pub(crate) fn end(&self, owner: ProcId, took: bool) -> bool {
        self.change(owner, |seen| {
            let taken = match took {
                true => more(seen.taken(), MAX_TAKEN),
                false => seen.taken(),
            };
            (seen.taking() > 0).then(|| (less(seen.taking(), MAX_TAKING), taken))
        })
    }

    /// One of the tasks that `owner` took was reported done. Returns false if it has none.
    pub(crate) fn report(&self, owner: ProcId) -> bool {
        self.change(owner, |seen| {
            (seen.taken() > 0).then(|| (seen.taking(), less(seen.taken(), MAX_TAKEN)))
        })
    }

    fn change(&self, owner: ProcId, to: impl Fn(InHand) -> Option<(u64, u64)>) -> bool {
        let mut seen = self.get();
        while seen.owner() == Some(owner) {
            let Some((taking, taken)) = to(seen) else {
                return false;
            };
            if self.swing(seen, InHand::new(owner, taking, taken)) {
                return true;
            }
            seen = self.get();
        }
        false
    }

    fn swing(&self, from: InHand, to: InHand) -> bool {
        self.0
            .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}
