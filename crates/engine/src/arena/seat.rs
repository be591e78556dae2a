//! The process table: who is here, who is alive, and who sits where.
//!
//! ```text
//!        reserve           note_pid            sit             sit           leave
//! FREE(e) --> RESERVED(e+1) --> AWAITED(e+1) --> SITTING(e+1) --> LIVE(e+1) --> LEAVING(e+1)
//!    ^              +---------------------------------^               |             |
//!    |              |                |                |               |             |
//!    +--------------+---- bury: all that the epoch owned was given back ------------+
//! ```
//!
//! The word carries the epoch and, from AWAITED on, the number of the process it is about. A process
//! makes the seat its own, in SITTING, before it touches the seat's life word. A seat is FREE again only
//! after a whole sweep over what its occupant owned. Sweeps may run twice or stop halfway: each repair
//! names the exact owner, epoch included.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Arena;
use super::layout::SEATS;
use super::owner::{EPOCH_MASK, OwnerId};
use super::waits::NOTES;
use crate::deadline::monotonic_ns;
use crate::error::{Error, Result};
use crate::kill;
use crate::sys::life::{self, LifeWord};

/// How long a seat reserved by a fork may wait for its child, which sits down before fork returns.
const UNBORN_NS: u64 = match cfg!(feature = "kill-points") {
    false => 10_000_000_000,
    // The kill matrix waits for it at each of its deaths.
    true => 1_000_000_000,
};

#[repr(C, align(128))]
pub(crate) struct SeatEntry {
    /// The [`Stage`] (bits 60-63), the epoch (bits 31-49), and who: the reserver of a RESERVED seat, the
    /// process number from AWAITED on (bits 0-30).
    state: AtomicU64,
    /// When that process started, in clock ticks since boot (bits 0-44); for the epoch in bits 45-63.
    start: AtomicU64,
    /// When the seat was reserved.
    since: AtomicU64,
    /// The epoch whose life word's thread is gone while the process lives: look at `/proc` instead.
    by_pid: AtomicU32,
    /// How many threads give pages back, which goes on for a moment when that of the life word has ended.
    giving_back: AtomicU32,
    life: LifeWord,
    /// See `waits.rs`.
    pub(super) waits: [AtomicU64; NOTES],
    /// The epoch whose end was told: see `deaths.rs`.
    pub(super) told: AtomicU32,
    _pad: AtomicU32,
}

const _: () = assert!(size_of::<SeatEntry>() == 128);

/// See [`Arena::give_back_pages`].
pub(super) struct GivesBack<'a>(&'a AtomicU32);

impl Drop for GivesBack<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

const START_BITS: u32 = 45;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Free = 0,
    Reserved = 1,
    Awaited = 2,
    Sitting = 3,
    Live = 4,
    Leaving = 5,
    Burying = 6,
    /// As `Burying`, of one that had left in order.
    Clearing = 7,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) stage: Stage,
    epoch: u32,
    /// Who reserved the seat, or which process it is about.
    who: u32,
}

impl State {
    fn word(self) -> u64 {
        (self.stage as u64) << 60 | u64::from(self.epoch) << 31 | u64::from(self.who & 0x7fff_ffff)
    }

    fn from_word(word: u64) -> State {
        State {
            stage: match word >> 60 {
                1 => Stage::Reserved,
                2 => Stage::Awaited,
                3 => Stage::Sitting,
                4 => Stage::Live,
                5 => Stage::Leaving,
                6 => Stage::Burying,
                7 => Stage::Clearing,
                _ => Stage::Free,
            },
            epoch: (word >> 31) as u32 & EPOCH_MASK,
            who: word as u32 & 0x7fff_ffff,
        }
    }

    fn at(self, stage: Stage) -> State {
        State { stage, ..self }
    }

    fn of(self, stage: Stage, pid: u32) -> State {
        State {
            stage,
            who: pid,
            ..self
        }
    }
}

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It runs, is stopped, or is still starting.
    Alive,
    /// It left in order.
    Left,
    /// It was killed, called `_exit`, or another program took its place.
    Died,
}

impl SeatEntry {
    pub(crate) fn state(&self) -> State {
        State::from_word(self.state.load(Ordering::Acquire))
    }

    fn change(&self, from: State, to: State) -> bool {
        self.state
            .compare_exchange(from.word(), to.word(), Ordering::SeqCst, Ordering::Acquire)
            .is_ok()
    }

    /// Notes when the process that an epoch is about started.
    fn note_start(&self, epoch: u32, pid: u32) {
        let start = life::start_time(pid).unwrap_or(0) & ((1 << START_BITS) - 1);
        let word = u64::from(epoch) << START_BITS | start;
        self.start.store(word, Ordering::SeqCst);
    }

