//! The process table: which processes exist, which are alive, and which entry each one has.
//!
//! ```text
//!        reserve           note_pid       claim_entry      claim_entry        leave
//! FREE(e) --> RESERVED(e+1) --> AWAITED(e+1) --> CLAIMED(e+1) --> LIVE(e+1) --> LEAVING(e+1)
//!    ^              +---------------------------------^               |             |
//!    |              |                |                |               |             |
//!    +--------------+---- reap: everything that the epoch owned was released --------+
//! ```
//!
//! The state word carries the epoch and, from AWAITED on, the PID of its process. A process claims the entry
//! (CLAIMED) before it touches the entry's liveness words. An entry becomes FREE again only after a complete sweep
//! over what its occupant owned. Sweeps may run twice or stop halfway: each repair names the exact owner, epoch
//! included.
//!
//! In LIVE and LEAVING, the current liveness word decides whether the process is alive (`liveness_thread.rs`). The
//! PID decides as long as no thread holds the word, and where the kernel would not mark the holder's death. Only
//! processes in the same namespaces can check a PID (`sys/pid.rs`).

pub(crate) mod death_watch;
pub(crate) mod identity;
pub(crate) mod liveness_thread;
pub(crate) mod successors;
pub(crate) mod wait_registry;

use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::Arena;
use crate::arena::entry_state::{Stage, State};
use crate::arena::layout::MAX_PROCESSES;
use crate::arena::owner::{EPOCH_MASK, ProcId};
use crate::arena::process_entry::{LivenessSource, NOT_ANNOUNCED, ProcessEntry};
use crate::deadline::monotonic_ns;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::sys::pid::Number;
use crate::sys::robust_mutex;

pub(crate) use crate::process_table::identity::home;

/// How long an entry reserved by a fork may wait for its child, which claims it before `fork` returns.
const CLAIM_TIMEOUT_NS: u64 = match cfg!(feature = "kill-points") {
    false => 10_000_000_000,
    // The kill matrix waits this long at each of its deaths.
    true => 1_000_000_000,
};

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitState {
    /// It runs, is stopped, or is still starting.
    Alive,
    /// It exited in order.
    Left,
    /// It was killed, called `_exit`, or another program took its place.
    Died,
}

impl Arena {
    /// Reserves a free entry for a process that `by` is about to start.
    pub(crate) fn find_free_entry(&self, by: Option<ProcId>) -> Result<ProcId> {
        let root = self.root();
        let first = root.process_hint.fetch_add(1, Ordering::Relaxed) as usize;
        for step in 0..MAX_PROCESSES - 1 {
            let number = 1 + (first + step) % (MAX_PROCESSES - 1);
            let entry = &root.processes[number];
            let state = entry.state();
            if state.stage != Stage::Free {
                continue;
            }
            // Skip epoch zero, and the id that stands for "abandoned".
            let epoch = match (state.epoch + 1) & EPOCH_MASK {
                0 => 1,
                epoch => epoch,
            };
            let owner = ProcId::new(number as u32, epoch);
            let reserved = match by {
                Some(by) => State {
                    stage: Stage::Reserved,
                    epoch,
                    who: by.as_u32().into(),
                },
                None => State {
                    stage: Stage::Awaited,
                    epoch,
                    who: Number::of_this_process().bits(),
                },
            };
            // Before the swap: otherwise others could take the entry for one that has waited since its last occupant.
            entry.since.store(monotonic_ns(), Ordering::SeqCst);
            if owner != ProcId::ABANDONED && entry.change(state, reserved) {
                entry.lifeline.store(0, Ordering::SeqCst);
                entry
                    .successor_of
                    .iter()
                    .for_each(|of| of.store(0, Ordering::SeqCst));
                root.process_hint.store(number as u32, Ordering::Relaxed);
                root.processes_used
                    .fetch_max(number as u32 + 1, Ordering::SeqCst);
                failpoint::hit("process.reserved");
                return Ok(owner);
            }
        }
        Err(Error::TableFull(
            "place for a further process (a tree has 4095)",
        ))
    }

    /// Makes the calling process the occupant of a reserved entry.
    pub(crate) fn claim_entry(&self, owner: ProcId) -> Result<()> {
        let entry = self.entry(owner);
        let me = Number::of_this_process();
        let claimed = loop {
            let state = entry.state();
            let is_unclaimed = matches!(state.stage, Stage::Reserved | Stage::Awaited);
            if !is_unclaimed || state.epoch != owner.epoch() {
                return Err(Error::SeatGone);
            }
            let claimed = state.of(Stage::Claimed, me);
            if entry.change(state, claimed) {
                break claimed;
            }
        };
        failpoint::hit("process.claimed");
        self.clear_waits(owner);
        let not_announced = NOT_ANNOUNCED | owner.epoch();
        entry.announced.store(not_announced, Ordering::SeqCst);
        if !entry.giving_back.init() || !self.hold_liveness(owner) {
            self.track_by_pid(owner);
        }
        failpoint::hit("process.held");
        if !entry.change(claimed, claimed.at(Stage::Live)) {
            return Err(Error::SeatGone);
        }
        failpoint::hit("process.live");
        self.announce_change();
        Ok(())
    }

    /// Whether the process occupies its entry and has not begun to leave.
    pub(crate) fn is_live(&self, owner: ProcId) -> bool {
        let state = self.entry(owner).state();
        state.stage == Stage::Live && state.epoch == owner.epoch()
    }

