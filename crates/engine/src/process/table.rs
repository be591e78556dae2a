//! The process table: who is here, who is alive, and who sits where.
//!
//! ```text
//!        reserve           note_pid            sit             sit           leave
//! FREE(e) --> RESERVED(e+1) --> AWAITED(e+1) --> CLAIMED(e+1) --> LIVE(e+1) --> LEAVING(e+1)
//!    ^              +---------------------------------^               |             |
//!    |              |                |                |               |             |
//!    +--------------+---- reap: all that the epoch owned was given back ------------+
//! ```
//!
//! The word carries the epoch and, from AWAITED on, the number of the process it is about. A process
//! makes the slot its own, in CLAIMED, before it touches the slot's liveness words. A slot is FREE again only
//! after a whole sweep over what its occupant owned. Sweeps may run twice or stop halfway: each repair
//! names the exact owner, epoch included.
//!
//! LIVE and LEAVING are judged by the liveness word that counts (`liveness_thread.rs`). The number is looked at before there is a
//! holder, and where the kernel would not mark its end; only by processes of the same namespaces (`sys/pid.rs`).

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

/// How long a slot reserved by a fork may wait for its child, which sits down before fork returns.
const UNBORN_NS: u64 = match cfg!(feature = "kill-points") {
    false => 10_000_000_000,
    // The kill matrix waits for it at each of its deaths.
    true => 1_000_000_000,
};

#[repr(C, align(128))]
pub(crate) struct ProcessEntry {
    /// The [`Stage`] (bits 60-63), the epoch (bits 41-59), and who: the reserver of a RESERVED slot, the
    /// [`Number`] of the process from AWAITED on (bits 0-40).
    state: AtomicU64,
    /// When that process started, in clock ticks since boot (bits 0-44); for the epoch in bits 45-63.
    start: AtomicU64,
    /// When the slot was reserved.
    since: AtomicU64,
    /// What [tells](Told) of the end (bits 0-1); for the epoch in bits 2-20.
    told: AtomicU32,
    /// The epoch whose end was told to those that sleep (bits 0-18), or of whose occupant nothing was told when it took
    /// the slot ([`UNTOLD`]): see `death_watch.rs`.
    pub(crate) announced: AtomicU32,
    /// One of them is held as long as the process lives.
    pub(crate) liveness: [LivenessWord; 2],
    /// ObjectRef by a thread that gives pages back, which goes on for a moment when the one that holds the liveness word has
    /// ended.
    pub(crate) giving_back: LivenessWord,
    /// See `wait_registry.rs`.
    pub(crate) waits: [AtomicU64; MAX_RECORDS],
    /// See `successors.rs`.
    pub(crate) line: AtomicU64,
    pub(crate) successor_of: [AtomicU32; crate::process::successors::GENERATIONS],
}

const _: () = assert!(size_of::<ProcessEntry>() == 256);

/// What tells that the process on a slot is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Its liveness word: the first one, if nothing else was said.
    ByLiveness(usize),
    /// Its number and when it started, for want of a thread whose end is marked.
    ByNumber,
}

const START_BITS: u32 = 45;

