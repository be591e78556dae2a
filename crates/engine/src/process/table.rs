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

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::deadline::monotonic_ns;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::memory::Arena;
use crate::memory::layout::MAX_PROCESSES;
use crate::memory::owner::{EPOCH_MASK, ProcId};
use crate::process::entry_state::{Stage, State};
use crate::process::wait_registry::MAX_RECORDS;
use crate::sys::pid::Number;
use crate::sys::robust_mutex::{self, LivenessWord};

/// How long an entry reserved by a fork may wait for its child, which claims it before `fork` returns.
const CLAIM_TIMEOUT_NS: u64 = match cfg!(feature = "kill-points") {
    false => 10_000_000_000,
    // The kill matrix waits this long at each of its deaths.
    true => 1_000_000_000,
};

#[repr(C, align(128))]
pub(crate) struct ProcessEntry {
    /// The [`Stage`] (bits 60-63), the epoch (bits 41-59), and a process: the reserver of a RESERVED entry, or from
    /// AWAITED on the [`Number`] of the entry's process (bits 0-40).
    state: AtomicU64,
    /// Start time of that process, in clock ticks since boot (bits 0-44), and the epoch it is valid for (bits 45-63).
    start: AtomicU64,
    /// When the entry was reserved.
    since: AtomicU64,
    /// What [reports](LivenessSource) the end of the process (bits 0-1), and the epoch it is valid for (bits 2-20).
    liveness_source: AtomicU32,
    /// The epoch whose end was announced to sleepers (bits 0-18). With [`NOT_ANNOUNCED`], the epoch of an occupant of
    /// whom nothing had been announced when it claimed the entry. See `death_watch.rs`.
    pub(crate) announced: AtomicU32,
    /// One of them is held for as long as the process lives.
    pub(crate) liveness: [LivenessWord; 2],
    /// Held by a thread that is returning pages to the system. It can run on for a moment after the thread that held
    /// the liveness word has ended.
    pub(crate) giving_back: LivenessWord,
    /// See `wait_registry.rs`.
    pub(crate) waits: [AtomicU64; MAX_RECORDS],
    /// See `successors.rs`.
    pub(crate) lifeline: AtomicU64,
    pub(crate) successor_of: [AtomicU32; crate::process::successors::GENERATIONS],
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

/// See [`ProcessEntry::announced`].
const NOT_ANNOUNCED: u32 = 1 << 31;
const _: () = assert!(NOT_ANNOUNCED > EPOCH_MASK);

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

impl ProcessEntry {
    pub(crate) fn state(&self) -> State {
        State::from_word(self.state.load(Ordering::SeqCst))
    }

    fn change(&self, from: State, to: State) -> bool {
        self.state
            .compare_exchange(from.word(), to.word(), Ordering::SeqCst, Ordering::Acquire)
            .is_ok()
    }

    /// Records the start time of the process that has the entry in this epoch.
    fn record_start(&self, epoch: u32, number: Number) {
        let start = number.start_time() & ((1 << START_BITS) - 1);
        let word = u64::from(epoch) << START_BITS | start;
        self.start.store(word, Ordering::SeqCst);
    }