    /// Whether the process that `state` is about runs.
    fn runs(&self, state: State) -> bool {
        let start = self.start.load(Ordering::SeqCst);
        let start = match (start >> START_BITS) as u32 == state.epoch {
            true => start & ((1 << START_BITS) - 1),
            false => 0,
        };
        life::runs(state.who, start)
    }

    fn gives_back(&self) -> bool {
        std::sync::atomic::fence(Ordering::SeqCst);
        self.giving_back.load(Ordering::SeqCst) != 0
    }

    pub(super) fn is_known_by_pid(&self, epoch: u32) -> bool {
        self.by_pid.load(Ordering::Acquire) == epoch
    }
}

impl Arena {
    pub(crate) fn seat(&self, owner: OwnerId) -> &SeatEntry {
        &self.root().seats[owner.seat() as usize]
    }

    /// Reserves a seat for a process that is to be started by `by`.
    pub(crate) fn reserve(&self, by: Option<OwnerId>) -> Result<OwnerId> {
        self.look_for_seat(by).or_else(|_| {
            self.sweep();
            self.look_for_seat(by)
        })
    }

    fn look_for_seat(&self, by: Option<OwnerId>) -> Result<OwnerId> {
        self.look_around();
        let root = self.root();
        let first = root.seat_hint.fetch_add(1, Ordering::Relaxed) as usize;
        for step in 0..SEATS - 1 {
            let number = 1 + (first + step) % (SEATS - 1);
            let entry = &root.seats[number];
            let state = entry.state();
            if state.stage != Stage::Free {
                continue;
            }
            // Epoch zero is skipped, and so is the id that stands for "kept".
            let epoch = match (state.epoch + 1) & EPOCH_MASK {
                0 => 1,
                epoch => epoch,
            };
            let owner = OwnerId::new(number as u32, epoch);
            let reserved = match by {
                Some(by) => State {
                    stage: Stage::Reserved,
                    epoch,
                    who: by.as_u32(),
                },
                None => State {
                    stage: Stage::Awaited,
                    epoch,
                    who: std::process::id(),
                },
            };
            // Before the swap: nobody may take the seat for one that waits since its last occupant.
            entry.since.store(monotonic_ns(), Ordering::SeqCst);
            if owner != OwnerId::KEPT && entry.change(state, reserved) {
                root.seat_hint.store(number as u32, Ordering::Relaxed);
                root.seats_used
                    .fetch_max(number as u32 + 1, Ordering::Relaxed);
                kill::point("seat.reserved");
                return Ok(owner);
            }
        }
        Err(Error::TableFull(
            "place for a further process (a tree has 4095)",
        ))
    }

    /// Buries the dead among a few seats, others at each call, so that nobody's things lie about until
    /// all seats are taken.
    fn look_around(&self) {
        let root = self.root();
        let used = root
            .seats_used
            .load(Ordering::Relaxed)
            .clamp(2, SEATS as u32);
        for _ in 0..4 {
            let turn = root.seat_turn.fetch_add(1, Ordering::Relaxed);
            let number = 1 + turn % (used - 1);
            let state = root.seats[number as usize].state();
            let owner = OwnerId::new(number, state.epoch);
            if state.stage != Stage::Free && self.is_dead(owner) {
                self.bury(owner);
            }
        }
    }

    /// Makes the calling process the occupant of a reserved seat.
    pub(crate) fn sit(&self, owner: OwnerId) -> Result<()> {
        let entry = self.seat(owner);
        let pid = std::process::id();
        let sitting = loop {
            let state = entry.state();
            let waits = matches!(state.stage, Stage::Reserved | Stage::Awaited);
            if !waits || state.epoch != owner.epoch() {
                return Err(Error::SeatGone);
            }
            let sitting = state.of(Stage::Sitting, pid);
            if entry.change(state, sitting) {
                break sitting;
            }
        };
        kill::point("seat.sitting");
        self.clear_waits(owner);
        entry.giving_back.store(0, Ordering::SeqCst);
        entry.told.store(0, Ordering::SeqCst);
        if !entry.life.hold() {
            self.know_by_pid(owner);
        }
        kill::point("seat.held");
        if !entry.change(sitting, sitting.at(Stage::Live)) {
            return Err(Error::SeatGone);
        }
        kill::point("seat.live");
        self.tell_of_birth();
        Ok(())
    }

    /// From now on the process is known by its number, since the thread that held its life word ends.
    ///
    /// Not when it is leaving: then the thread most likely ends with it, and the word tells at once.
    pub(crate) fn thread_ends(&self, owner: OwnerId) {
        let state = self.seat(owner).state();
        if state.stage == Stage::Live && state.epoch == owner.epoch() {
            self.know_by_pid(owner);
        }
    }