/// See [`ProcessEntry::announced`].
const UNTOLD: u32 = 1 << 31;
const _: () = assert!(UNTOLD > EPOCH_MASK);

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitState {
    /// It runs, is stopped, or is still starting.
    Alive,
    /// It left in command.
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

    /// Notes when the process that an epoch is about started.
    fn note_start(&self, epoch: u32, number: Number) {
        let start = number.start_time() & ((1 << START_BITS) - 1);
        let word = u64::from(epoch) << START_BITS | start;
        self.start.store(word, Ordering::SeqCst);
    }

    /// Whether the process that `state` is about runs, as far as its number tells.
    fn runs(&self, state: State) -> bool {
        let start = self.start.load(Ordering::SeqCst);
        let start = match (start >> START_BITS) as u32 == state.epoch {
            true => start & ((1 << START_BITS) - 1),
            false => 0,
        };
        state.number().runs(start)
    }

    pub(crate) fn told(&self, epoch: u32) -> Told {
        let word = self.told.load(Ordering::SeqCst);
        match (word >> 2 == epoch, word & 3) {
            (true, 1) => Told::ByLiveness(1),
            (true, 2) => Told::ByNumber,
            _ => Told::ByLiveness(0),
        }
    }

    fn tell(&self, epoch: u32, told: Told) {
        let bits = match told {
            Told::ByLiveness(word) => word as u32 & 1,
            Told::ByNumber => 2,
        };
        self.told.store(epoch << 2 | bits, Ordering::SeqCst);
    }

    /// The word that tells of the occupant's end, when it says that its holder is gone.
    ///
    /// SYNC: another word counts before the first one is let go of. So who finds a word's holder gone looks again.
    pub(crate) fn liveness_ended(&self, epoch: u32) -> bool {
        loop {
            let told = self.told(epoch);
            let Told::ByLiveness(word) = told else {
                return false;
            };
            if !self.liveness[word].holder_died() {
                return false;
            }
            if self.told(epoch) == told {
                return true;
            }
        }
    }

    fn gives_back(&self) -> bool {
        std::sync::atomic::fence(Ordering::SeqCst);
        self.giving_back.is_held()
    }

    pub(crate) fn is_known_by_number(&self, epoch: u32) -> bool {
        self.told(epoch) == Told::ByNumber
    }
}

impl Arena {
    pub(crate) fn entry(&self, owner: ProcId) -> &ProcessEntry {
        &self.root().processes[owner.slot() as usize]
    }

