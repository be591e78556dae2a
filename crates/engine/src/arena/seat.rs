//! The process table: who is here, who is alive, and who sits where.
//!
//! ```text
//! FREE(e) --reserve--> RESERVED(e+1) --sit--> LIVE(e+1) --leave--> LEAVING(e+1)
//!    ^                      |                    |                     |
//!    +------ bury: all that the epoch owned was given back ------------+
//! ```
//!
//! A seat is FREE again only after a whole sweep over what its occupant owned. Sweeps may run twice or
//! stop halfway: each repair names the exact owner, epoch included.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Arena;
use super::layout::SEATS;
use super::owner::{EPOCH_MASK, OwnerId};
use crate::deadline::monotonic_ns;
use crate::error::{Error, Result};
use crate::kill;
use crate::sys::life::{self, LifeWord};

/// How long a seat reserved by a fork may wait for its child, which sits down before fork returns.
const UNBORN_NS: u64 = 10_000_000_000;

#[repr(C, align(128))]
pub(crate) struct SeatEntry {
    /// The [`Stage`] (bits 60-63), the epoch (bits 31-49), who reserved the seat (bits 0-30).
    state: AtomicU64,
    /// The process number, once known (low half), and the epoch it is about (high half).
    process: AtomicU64,
    /// Clock ticks since boot at which that process started; zero while unknown.
    start: AtomicU64,
    /// The epoch whose life word's thread is gone while the process lives: look at `/proc` instead.
    by_pid: AtomicU32,
    /// When the seat was reserved.
    since: AtomicU64,
    life: LifeWord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Free = 0,
    Reserved = 1,
    Live = 2,
    Leaving = 3,
    Burying = 4,
    /// As `Burying`, of one that had left in order.
    Clearing = 5,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) stage: Stage,
    epoch: u32,
    /// Who reserved the seat.
    by: u32,
}

impl State {
    fn word(self) -> u64 {
        (self.stage as u64) << 60 | u64::from(self.epoch) << 31 | u64::from(self.by)
    }

    fn from_word(word: u64) -> State {
        State {
            stage: match word >> 60 {
                1 => Stage::Reserved,
                2 => Stage::Live,
                3 => Stage::Leaving,
                4 => Stage::Burying,
                5 => Stage::Clearing,
                _ => Stage::Free,
            },
            epoch: (word >> 31) as u32 & EPOCH_MASK,
            by: word as u32 & 0x7fff_ffff,
        }
    }

    fn at(self, stage: Stage) -> State {
        State { stage, ..self }
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

    /// Notes which process an epoch is about. Start first: who sees the number sees its start.
    fn identify(&self, epoch: u32, pid: u32, start: u64) {
        self.start.store(start, Ordering::SeqCst);
        let process = u64::from(epoch) << 32 | u64::from(pid);
        self.process.store(process, Ordering::SeqCst);
    }

    /// Whether the process of an epoch runs; `None` while it is not known which it is.
    fn runs(&self, epoch: u32) -> Option<bool> {
        let process = self.process.load(Ordering::SeqCst);
        let start = self.start.load(Ordering::SeqCst);
        ((process >> 32) as u32 == epoch).then(|| life::runs(process as u32, start))
    }

    fn is_known_by_pid(&self, epoch: u32) -> bool {
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
            let reserved = State {
                stage: Stage::Reserved,
                epoch,
                by: by.map_or(0, OwnerId::as_u32),
            };
            // Before the swap: nobody may take the seat for one that waits since its last occupant.
            entry.since.store(monotonic_ns(), Ordering::SeqCst);
            if owner != OwnerId::KEPT && entry.change(state, reserved) {
                if by.is_none() {
                    // Reserved by its own occupant to be.
                    entry.identify(epoch, std::process::id(), 0);
                }
                root.seat_hint.store(number as u32, Ordering::Relaxed);
                kill::point("seat.reserved");
                return Ok(owner);
            }
        }
        Err(Error::TableFull("place for a further process"))
    }