    /// Whether the process of `state` runs, judged by its PID and start time.
    fn runs(&self, state: State) -> bool {
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

    fn store_liveness_source(&self, epoch: u32, source: LivenessSource) {
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

    fn returns_pages(&self) -> bool {
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

    /// Reserves an entry for a process that `by` is about to start.
    pub(crate) fn reserve(&self, by: Option<ProcId>) -> Result<ProcId> {
        self.find_free_entry(by).or_else(|_| {
            self.sweep();
            self.find_free_entry(by)
        })
    }

    fn find_free_entry(&self, by: Option<ProcId>) -> Result<ProcId> {
        self.reap_some();
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

    /// Reaps the dead among a few entries, different ones at each call, so that what they owned is released long
    /// before the table is full.
    fn reap_some(&self) {
        let root = self.root();
        let used = root
            .processes_used
            .load(Ordering::Relaxed)
            .clamp(2, MAX_PROCESSES as u32);
        for _ in 0..4 {
            let cursor = root.reap_cursor.fetch_add(1, Ordering::Relaxed);
            let number = 1 + cursor % (used - 1);
            let state = root.processes[number as usize].state();
            let owner = ProcId::new(number, state.epoch);
            if state.stage != Stage::Free && self.is_dead(owner) {
                self.reap(owner);
            }
        }
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

    #[cfg(test)]
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

    /// Releases an entry that this process reserved for a child that will not start.
    pub(crate) fn release(&self, owner: ProcId) {
        let entry = self.entry(owner);
        let state = entry.state();
        let ours = match state.stage {
            Stage::Reserved => state.who == u64::from(self.me().as_u32()),
            Stage::Awaited => true,
            _ => false,
        };
        if ours && state.epoch == owner.epoch() && entry.change(state, state.at(Stage::Reaping)) {
            self.clear(owner);
        }
    }

    /// Whether the entry is reserved and its process has not claimed it yet.
    pub(crate) fn is_expected(&self, owner: ProcId) -> bool {
        let state = self.entry(owner).state();
        state.epoch == owner.epoch() && matches!(state.stage, Stage::Reserved | Stage::Awaited)
    }

    /// The PID of the entry's occupant.
    pub(crate) fn number_of(&self, owner: ProcId) -> Option<Number> {
        let state = self.entry(owner).state();
        let is_occupied = matches!(state.stage, Stage::Claimed | Stage::Live | Stage::Leaving);
        (is_occupied && state.epoch == owner.epoch()).then(|| state.number())
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

    /// Releases everything that a dead process owned, then its entry.
    pub(crate) fn reap(&self, owner: ProcId) -> ExitState {
        let exit_state = self.exit_state(owner);
        if exit_state != ExitState::Alive {
            self.finish_reaping(owner);
        }
        exit_state
    }

    /// As [`Arena::reap`], for a child of this process whose status was collected.
    ///
    /// The liveness word may say for ever that the process lives: a thread other than the first one takes over the
    /// first thread's id when it calls `exec`, and the kernel then no longer recognises the word as its own.
    pub(crate) fn reap_collected(&self, owner: ProcId) -> ExitState {
        let exit_state = self.reap(owner);
        let entry = self.entry(owner);
        let state = entry.state();
        let is_occupied = matches!(state.stage, Stage::Claimed | Stage::Live | Stage::Leaving);
        // A process that the child started may occupy the entry, and lives on.
        if exit_state != ExitState::Alive
            || !is_occupied
            || state.epoch != owner.epoch()
            || entry.runs(state)
        {
            return exit_state;
        }
        self.finish_reaping(owner);
        match state.stage {
            Stage::Leaving => ExitState::Left,
            _ => ExitState::Died,
        }
    }

    /// Releases everything that a process owned that is known to be gone, then its entry.
    fn finish_reaping(&self, owner: ProcId) {
        let entry = self.entry(owner);
        let state = entry.state();
        if state.epoch != owner.epoch() || state.stage == Stage::Free {
            return;
        }
        self.announce_death(owner);
        let marked = match state.stage {
            Stage::Leaving => state.at(Stage::Clearing),
            Stage::Clearing => state,
            _ => state.at(Stage::Reaping),
        };
        if state == marked || entry.change(state, marked) {
            // If the liveness word is not marked, watchers could not see earlier that the process is gone.
            self.wake_watchers(entry);
            self.clear(owner);
        }
        // The process may have freed memory that no other process knows about, or died before returning it to the
        // system.
        if marked.stage == Stage::Reaping {
            self.make_scan_due();
        }
        self.start_trimmer_if_due();
    }

    /// Releases the entry that this process had before it moved to another. If the former id still owns something,
    /// the entry stays until the process ends.
    pub(crate) fn release_former(&self, former: ProcId) {
        if self.owns_blocks(former) {
            return;
        }
        let entry = self.entry(former);
        let state = entry.state();
        // This thread cannot release another thread's liveness word; the entry then also stays until the end.
        if state.epoch == former.epoch()
            && self.release_liveness(former)
            && entry.change(state, state.at(Stage::Clearing))
        {
            self.announce_death(former);
            self.clear(former);
        }
    }

    fn clear(&self, owner: ProcId) {
        failpoint::hit("process.reaping");
        if !self.reclaim_all_of(owner) {
            // A process that can map all of the memory finishes it.
            return;
        }
        failpoint::hit("process.swept");
        self.drop_ownership_log(owner);
        let entry = self.entry(owner);
        let state = entry.state();
        if state.epoch == owner.epoch() && matches!(state.stage, Stage::Reaping | Stage::Clearing) {
            entry.change(state, state.at(Stage::Free));
        }
    }

    /// The kernel wakes one sleeper when a holder dies; whoever notices the death wakes the others.
    pub(crate) fn wake_watchers(&self, entry: &ProcessEntry) {
        for liveness in &entry.liveness {
            crate::sys::futex::wake(liveness.word(), u32::MAX);
        }
    }

    /// Reaps every dead process. Returns their number.
    pub(crate) fn sweep(&self) -> usize {
        let dead: Vec<ProcId> = self.occupied().filter(|o| self.is_dead(*o)).collect();
        for owner in &dead {
            self.reap(*owner);
        }
        dead.len()
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
}