    /// Reserves a slot for a process that is to be started by `by`.
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
            // Epoch zero is skipped, and so is the id that stands for "kept".
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
            // Before the swap: nobody may take the slot for one that waits since its last occupant.
            entry.since.store(monotonic_ns(), Ordering::SeqCst);
            if owner != ProcId::ABANDONED && entry.change(state, reserved) {
                entry.line.store(0, Ordering::SeqCst);
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

    /// Reaps the dead among a few slots, others at each call, so that nobody's things lie about until
    /// all slots are taken.
    fn reap_some(&self) {
        let root = self.root();
        let used = root
            .processes_used
            .load(Ordering::Relaxed)
            .clamp(2, MAX_PROCESSES as u32);
        for _ in 0..4 {
            let turn = root.reap_cursor.fetch_add(1, Ordering::Relaxed);
            let number = 1 + turn % (used - 1);
            let state = root.processes[number as usize].state();
            let owner = ProcId::new(number, state.epoch);
            if state.stage != Stage::Free && self.is_dead(owner) {
                self.reap(owner);
            }
        }
    }

    /// Makes the calling process the occupant of a reserved slot.
    pub(crate) fn claim_entry(&self, owner: ProcId) -> Result<()> {
        let entry = self.entry(owner);
        let me = Number::of_this_process();
        let sitting = loop {
            let state = entry.state();
            let waits = matches!(state.stage, Stage::Reserved | Stage::Awaited);
            if !waits || state.epoch != owner.epoch() {
                return Err(Error::SeatGone);
            }
            let sitting = state.of(Stage::Claimed, me);
            if entry.change(state, sitting) {
                break sitting;
            }
        };
        failpoint::hit("process.claimed");
        self.clear_waits(owner);
        let untold = UNTOLD | owner.epoch();
        entry.announced.store(untold, Ordering::SeqCst);
        if !entry.giving_back.init() || !self.hold_liveness(owner) {
            self.know_by_number(owner);
        }
        failpoint::hit("process.held");
        if !entry.change(sitting, sitting.at(Stage::Live)) {
            return Err(Error::SeatGone);
        }
        failpoint::hit("process.live");
        self.tell_of_change();
        Ok(())
    }

    /// Whether the process sits there, and did not begin to leave.
    pub(crate) fn is_live(&self, owner: ProcId) -> bool {
        let state = self.entry(owner).state();
        state.stage == Stage::Live && state.epoch == owner.epoch()
    }

    #[cfg(test)]
    pub(crate) fn has_lost_its_thread(&self, owner: ProcId) -> bool {
        self.entry(owner).liveness_ended(owner.epoch())
    }

    /// From now on the process is known by its number.
    pub(crate) fn know_by_number(&self, owner: ProcId) {
        let entry = self.entry(owner);
        entry.note_start(owner.epoch(), entry.state().number());
        self.tell_by(owner, Told::ByNumber);
    }

    /// From now on something else tells of the end of this process.
    ///
    /// Those that sleep on the word that told of it look again. Killed in between, the process is found dead by one of
    /// them: its former word is held still.
    pub(crate) fn tell_by(&self, owner: ProcId, told: Told) {
        self.entry(owner).tell(owner.epoch(), told);
        failpoint::hit("process.taken_over");
        self.tell_of_change();
    }

    /// Writes down which process a reserved slot is for, so that its early death can be seen.
    pub(crate) fn note_pid(&self, owner: ProcId, pid: u32) {
        let entry = self.entry(owner);
        let state = entry.state();
        if state.stage == Stage::Reserved && state.epoch == owner.epoch() {
            let number = Number::of(pid);
            entry.note_start(state.epoch, number);
            entry.change(state, state.of(Stage::Awaited, number));
        }
    }

    /// Marks the end of the calling process as orderly.
    pub(crate) fn leave(&self, owner: ProcId) {
        let entry = self.entry(owner);
        let state = entry.state();
        if state.stage == Stage::Live && state.epoch == owner.epoch() {
            entry.change(state, state.at(Stage::Leaving));
            failpoint::hit("process.leaving");
        }
    }

    /// Gives back a slot this process reserved, on which nobody sits and nobody is expected any more.
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

    /// Whether nobody sat down yet on a slot that was reserved.
    pub(crate) fn is_expected(&self, owner: ProcId) -> bool {
        let state = self.entry(owner).state();
        state.epoch == owner.epoch() && matches!(state.stage, Stage::Reserved | Stage::Awaited)
    }

    /// The number of the process that sits there.
    pub(crate) fn number_of(&self, owner: ProcId) -> Option<Number> {
        let state = self.entry(owner).state();
        let sits = matches!(state.stage, Stage::Claimed | Stage::Live | Stage::Leaving);
        (sits && state.epoch == owner.epoch()).then(|| state.number())
    }

    /// Whether the occupant is gone for good.
    ///
    /// One load for a living process: helpers may ask at every slot they meet.
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
            Stage::Live | Stage::Leaving => match entry.told(state.epoch) {
                Told::ByNumber => !entry.runs(state),
                Told::ByLiveness(word) => {
                    entry.liveness[word].holder_died()
                        && entry.liveness_ended(state.epoch)
                        && !entry.gives_back()
                }
            },
            Stage::Awaited | Stage::Claimed => !entry.runs(state),
            Stage::Reserved => self.never_came(entry, state),
            Stage::Free | Stage::Reaping | Stage::Clearing => true,
        }
    }

    /// Whether nobody will sit any more on a slot for a process whose number nobody noted.
    #[cold]
    fn never_came(&self, entry: &ProcessEntry, state: State) -> bool {
        let late = monotonic_ns().saturating_sub(entry.since.load(Ordering::Acquire)) > UNBORN_NS;
        let by = ProcId::from_u32(state.who as u32);
        late && by.is_none_or(|by| by == self.me() || self.is_dead(by))
    }

    /// What to expect on the liveness word while sleeping until `owner` is gone; `None` when it is.
    pub(crate) fn watch_liveness(&self, owner: ProcId) -> Option<(&AtomicU32, u32)> {
        if self.is_dead(owner) {
            return None;
        }
        let entry = self.root().processes.get(owner.slot() as usize)?;
        let life = match entry.told(owner.epoch()) {
            Told::ByLiveness(word) => &entry.liveness[word],
            Told::ByNumber => &entry.liveness[0],
        };
        match life.watch() {
            Some(expected) => Some((life.word(), expected)),
            // Its thread is gone but the process lives, or gives pages back: the naps look at it.
            None => Some((life.word(), life.word().load(Ordering::Acquire))),
        }
    }

    /// As [`Arena::watch_liveness`], but only if its end changes the word at once.
    pub(crate) fn watch_closely(&self, owner: ProcId) -> Option<(&AtomicU32, u32)> {
        self.watch_liveness(owner)
            .filter(|(_, expected)| robust_mutex::is_held(*expected))
    }

    /// What became of `owner`. Of those whose slot was given on already, only that they are gone is
    /// known; they count as having left.
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

    /// Gives back all that a dead process owned, then its slot.
    pub(crate) fn reap(&self, owner: ProcId) -> ExitState {
        let exit_state = self.exit_state(owner);
        if exit_state != ExitState::Alive {
            self.finish_reaping(owner);
        }
        exit_state
    }

    /// As [`Arena::reap`], for a child of this process whose status was collected.
    ///
    /// Its liveness word may say for ever that it lives: a thread that is not the first of its process takes over the
    /// number of that one when it calls exec, and the kernel does not know the word as its own any more.
    pub(crate) fn reap_collected(&self, owner: ProcId) -> ExitState {
        let exit_state = self.reap(owner);
        let entry = self.entry(owner);
        let state = entry.state();
        let sits = matches!(state.stage, Stage::Claimed | Stage::Live | Stage::Leaving);
        // Started by the child, its occupant may go on.
        if exit_state != ExitState::Alive
            || !sits
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

    /// Gives back all that a process owned that is known to be gone, then its slot.
    fn finish_reaping(&self, owner: ProcId) {
        let entry = self.entry(owner);
        let state = entry.state();
        if state.epoch != owner.epoch() || state.stage == Stage::Free {
            return;
        }
        self.tell_of(owner);
        let marked = match state.stage {
            Stage::Leaving => state.at(Stage::Clearing),
            Stage::Clearing => state,
            _ => state.at(Stage::Reaping),
        };
        if state == marked || entry.change(state, marked) {
            // Of one whose liveness word is not marked, they could not see before that it is gone.
            self.wake_watchers(entry);
            self.clear(owner);
        }
        // What it freed itself, nobody else may have seen, nor given back what it was about to.
        if marked.stage == Stage::Reaping {
            self.make_scan_due();
        }
        self.start_trimmer_if_due();
    }

    /// Gives up the slot this process had before it moved to another, unless something is owned in its
    /// name still; then the slot goes when the process does.
    pub(crate) fn release_former(&self, former: ProcId) {
        if self.owns_blocks(former) {
            return;
        }
        let entry = self.entry(former);
        let state = entry.state();
        // Another thread's liveness word can't be let go from here; the slot then waits for the end, too.
        if state.epoch == former.epoch()
            && self.let_go_of_liveness(former)
            && entry.change(state, state.at(Stage::Clearing))
        {
            self.tell_of(former);
            self.clear(former);
        }
    }

    fn clear(&self, owner: ProcId) {
        failpoint::hit("process.reaping");
        if !self.reclaim_all_of(owner) {
            // Somebody who sees all of the memory finishes it.
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

    /// The kernel wakes one sleeper when a holder dies; the others are woken by whoever knows.
    pub(crate) fn wake_watchers(&self, entry: &ProcessEntry) {
        for life in &entry.liveness {
            crate::sys::futex::wake(life.word(), u32::MAX);
        }
    }

    /// Reaps every dead process; the number of them.
    pub(crate) fn sweep(&self) -> usize {
        let dead: Vec<ProcId> = self.occupied().filter(|o| self.is_dead(*o)).collect();
        for owner in &dead {
            self.reap(*owner);
        }
        dead.len()
    }

    /// Every slot that is not free.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = ProcId> + '_ {
        let used = self.root().processes_used.load(Ordering::SeqCst) as usize;
        let slots = self.root().processes.iter().enumerate().take(used).skip(1);
        slots.filter_map(|(number, entry)| {
            let state = entry.state();
            (state.stage != Stage::Free).then(|| ProcId::new(number as u32, state.epoch))
        })
    }
}
