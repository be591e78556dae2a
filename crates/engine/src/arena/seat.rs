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
//! makes the seat its own, in SITTING, before it touches the seat's life words. A seat is FREE again only
//! after a whole sweep over what its occupant owned. Sweeps may run twice or stop halfway: each repair
//! names the exact owner, epoch included.
//!
//! LIVE and LEAVING are judged by the life word that counts (`keeper.rs`). The number is looked at before there is a
//! holder, and where the kernel would not mark its end; only by processes of the same namespaces (`sys/number.rs`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Arena;
use super::layout::SEATS;
use super::owner::{EPOCH_MASK, OwnerId};
use super::seat_state::{Stage, State};
use super::waits::NOTES;
use crate::deadline::monotonic_ns;
use crate::error::{Error, Result};
use crate::kill;
use crate::sys::life::{self, LifeWord};
use crate::sys::number::Number;

/// How long a seat reserved by a fork may wait for its child, which sits down before fork returns.
const UNBORN_NS: u64 = match cfg!(feature = "kill-points") {
    false => 10_000_000_000,
    // The kill matrix waits for it at each of its deaths.
    true => 1_000_000_000,
};

#[repr(C, align(128))]
pub(crate) struct SeatEntry {
    /// The [`Stage`] (bits 60-63), the epoch (bits 41-59), and who: the reserver of a RESERVED seat, the
    /// [`Number`] of the process from AWAITED on (bits 0-40).
    state: AtomicU64,
    /// When that process started, in clock ticks since boot (bits 0-44); for the epoch in bits 45-63.
    start: AtomicU64,
    /// When the seat was reserved.
    since: AtomicU64,
    /// What [tells](Told) of the end (bits 0-1); for the epoch in bits 2-20.
    told: AtomicU32,
    /// The epoch whose end was told to those that sleep (bits 0-18), or of whose occupant nothing was told when it took
    /// the seat ([`UNTOLD`]): see `deaths.rs`.
    pub(super) announced: AtomicU32,
    /// One of them is held as long as the process lives.
    pub(super) lives: [LifeWord; 2],
    /// Held by a thread that gives pages back, which goes on for a moment when the one that holds the life word has
    /// ended.
    pub(super) giving_back: LifeWord,
    /// See `waits.rs`.
    pub(super) waits: [AtomicU64; NOTES],
    /// See `heirs.rs`.
    pub(super) line: AtomicU64,
    pub(super) heir_of: [AtomicU32; super::heirs::GENERATIONS],
}

const _: () = assert!(size_of::<SeatEntry>() == 256);

/// What tells that the process on a seat is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Its life word: the first one, if nothing else was said.
    ByLife(usize),
    /// Its number and when it started, for want of a thread whose end is marked.
    ByNumber,
}

const START_BITS: u32 = 45;

