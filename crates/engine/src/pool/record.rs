//! The state of one task record: the only authority on who may run a task.
//!
//! A record's state is one word. A worker changes it only by compare-and-swap. The submitting process also uses a
//! plain store where no other process may change the word:
//!
//! ```text
//!           submit              claim (worker)          its result is queued (worker)
//!  FREE(g) -------> QUEUED(g) --------------> RUNNING(g, w) --------------> FINISHED(g, w)
//!     ^                |                        |      | revoke                  |
//!     |    withdraw    |                w died  |      v                       | result
//!     +----------------+------------------------+-- REVOKED(g, w)               | consumed
//!     +------------------------------------------------------------------------+
//! ```
//!
//! Every return to FREE raises the generation. The swap that enters RUNNING or FINISHED also names the worker. So no
//! task is given to two workers, and the records show what a dead worker held. A worker that finds its record REVOKED
//! must not claim again: it is about to be killed for that one task, and no other task may die with it.

use crate::sys::atomic::{AtomicU64, Ordering};

/// What stage of its life a record is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Free,
    Queued,
    Running,
    Revoked,
    Finished,
}

/// The word: stage in bits 0..3, generation in bits 3..33, owner (31 bits) in bits 33..64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(u64);

const STAGE_BITS: u32 = 3;
const GENERATION_BITS: u32 = 30;
const OWNER_SHIFT: u32 = STAGE_BITS + GENERATION_BITS;

/// The generation after `generation`.
pub(crate) fn next_generation(generation: u32) -> u32 {
    (generation + 1) & ((1 << GENERATION_BITS) - 1)
}

impl State {
    fn new(stage: Stage, generation: u32, owner: u32) -> State {
        State(stage as u64 | u64::from(generation) << STAGE_BITS | u64::from(owner) << OWNER_SHIFT)
    }

    /// The stage. Words that no process of ours writes count as FREE.
    pub(crate) fn stage(self) -> Stage {
        match self.0 & ((1 << STAGE_BITS) - 1) {
            1 => Stage::Queued,
            2 => Stage::Running,
            3 => Stage::Revoked,
            4 => Stage::Finished,
            _ => Stage::Free,
        }
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> STAGE_BITS) as u32 & ((1 << GENERATION_BITS) - 1)
    }

    pub(crate) fn owner(self) -> u32 {
        (self.0 >> OWNER_SHIFT) as u32
    }
}

/// Whether a worker may go on after it closed its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The worker may go on.
    Done,
    /// The task was revoked while it ran: the worker is about to be killed and must not claim.
    Revoked,
}

pub(crate) fn load(word: &AtomicU64) -> State {
    State(word.load(Ordering::Acquire))
}

/// FREE -> QUEUED. The submitting process owns FREE records, so a store is enough. It releases the record's fields to
/// the worker whose [`claim`] acquires them.
pub(crate) fn publish(word: &AtomicU64, generation: u32) {
    word.store(
        State::new(Stage::Queued, generation, 0).0,
        Ordering::Release,
    );
}

/// Any stage that the submitting process may end -> FREE.
pub(crate) fn release(word: &AtomicU64, generation: u32) {
    let state = State::new(Stage::Free, next_generation(generation), 0);
    word.store(state.0, Ordering::Release);
}

/// QUEUED -> RUNNING(`me`), by a worker. Acquires what [`publish`] released.
pub(crate) fn claim(word: &AtomicU64, generation: u32, me: u32) -> bool {
    swap(
        word,
        State::new(Stage::Queued, generation, 0),
        State::new(Stage::Running, generation, me),
    )
    .is_ok()
}

/// RUNNING(`me`) -> FINISHED(`me`), by the worker once its result is in the queue.
pub(crate) fn finish(word: &AtomicU64, generation: u32, me: u32) -> Closing {
    let running = State::new(Stage::Running, generation, me);
    match swap(word, running, State::new(Stage::Finished, generation, me)) {
        Err(now) if now == State::new(Stage::Revoked, generation, me) => Closing::Revoked,
        // Freed already: the result was consumed before the worker came here.
        _ => Closing::Done,
    }
}

/// QUEUED -> FREE, by the submitting process, which withdraws the task before any worker claimed it.
pub(crate) fn withdraw(word: &AtomicU64, generation: u32) -> bool {
    let free = State::new(Stage::Free, next_generation(generation), 0);
    swap(word, State::new(Stage::Queued, generation, 0), free).is_ok()
}

/// RUNNING(w) -> REVOKED(w), by the submitting process, which then kills `w`. Returns `w`.
pub(crate) fn revoke(word: &AtomicU64, generation: u32) -> Option<u32> {
    let seen = load(word);
    if seen.stage() != Stage::Running || seen.generation() != generation {
        return None;
    }
    let revoked = State::new(Stage::Revoked, generation, seen.owner());
    swap(word, seen, revoked).ok().map(|()| seen.owner())
}

fn swap(word: &AtomicU64, from: State, to: State) -> Result<(), State> {
    word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)
        .map(drop)
        .map_err(State)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const OWNER: u32 = 0x7fff_ffff;

    #[test]
    fn a_state_keeps_its_parts() {
        let last = (1 << GENERATION_BITS) - 1;
        let state = State::new(Stage::Revoked, last, OWNER);
        assert_eq!(
            (state.stage(), state.generation(), state.owner()),
            (Stage::Revoked, last, OWNER)
        );
        assert_eq!(next_generation(last), 0);
    }

    #[test]
    fn a_task_is_claimed_once() {
        let word = AtomicU64::new(0);
        publish(&word, 7);
        assert!(!claim(&word, 6, 1), "an older ring slot");
        assert!(claim(&word, 7, 1));
        assert!(!claim(&word, 7, 2));
        assert!(!withdraw(&word, 7), "it runs");
        assert_eq!(finish(&word, 7, 1), Closing::Done);
        assert_eq!(revoke(&word, 7), None, "it is finished");
    }

    #[test]
    fn a_revoked_task_tells_its_worker() {
        let word = AtomicU64::new(0);
        publish(&word, 0);
        assert_eq!(revoke(&word, 0), None, "it waits");
        assert!(claim(&word, 0, OWNER));
        assert_eq!(revoke(&word, 0), Some(OWNER));
        assert_eq!(finish(&word, 0, OWNER), Closing::Revoked);
    }

    #[test]
    fn a_result_consumed_early_harms_nobody() {
        let word = AtomicU64::new(0);
        publish(&word, 0);
        assert!(claim(&word, 0, 1));
        release(&word, 0);
        publish(&word, 1);
        assert!(claim(&word, 1, 2));
        assert_eq!(finish(&word, 0, 1), Closing::Done);
        assert_eq!(load(&word).owner(), 2);
    }
}