    #[cfg(all(test, not(miri)))]
    pub(crate) fn has_lost_its_thread(&self, owner: ProcId) -> bool {
        self.entry(owner).liveness_ended(owner.epoch())
    }

    /// From now on the PID decides whether the process is alive.
    pub(crate) fn track_by_pid(&self, owner: ProcId) {
        let entry = self.entry(owner);
        entry.record_start(owner.epoch(), entry.state().number());
        self.set_liveness_source(owner, LivenessSource::Pid);
    }

    /// Changes what reports the end of this process.
    ///
    /// Sleepers on the former word are woken and choose their words again. If the process is killed between the two
    /// steps, one of them finds it dead, because the process still held the former word.
    pub(crate) fn set_liveness_source(&self, owner: ProcId, source: LivenessSource) {
        self.entry(owner)
            .store_liveness_source(owner.epoch(), source);
        failpoint::hit("process.taken_over");
        self.announce_change();
    }

    /// Records which process a reserved entry is for, so that others notice its early death.
    pub(crate) fn note_pid(&self, owner: ProcId, pid: u32) {
        let entry = self.entry(owner);
        let state = entry.state();
        if state.stage == Stage::Reserved && state.epoch == owner.epoch() {
            let number = Number::of(pid);
            entry.record_start(state.epoch, number);
            entry.change(state, state.of(Stage::Awaited, number));
        }
    }

    /// Marks the end of the calling process as an orderly exit.
    pub(crate) fn leave(&self, owner: ProcId) {
        let entry = self.entry(owner);
        let state = entry.state();
        if state.stage == Stage::Live && state.epoch == owner.epoch() {
            entry.change(state, state.at(Stage::Leaving));
            failpoint::hit("process.leaving");
        }
    }

    /// Whether the entry is reserved and its process has not claimed it yet.
    pub(crate) fn is_expected(&self, owner: ProcId) -> bool {
        let state = self.entry(owner).state();
        state.epoch == owner.epoch() && matches!(state.stage, Stage::Reserved | Stage::Awaited)
    }

    /// Whether the occupant is gone for good.
    ///
    /// Costs one load for a living process: threads that help others ask at every slot they meet.
    pub(crate) fn is_dead(&self, owner: ProcId) -> bool {
        if owner == ProcId::ABANDONED {
            return false;
        }
        let Some(entry) = self.root().processes.get(owner.slot() as usize) else {
            return true;
        };
        let state = entry.state();
        if state.epoch != owner.epoch() {
            return true;
        }
        match state.stage {
            Stage::Live | Stage::Leaving => match entry.liveness_source(state.epoch) {
                LivenessSource::Pid => !entry.runs(state),
                LivenessSource::Word(word) => {
                    entry.liveness[word].holder_died()
                        && entry.liveness_ended(state.epoch)
                        && !entry.returns_pages()
                }
            },
            Stage::Awaited | Stage::Claimed => !entry.runs(state),
            Stage::Reserved => self.claim_timed_out(entry, state),
            Stage::Free | Stage::Reaping | Stage::Clearing => true,
        }
    }

    /// Whether the process will never claim its entry, when nobody recorded its PID.
    #[cold]
    fn claim_timed_out(&self, entry: &ProcessEntry, state: State) -> bool {
        let late =
            monotonic_ns().saturating_sub(entry.since.load(Ordering::Acquire)) > CLAIM_TIMEOUT_NS;
        let by = ProcId::from_u32(state.who as u32);
        late && by.is_none_or(|by| by == self.me() || self.is_dead(by))
    }

    /// The liveness word to sleep on until `owner` is gone, and its expected value; `None` when the process is gone.
    pub(crate) fn watch_liveness(&self, owner: ProcId) -> Option<(&AtomicU32, u32)> {
        if self.is_dead(owner) {
            return None;
        }
        let entry = self.root().processes.get(owner.slot() as usize)?;
        let liveness = match entry.liveness_source(owner.epoch()) {
            LivenessSource::Word(word) => &entry.liveness[word],
            LivenessSource::Pid => &entry.liveness[0],
        };
        match liveness.watch() {
            Some(expected) => Some((liveness.word(), expected)),
            // The thread is gone, but the process lives or is returning pages: sleepers poll it after each nap.
            None => Some((liveness.word(), liveness.word().load(Ordering::Acquire))),
        }
    }

    /// As [`Arena::watch_liveness`], but only if the end of the process changes the word at once.
    pub(crate) fn watch_closely(&self, owner: ProcId) -> Option<(&AtomicU32, u32)> {
        self.watch_liveness(owner)
            .filter(|(_, expected)| robust_mutex::is_held(*expected))
    }

    /// What became of `owner`. Once the entry is in use again, nothing but the end is known; the process then counts
    /// as having left.
    pub(crate) fn exit_state(&self, owner: ProcId) -> ExitState {
        let Some(entry) = self.root().processes.get(owner.slot() as usize) else {
            return ExitState::Died;
        };
        let state = entry.state();
        if state.epoch != owner.epoch() {
            return ExitState::Left;
        }
        if !self.is_dead(owner) {
            return ExitState::Alive;
        }
        match state.stage {
            Stage::Leaving | Stage::Clearing | Stage::Free => ExitState::Left,
            _ => ExitState::Died,
        }
    }

    /// The kernel wakes one sleeper when a holder dies; whoever notices the death wakes the others.
    pub(crate) fn wake_watchers(&self, entry: &ProcessEntry) {
        for liveness in &entry.liveness {
            crate::sys::futex::wake(liveness.word(), u32::MAX);
        }
    }
}