    /// Until the guard is dropped, this process is not dead before all its threads have ended: what the kernel does
    /// for one of them is not cut short by the end of the others. `None` if it is taken for dead already.
    ///
    /// SYNC: count, then look for death; who asks whether it is dead looks for death, then at the count.
    pub(super) fn give_back_pages(&self) -> Option<GivesBack<'_>> {
        let me = self.me();
        let entry = self.seat(me);
        entry.note_start(me.epoch(), std::process::id());
        entry.giving_back.fetch_add(1, Ordering::SeqCst);
        let guard = GivesBack(&entry.giving_back);
        std::sync::atomic::fence(Ordering::SeqCst);
        let is_alive = entry.is_known_by_pid(me.epoch()) || !entry.life.holder_died();
        is_alive.then_some(guard)
    }

    #[cfg(test)]
    pub(super) fn has_lost_its_thread(&self, owner: OwnerId) -> bool {
        self.seat(owner).life.holder_died()
    }

    fn know_by_pid(&self, owner: OwnerId) {
        let entry = self.seat(owner);
        entry.note_start(owner.epoch(), std::process::id());
        entry.by_pid.store(owner.epoch(), Ordering::SeqCst);
    }

    /// Writes down which process a reserved seat is for, so that its early death can be seen.
    pub(crate) fn note_pid(&self, owner: OwnerId, pid: u32) {
        let entry = self.seat(owner);
        let state = entry.state();
        if state.stage == Stage::Reserved && state.epoch == owner.epoch() {
            entry.note_start(state.epoch, pid);
            entry.change(state, state.of(Stage::Awaited, pid));
        }
    }

    /// Marks the end of the calling process as orderly.
    pub(crate) fn leave(&self, owner: OwnerId) {
        let entry = self.seat(owner);
        let state = entry.state();
        if state.stage == Stage::Live && state.epoch == owner.epoch() {
            entry.change(state, state.at(Stage::Leaving));
            kill::point("seat.leaving");
        }
    }

    /// Gives back a seat this process reserved, on which nobody sits and nobody is expected any more.
    pub(crate) fn release(&self, owner: OwnerId) {
        let entry = self.seat(owner);
        let state = entry.state();
        let ours = match state.stage {
            Stage::Reserved => state.who == self.me().as_u32(),
            Stage::Awaited => true,
            _ => false,
        };
        if ours && state.epoch == owner.epoch() && entry.change(state, state.at(Stage::Burying)) {
            self.clear(owner);
        }
    }

    /// Whether nobody sat down yet on a seat that was reserved.
    pub(crate) fn is_expected(&self, owner: OwnerId) -> bool {
        let state = self.seat(owner).state();
        state.epoch == owner.epoch() && matches!(state.stage, Stage::Reserved | Stage::Awaited)
    }

    /// The number of the process that sits there.
    pub(crate) fn pid_of(&self, owner: OwnerId) -> Option<u32> {
        let state = self.seat(owner).state();
        let sits = matches!(state.stage, Stage::Sitting | Stage::Live | Stage::Leaving);
        (sits && state.epoch == owner.epoch()).then_some(state.who)
    }

    /// Whether the occupant is gone for good.
    ///
    /// One load for a living process: helpers may ask at every slot they meet.
    pub(crate) fn is_dead(&self, owner: OwnerId) -> bool {
        if owner == OwnerId::KEPT {
            return false;
        }
        let Some(entry) = self.root().seats.get(owner.seat() as usize) else {
            return true;
        };
        let state = entry.state();
        if state.epoch != owner.epoch() {
            return true;
        }
        match state.stage {
            Stage::Live | Stage::Leaving if entry.is_known_by_pid(state.epoch) => {
                !entry.runs(state)
            }
            Stage::Live | Stage::Leaving => {
                entry.life.holder_died() && !(entry.gives_back() && entry.runs(state))
            }
            Stage::Awaited | Stage::Sitting => !entry.runs(state),
            Stage::Reserved => self.never_came(entry, state),
            Stage::Free | Stage::Burying | Stage::Clearing => true,
        }
    }

    /// Whether nobody will sit any more on a seat for a process whose number nobody noted.
    #[cold]
    fn never_came(&self, entry: &SeatEntry, state: State) -> bool {
        let late = monotonic_ns().saturating_sub(entry.since.load(Ordering::Acquire)) > UNBORN_NS;
        late && OwnerId::from_u32(state.who).is_none_or(|by| by == self.me() || self.is_dead(by))
    }

    /// What to expect on the life word while sleeping until `owner` is gone; `None` when it is.
    pub(crate) fn watch_life(&self, owner: OwnerId) -> Option<(&AtomicU32, u32)> {
        if self.is_dead(owner) {
            return None;
        }
        let life = &self.root().seats.get(owner.seat() as usize)?.life;
        match life.watch() {
            Some(expected) => Some((life.word(), expected)),
            // Its thread is gone but the process lives: the naps look at it.
            None => Some((life.word(), life.word().load(Ordering::Acquire))),
        }
    }

    /// As [`Arena::watch_life`], but only if its end changes the word at once.
    pub(crate) fn watch_closely(&self, owner: OwnerId) -> Option<(&AtomicU32, u32)> {
        self.watch_life(owner)
            .filter(|(_, expected)| life::is_held(*expected))
    }

    /// What became of `owner`. Of those whose seat was given on already, only that they are gone is
    /// known; they count as having left.
    pub(crate) fn fate(&self, owner: OwnerId) -> Fate {
        let Some(entry) = self.root().seats.get(owner.seat() as usize) else {
            return Fate::Died;
        };
        let state = entry.state();
        if state.epoch != owner.epoch() {
            return Fate::Left;
        }
        if !self.is_dead(owner) {
            return Fate::Alive;
        }
        match state.stage {
            Stage::Leaving | Stage::Clearing | Stage::Free => Fate::Left,
            _ => Fate::Died,
        }
    }

    /// Gives back all that a dead process owned, then its seat.
    pub(crate) fn bury(&self, owner: OwnerId) -> Fate {
        let fate = self.fate(owner);
        if fate != Fate::Alive {
            self.inter(owner);
        }
        fate
    }

    /// As [`Arena::bury`], for a child of this process whose status was collected.
    ///
    /// Its life word may say for ever that it lives: a thread that is not the first of its process takes over the
    /// number of that one when it calls exec, and the kernel does not know the word as its own any more.
    pub(crate) fn bury_reaped(&self, owner: OwnerId) -> Fate {
        let fate = self.bury(owner);
        let entry = self.seat(owner);
        let state = entry.state();
        let sits = matches!(state.stage, Stage::Sitting | Stage::Live | Stage::Leaving);
        // Started by the child, its occupant may go on.
        if fate != Fate::Alive || !sits || state.epoch != owner.epoch() || entry.runs(state) {
            return fate;
        }
        self.inter(owner);
        match state.stage {
            Stage::Leaving => Fate::Left,
            _ => Fate::Died,
        }
    }

    /// Gives back all that a process owned that is known to be gone, then its seat.
    fn inter(&self, owner: OwnerId) {
        let entry = self.seat(owner);
        let state = entry.state();
        if state.epoch != owner.epoch() || state.stage == Stage::Free {
            return;
        }
        self.wake_watchers(entry);
        self.tell_of(owner);
        let marked = match state.stage {
            Stage::Leaving => state.at(Stage::Clearing),
            Stage::Clearing => state,
            _ => state.at(Stage::Burying),
        };
        if state == marked || entry.change(state, marked) {
            self.clear(owner);
        }
        // What it freed itself, nobody else may have seen.
        self.notice();
    }

    /// Gives up the seat this process had before it moved to another, unless something is owned in its
    /// name still; then the seat goes when the process does.
    pub(crate) fn vacate(&self, former: OwnerId) {
        if self.owns_blocks(former) {
            return;
        }
        let entry = self.seat(former);
        // Killed after letting go of the life word, the process is found dead by its number.
        self.know_by_pid(former);
        kill::point("seat.vacating");
        let state = entry.state();
        // Another thread's life word can't be let go from here; the seat then waits for the end, too.
        if state.epoch == former.epoch()
            && entry.life.let_go()
            && entry.change(state, state.at(Stage::Clearing))
        {
            self.clear(former);
        }
    }

    fn clear(&self, owner: OwnerId) {
        kill::point("seat.burying");
        if !self.reclaim_all_of(owner) {
            // Somebody who sees all of the memory finishes it.
            return;
        }
        kill::point("seat.swept");
        let entry = self.seat(owner);
        let state = entry.state();
        if state.epoch == owner.epoch() && matches!(state.stage, Stage::Burying | Stage::Clearing) {
            entry.change(state, state.at(Stage::Free));
        }
    }

    /// The kernel wakes one sleeper when a holder dies; the others are woken by whoever knows.
    fn wake_watchers(&self, entry: &SeatEntry) {
        crate::sys::futex::wake(entry.life.word(), u32::MAX);
    }

    /// Buries every dead process; the number of them.
    pub(crate) fn sweep(&self) -> usize {
        let dead: Vec<OwnerId> = self.occupied().filter(|o| self.is_dead(*o)).collect();
        for owner in &dead {
            self.bury(*owner);
        }
        dead.len()
    }

    /// Every seat that is not free.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = OwnerId> + '_ {
        let used = self.root().seats_used.load(Ordering::Relaxed) as usize;
        let seats = self.root().seats.iter().enumerate().take(used).skip(1);
        seats.filter_map(|(number, entry)| {
            let state = entry.state();
            (state.stage != Stage::Free).then(|| OwnerId::new(number as u32, state.epoch))
        })
    }
}