/// See [`SeatEntry::announced`].
const UNTOLD: u32 = 1 << 31;
const _: () = assert!(UNTOLD > EPOCH_MASK);

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

    pub(super) fn told(&self, epoch: u32) -> Told {
        let word = self.told.load(Ordering::SeqCst);
        match (word >> 2 == epoch, word & 3) {
            (true, 1) => Told::ByLife(1),
            (true, 2) => Told::ByNumber,
            _ => Told::ByLife(0),
        }
    }

    fn tell(&self, epoch: u32, told: Told) {
        let bits = match told {
            Told::ByLife(word) => word as u32 & 1,
            Told::ByNumber => 2,
        };
        self.told.store(epoch << 2 | bits, Ordering::SeqCst);
    }

    /// The word that tells of the occupant's end, when it says that its holder is gone.
    ///
    /// SYNC: another word counts before the first one is let go of. So who finds a word's holder gone looks again.
    pub(super) fn ended_life(&self, epoch: u32) -> bool {
        loop {
            let told = self.told(epoch);
            let Told::ByLife(word) = told else {
                return false;
            };
            if !self.lives[word].holder_died() {
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

    pub(super) fn is_known_by_number(&self, epoch: u32) -> bool {
        self.told(epoch) == Told::ByNumber
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
                    who: by.as_u32().into(),
                },
                None => State {
                    stage: Stage::Awaited,
                    epoch,
                    who: Number::of_this_process().bits(),
                },
            };
            // Before the swap: nobody may take the seat for one that waits since its last occupant.
            entry.since.store(monotonic_ns(), Ordering::SeqCst);
            if owner != OwnerId::KEPT && entry.change(state, reserved) {
                entry.line.store(0, Ordering::SeqCst);
                entry
                    .heir_of
                    .iter()
                    .for_each(|of| of.store(0, Ordering::SeqCst));
                root.seat_hint.store(number as u32, Ordering::Relaxed);
                root.seats_used
                    .fetch_max(number as u32 + 1, Ordering::SeqCst);
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
        let me = Number::of_this_process();
        let sitting = loop {
            let state = entry.state();
            let waits = matches!(state.stage, Stage::Reserved | Stage::Awaited);
            if !waits || state.epoch != owner.epoch() {
                return Err(Error::SeatGone);
            }
            let sitting = state.of(Stage::Sitting, me);
            if entry.change(state, sitting) {
                break sitting;
            }
        };
        kill::point("seat.sitting");
        self.clear_waits(owner);
        let untold = UNTOLD | owner.epoch();
        entry.announced.store(untold, Ordering::SeqCst);
        if !entry.giving_back.make() || !self.hold_life(owner) {
            self.know_by_number(owner);
        }
        kill::point("seat.held");
        if !entry.change(sitting, sitting.at(Stage::Live)) {
            return Err(Error::SeatGone);
        }
        kill::point("seat.live");
        self.tell_of_change();
        Ok(())
    }

    /// Whether the process sits there, and did not begin to leave.
    pub(super) fn is_live(&self, owner: OwnerId) -> bool {
        let state = self.seat(owner).state();
        state.stage == Stage::Live && state.epoch == owner.epoch()
    }

    #[cfg(test)]
    pub(super) fn has_lost_its_thread(&self, owner: OwnerId) -> bool {
        self.seat(owner).ended_life(owner.epoch())
    }

    /// From now on the process is known by its number.
    pub(super) fn know_by_number(&self, owner: OwnerId) {
        let entry = self.seat(owner);
        entry.note_start(owner.epoch(), entry.state().number());
        self.tell_by(owner, Told::ByNumber);
    }

    /// From now on something else tells of the end of this process.
    ///
    /// Those that sleep on the word that told of it look again. Killed in between, the process is found dead by one of
    /// them: its former word is held still.
    pub(super) fn tell_by(&self, owner: OwnerId, told: Told) {
        self.seat(owner).tell(owner.epoch(), told);
        kill::point("seat.taken_over");
        self.tell_of_change();
    }

    /// Writes down which process a reserved seat is for, so that its early death can be seen.
    pub(crate) fn note_pid(&self, owner: OwnerId, pid: u32) {
        let entry = self.seat(owner);
        let state = entry.state();
        if state.stage == Stage::Reserved && state.epoch == owner.epoch() {
            let number = Number::of(pid);
            entry.note_start(state.epoch, number);
            entry.change(state, state.of(Stage::Awaited, number));
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
            Stage::Reserved => state.who == u64::from(self.me().as_u32()),
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
    pub(crate) fn number_of(&self, owner: OwnerId) -> Option<Number> {
        let state = self.seat(owner).state();
        let sits = matches!(state.stage, Stage::Sitting | Stage::Live | Stage::Leaving);
        (sits && state.epoch == owner.epoch()).then(|| state.number())
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
            Stage::Live | Stage::Leaving => match entry.told(state.epoch) {
                Told::ByNumber => !entry.runs(state),
                Told::ByLife(word) => {
                    entry.lives[word].holder_died()
                        && entry.ended_life(state.epoch)
                        && !entry.gives_back()
                }
            },
            Stage::Awaited | Stage::Sitting => !entry.runs(state),
            Stage::Reserved => self.never_came(entry, state),
            Stage::Free | Stage::Burying | Stage::Clearing => true,
        }
    }

    /// Whether nobody will sit any more on a seat for a process whose number nobody noted.
    #[cold]
    fn never_came(&self, entry: &SeatEntry, state: State) -> bool {
        let late = monotonic_ns().saturating_sub(entry.since.load(Ordering::Acquire)) > UNBORN_NS;
        let by = OwnerId::from_u32(state.who as u32);
        late && by.is_none_or(|by| by == self.me() || self.is_dead(by))
    }

    /// What to expect on the life word while sleeping until `owner` is gone; `None` when it is.
    pub(crate) fn watch_life(&self, owner: OwnerId) -> Option<(&AtomicU32, u32)> {
        if self.is_dead(owner) {
            return None;
        }
        let entry = self.root().seats.get(owner.seat() as usize)?;
        let life = match entry.told(owner.epoch()) {
            Told::ByLife(word) => &entry.lives[word],
            Told::ByNumber => &entry.lives[0],
        };
        match life.watch() {
            Some(expected) => Some((life.word(), expected)),
            // Its thread is gone but the process lives, or gives pages back: the naps look at it.
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
        self.tell_of(owner);
        let marked = match state.stage {
            Stage::Leaving => state.at(Stage::Clearing),
            Stage::Clearing => state,
            _ => state.at(Stage::Burying),
        };
        if state == marked || entry.change(state, marked) {
            // Of one whose life word is not marked, they could not see before that it is gone.
            self.wake_watchers(entry);
            self.clear(owner);
        }
        // What it freed itself, nobody else may have seen, nor given back what it was about to.
        if marked.stage == Stage::Burying {
            self.look_is_due();
        }
        self.notice();
    }

    /// Gives up the seat this process had before it moved to another, unless something is owned in its
    /// name still; then the seat goes when the process does.
    pub(crate) fn vacate(&self, former: OwnerId) {
        if self.owns_blocks(former) {
            return;
        }
        let entry = self.seat(former);
        let state = entry.state();
        // Another thread's life word can't be let go from here; the seat then waits for the end, too.
        if state.epoch == former.epoch()
            && self.let_go_of_life(former)
            && entry.change(state, state.at(Stage::Clearing))
        {
            self.tell_of(former);
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
        self.drop_notes(owner);
        let entry = self.seat(owner);
        let state = entry.state();
        if state.epoch == owner.epoch() && matches!(state.stage, Stage::Burying | Stage::Clearing) {
            entry.change(state, state.at(Stage::Free));
        }
    }

    /// The kernel wakes one sleeper when a holder dies; the others are woken by whoever knows.
    pub(super) fn wake_watchers(&self, entry: &SeatEntry) {
        for life in &entry.lives {
            crate::sys::futex::wake(life.word(), u32::MAX);
        }
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
        let used = self.root().seats_used.load(Ordering::SeqCst) as usize;
        let seats = self.root().seats.iter().enumerate().take(used).skip(1);
        seats.filter_map(|(number, entry)| {
            let state = entry.state();
            (state.stage != Stage::Free).then(|| OwnerId::new(number as u32, state.epoch))
        })
    }
}