    /// Makes the calling process the occupant of a reserved seat.
    pub(crate) fn sit(&self, owner: OwnerId) -> Result<()> {
        let entry = self.seat(owner);
        let state = entry.state();
        if state.stage != Stage::Reserved || state.epoch != owner.epoch() {
            return Err(Error::SeatGone);
        }
        entry.identify(owner.epoch(), std::process::id(), 0);
        if !entry.life.hold() {
            self.know_by_pid(owner);
        }
        kill::point("seat.held");
        if !entry.change(state, state.at(Stage::Live)) {
            return Err(Error::SeatGone);
        }
        kill::point("seat.live");
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

    fn know_by_pid(&self, owner: OwnerId) {
        let entry = self.seat(owner);
        let pid = std::process::id();
        entry.identify(owner.epoch(), pid, life::start_time(pid).unwrap_or(0));
        entry.by_pid.store(owner.epoch(), Ordering::SeqCst);
    }

    /// Writes down which process a reserved seat is for, so that its early death can be seen.
    pub(crate) fn note_pid(&self, owner: OwnerId, pid: u32) {
        let entry = self.seat(owner);
        let state = entry.state();
        if state.stage == Stage::Reserved && state.epoch == owner.epoch() {
            entry.identify(owner.epoch(), pid, life::start_time(pid).unwrap_or(0));
        }
    }

    /// Marks the end of the calling process as orderly.
    pub(crate) fn leave(&self, owner: OwnerId) {
        let entry = self.seat(owner);
        let state = entry.state();
        if state.stage == Stage::Live && state.epoch == owner.epoch() {
            entry.change(state, state.at(Stage::Leaving));
        }
    }

    /// Gives a reserved seat back whose process was never started.
    pub(crate) fn release(&self, owner: OwnerId) {
        let entry = self.seat(owner);
        let state = entry.state();
        if state.stage == Stage::Reserved
            && state.epoch == owner.epoch()
            && entry.change(state, state.at(Stage::Burying))
        {
            self.clear(owner);
        }
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
                entry.runs(state.epoch) == Some(false)
            }
            Stage::Live | Stage::Leaving => entry.life.holder_died(),
            Stage::Reserved => self.never_came(entry, state),
            Stage::Free | Stage::Burying | Stage::Clearing => true,
        }
    }

    /// Whether nobody will sit on a reserved seat any more.
    #[cold]
    fn never_came(&self, entry: &SeatEntry, state: State) -> bool {
        if let Some(runs) = entry.runs(state.epoch) {
            return !runs;
        }
        let late = monotonic_ns().saturating_sub(entry.since.load(Ordering::Acquire)) > UNBORN_NS;
        late && OwnerId::from_u32(state.by).is_some_and(|by| by == self.me() || self.is_dead(by))
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
            Stage::Reserved | Stage::Live | Stage::Burying => Fate::Died,
        }
    }

    /// Gives back all that a dead process owned, then its seat.
    pub(crate) fn bury(&self, owner: OwnerId) -> Fate {
        let fate = self.fate(owner);
        if fate == Fate::Alive {
            return fate;
        }
        let entry = self.seat(owner);
        let state = entry.state();
        if state.epoch != owner.epoch() || state.stage == Stage::Free {
            return fate;
        }
        self.wake_watchers(entry);
        let marked = match state.stage {
            Stage::Leaving => state.at(Stage::Clearing),
            Stage::Clearing => state,
            _ => state.at(Stage::Burying),
        };
        if state == marked || entry.change(state, marked) {
            self.clear(owner);
        }
        fate
    }

    /// Gives up the seat this process had before it moved to another.
    pub(crate) fn vacate(&self, former: OwnerId) {
        let entry = self.seat(former);
        let state = entry.state();
        // Another thread's life word can't be let go from here; the seat then waits for the end.
        if state.epoch == former.epoch()
            && entry.life.let_go()
            && entry.change(state, state.at(Stage::Clearing))
        {
            self.clear(former);
        }
    }

    fn clear(&self, owner: OwnerId) {
        kill::point("seat.burying");
        self.reclaim_all_of(owner);
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
        let seats = self.root().seats.iter().enumerate().skip(1);
        seats.filter_map(|(number, entry)| {
            let state = entry.state();
            (state.stage != Stage::Free).then(|| OwnerId::new(number as u32, state.epoch))
        })
    }
}
