//! One row of the process table: its words, and what they say.
//!
//! `process_table` changes them: see there for the states and their transitions.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::arena::Arena;
use crate::arena::entry_state::{Stage, State};
use crate::arena::owner::{EPOCH_MASK, ProcId};
use crate::sys::pid::Number;
use crate::sys::robust_mutex::LivenessWord;

/// How many threads of a process can have wait records at a time.
pub(crate) const MAX_RECORDS: usize = 6;
/// How many of the processes that it was forked from an entry lists.
pub(crate) const GENERATIONS: usize = 4;

/// See [`ProcessEntry::announced`].
pub(crate) const NOT_ANNOUNCED: u32 = 1 << 31;
const _: () = assert!(NOT_ANNOUNCED > EPOCH_MASK);

#[repr(C, align(128))]
pub(crate) struct ProcessEntry {
    /// The [`Stage`] (bits 60-63), the epoch (bits 41-59), and a process: the reserver of a RESERVED entry, or from
    /// AWAITED on the [`Number`] of the entry's process (bits 0-40).
    pub(crate) state: AtomicU64,
    /// Start time of that process, in clock ticks since boot (bits 0-44), and the epoch it is valid for (bits 45-63).
    start: AtomicU64,
    /// When the entry was reserved.
    pub(crate) since: AtomicU64,
    /// What [reports](LivenessSource) the end of the process (bits 0-1), and the epoch it is valid for (bits 2-20).
    liveness_source: AtomicU32,
    /// The epoch whose end was announced to sleepers (bits 0-18). With [`NOT_ANNOUNCED`], the epoch of a
    /// process that claimed the entry before the end of the entry's former process was announced. See `process_table/death_watch.rs`.
    pub(crate) announced: AtomicU32,
    /// One of them is held for as long as the process lives.
    pub(crate) liveness: [LivenessWord; 2],
    /// Held by a thread that is returning pages to the system. It can run on for a moment after the thread that held
    /// the liveness word has ended.
    pub(crate) giving_back: LivenessWord,
    /// See `process_table/wait_registry.rs`.
    pub(crate) waits: [AtomicU64; MAX_RECORDS],
    /// See `process_table/successors.rs`.
    pub(crate) lifeline: AtomicU64,
    pub(crate) successor_of: [AtomicU32; GENERATIONS],
}

const _: () = assert!(size_of::<ProcessEntry>() == 256);

/// What reports that the process of an entry is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LivenessSource {
    /// Its liveness word with this index; the first one by default.
    Word(usize),
    /// Its PID and start time, because it has no thread whose end the kernel would mark.
    Pid,
}

const START_BITS: u32 = 45;

impl ProcessEntry {
    pub(crate) fn state(&self) -> State {
        State::from_word(self.state.load(Ordering::SeqCst))
    }

    pub(crate) fn change(&self, from: State, to: State) -> bool {
        self.state
            .compare_exchange(from.word(), to.word(), Ordering::SeqCst, Ordering::Acquire)
            .is_ok()
    }

    /// Records the start time of the process that has the entry in this epoch.
    pub(crate) fn record_start(&self, epoch: u32, number: Number) {
        let start = number.start_time() & ((1 << START_BITS) - 1);
        let word = u64::from(epoch) << START_BITS | start;
        self.start.store(word, Ordering::SeqCst);
    }

    /// Whether the process of `state` runs, judged by its PID and start time.
    pub(crate) fn runs(&self, state: State) -> bool {
        let start = self.start.load(Ordering::SeqCst);
        let start = match (start >> START_BITS) as u32 == state.epoch {
            true => start & ((1 << START_BITS) - 1),
            false => 0,
        };
        state.number().runs(start)
    }

    pub(crate) fn liveness_source(&self, epoch: u32) -> LivenessSource {
        let word = self.liveness_source.load(Ordering::SeqCst);
        match (word >> 2 == epoch, word & 3) {
            (true, 1) => LivenessSource::Word(1),
            (true, 2) => LivenessSource::Pid,
            _ => LivenessSource::Word(0),
        }
    }

    pub(crate) fn store_liveness_source(&self, epoch: u32, source: LivenessSource) {
        let bits = match source {
            LivenessSource::Word(word) => word as u32 & 1,
            LivenessSource::Pid => 2,
        };
        self.liveness_source
            .store(epoch << 2 | bits, Ordering::SeqCst);
    }

    /// Whether the holder of the current liveness word has died.
    ///
    /// SYNC: another word becomes current before the former one is released. So a caller that finds a word's holder
    /// dead must read again which word is current.
    pub(crate) fn liveness_ended(&self, epoch: u32) -> bool {
        loop {
            let source = self.liveness_source(epoch);
            let LivenessSource::Word(word) = source else {
                return false;
            };
            if !self.liveness[word].holder_died() {
                return false;
            }
            if self.liveness_source(epoch) == source {
                return true;
            }
        }
    }

    pub(crate) fn returns_pages(&self) -> bool {
        std::sync::atomic::fence(Ordering::SeqCst);
        self.giving_back.is_held()
    }

    pub(crate) fn is_tracked_by_pid(&self, epoch: u32) -> bool {
        self.liveness_source(epoch) == LivenessSource::Pid
    }
}

impl Arena {
    pub(crate) fn entry(&self, owner: ProcId) -> &ProcessEntry {
        &self.root().processes[owner.slot() as usize]
    }

    /// Every entry that is not free.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = ProcId> + '_ {
        let used = self.root().processes_used.load(Ordering::SeqCst) as usize;
        let slots = self.root().processes.iter().enumerate().take(used).skip(1);
        slots.filter_map(|(number, entry)| {
            let state = entry.state();
            (state.stage != Stage::Free).then(|| ProcId::new(number as u32, state.epoch))
        })
    }

    /// The PID of the entry's occupant.
    pub(crate) fn number_of(&self, owner: ProcId) -> Option<Number> {
        let state = self.entry(owner).state();
        let is_occupied = matches!(state.stage, Stage::Claimed | Stage::Live | Stage::Leaving);
        (is_occupied && state.epoch == owner.epoch()).then(|| state.number())
    }
}
