//! A barrier: a place where a number of processes wait for each other.
//!
//! ```text
//! word: bit 0      a process may be asleep
//!       bit 1      broken: everybody who comes or waits is turned away until a reset
//!       bits 2-31  the round; the half that sleepers sleep on ends here
//!       bits 32-63 the last round that was opened; other rounds were ended by a reset
//! ```
//!
//! A waiter that slept over several rounds reads from the word how its own round ended.
//!
//! A party is a cell with its process id and the round. The party that fills the last cell opens
//! the barrier by moving the word to the next round. That empties all cells at once, in one step.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::arena::kind::Kind;
use crate::arena::owner::ProcId;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::objects::handle::Handle;
use crate::objects::object::{Layout, ObjectHead};
use crate::objects::object_ref::{TypedRef, opened};
use crate::process_table::wait_registry;
use crate::process_table::wait_registry::WaitReason;
use crate::sys::futex::{self, Slept};

const SLEEPERS: u64 = 1;
const BROKEN: u64 = 2;
const ROUND_SHIFT: u32 = 2;
const ROUNDS: u32 = (1 << 30) - 1;

#[repr(C)]
pub(crate) struct BarrierObject {
    head: ObjectHead,
    word: AtomicU64,
    parties: AtomicU32,
    // Followed by one u64 for each party: the round (high half) and its process (low half).
}

// SAFETY: repr(C), head first, atomics only.
unsafe impl Layout for BarrierObject {
    const KIND: Kind = Kind::Barrier;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// A barrier for a fixed number of parties. A party that dies while it waits breaks the barrier.
#[derive(Debug)]
pub struct Barrier {
    shared: TypedRef<BarrierObject>,
}

opened!(Barrier, shared);

/// Why a party was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// The barrier was broken: by a timeout, an abort, a reset, or a party's death.
    #[error("the barrier is broken; reset it to use it again")]
    Broken,
    /// The deadline passed. The party still counts.
    #[error("timed out waiting at the barrier")]
    TimedOut,
    /// A signal arrived. The party still counts.
    #[error("interrupted by a signal while waiting at the barrier")]
    Interrupted,
}

/// A party's place in a round.
#[derive(Debug)]
pub struct Place {
    round: u32,
    /// `None` for a party too many, which waits for the next round.
    index: Option<u32>,
}

/// How a party comes through.
#[derive(Debug)]
pub enum WaitOutcome<'a> {
    /// The party came last: the others wait until it opens the barrier.
    Last(OpenGuard<'a>),
    /// The barrier was opened.
    Passed {
        /// Which of the parties this was, from 0.
        index: u32,
    },
}

/// The right to open the barrier. Dropping it without opening breaks the barrier.
#[derive(Debug)]
pub struct OpenGuard<'a> {
    barrier: &'a Barrier,
    round: u32,
    index: u32,
}

/// The word as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen(u64);

impl Seen {
    fn round(self) -> u32 {
        self.0 as u32 >> ROUND_SHIFT
    }

    fn is_broken(self) -> bool {
        self.0 & BROKEN != 0
    }

    /// The word after this round, which was opened or reset.
    fn ended(self, opened: bool) -> Seen {
        let round = match self.round() {
            // Empty cells say zero.
            ROUNDS => 1,
            round => round + 1,
        };
        let last_opened = match opened {
            true => self.round(),
            false => self.last_opened(),
        };
        Seen(u64::from(last_opened) << 32 | u64::from(round << ROUND_SHIFT))
    }

    fn last_opened(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether an earlier round was opened. If a later one was opened too, the earlier one counts
    /// as opened: that takes more processes than there are parties, because its own parties would
    /// otherwise still be waiting for it.
    fn was_opened(self, round: u32) -> bool {
        !is_older(self.last_opened(), round)
    }
}

fn is_older(round: u32, than: u32) -> bool {
    let behind = than.wrapping_sub(round) & ROUNDS;
    round == 0 || (behind != 0 && behind < ROUNDS / 2)
}

impl Barrier {
    /// A barrier for `parties` parties.
    ///
    /// # Errors
    /// [`Error::Invalid`] for zero parties. When shared memory is not available.
    pub fn new(parties: u32) -> Result<Barrier> {
        if parties == 0 {
            return Err(Error::Invalid("a barrier needs at least one party".into()));
        }
        let fill = |object: &BarrierObject| {
            object.word.store(Seen(0).ended(true).0, Ordering::Relaxed);
            object.parties.store(parties, Ordering::Relaxed);
        };
        Ok(Barrier {
            shared: TypedRef::make(u64::from(parties) * 8, fill)?,
        })
    }

    /// Opens the barrier that a handle names.
    ///
    /// # Errors
    /// When the handle is from another process tree, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<Barrier> {
        Ok(Barrier {
            shared: TypedRef::open(handle)?,
        })
    }

    /// The handle by which other processes open the barrier.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    fn cells(&self) -> &[AtomicU64] {
        // SAFETY: `new` made the object with this many cells behind it, zeroed and aligned (the
        // object's own size is a multiple of 64). The count is limited to what the block has room
        // for.
        unsafe {
            let room = self.shared.arena().capacity(self.shared.block()) as usize;
            let room = room.saturating_sub(size_of::<BarrierObject>()) / 8;
            let count = (self.shared.parties.load(Ordering::Relaxed) as usize).min(room);
            std::slice::from_raw_parts(self.shared.tail().cast().as_ptr(), count)
        }
    }

    fn look(&self) -> Seen {
        Seen(self.shared.word.load(Ordering::SeqCst))
    }

    fn change(&self, from: Seen, to: Seen) -> bool {
        self.shared
            .word
            .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// The half of the word that sleepers sleep on.
    fn futex(&self) -> &AtomicU32 {
        futex::low_half(&self.shared.word)
    }

    /// Arrives and waits for the others.
    ///
    /// # Errors
    /// [`BarrierError::Broken`], also if the deadline passes, which breaks the barrier for all.
    pub fn arrive(&self, deadline: Deadline) -> Result<WaitOutcome<'_>, BarrierError> {
        let mut place = self.enter()?;
        loop {
            match self.pass(&mut place, deadline) {
                Err(BarrierError::Interrupted) => {}
                Err(BarrierError::TimedOut) => self.give_up(&place),
                done => return done,
            }
        }
    }

    /// Takes a place in the present round, without waiting.
    ///
    /// # Errors
    /// [`BarrierError::Broken`].
    pub fn enter(&self) -> Result<Place, BarrierError> {
        loop {
            let seen = self.look();
            if seen.is_broken() {
                return Err(BarrierError::Broken);
            }
            let round = seen.round();
            let index = self.claim(round);
            if index.is_some() || self.look().round() == round {
                return Ok(Place { round, index });
            }
        }
    }

    /// Waits at a place. It may be called again with the same place after a timeout or a signal.
    ///
    /// # Errors
    /// [`BarrierError`]. A timeout does not break the barrier here; [`Barrier::give_up`] does.
    pub fn pass(
        &self,
        place: &mut Place,
        deadline: Deadline,
    ) -> Result<WaitOutcome<'_>, BarrierError> {
        loop {
            match place.index {
                Some(index) if index + 1 == self.parties() => {
                    return Ok(WaitOutcome::Last(OpenGuard {
                        barrier: self,
                        round: place.round,
                        index,
                    }));
                }
                Some(index) => {
                    self.wait(place.round, deadline)?;
                    return Ok(WaitOutcome::Passed { index });
                }
                None => {
                    self.wait(place.round, deadline)?;
                    *place = self.enter()?;
                }
            }
        }
    }

    /// Breaks the round that a place belongs to.
    pub fn give_up(&self, place: &Place) {
        self.break_round(place.round);
    }

    fn claim(&self, round: u32) -> Option<u32> {
        let arena = self.shared.arena();
        let mine = u64::from(round) << 32 | u64::from(arena.me().as_u32());
        for (index, cell) in self.cells().iter().enumerate() {
            let seen = cell.load(Ordering::SeqCst);
            if is_older((seen >> 32) as u32, round)
                && cell
                    .compare_exchange(seen, mine, Ordering::SeqCst, Ordering::SeqCst)
                    .is_ok()
            {
                failpoint::hit("barrier.arrived");
                return Some(index as u32);
            }
        }
        None
    }

    fn wait(&self, round: u32, deadline: Deadline) -> Result<(), BarrierError> {
        let _call = wait_registry::Call::join();
        loop {
            let seen = self.look();
            if seen.round() != round {
                return match seen.was_opened(round) {
                    true => Ok(()),
                    false => Err(BarrierError::Broken),
                };
            }
            if seen.is_broken() {
                return Err(BarrierError::Broken);
            }
            let Some(liveness) = self.liveness_of(round) else {
                self.break_round(round);
                continue;
            };
            if deadline.is_past() {
                return Err(BarrierError::TimedOut);
            }
            let announced = Seen(seen.0 | SLEEPERS);
            if seen != announced && !self.change(seen, announced) {
                continue;
            }
            let mut words = vec![(self.futex(), announced.0 as u32)];
            words.extend(liveness);
            failpoint::hit("barrier.announced");
            if wait_registry::wait_any(WaitReason::Parties, &words, deadline) == Slept::Interrupted
            {
                return Err(BarrierError::Interrupted);
            }
        }
    }

    /// The liveness words of the other parties that have arrived; `None` if one is dead.
    fn liveness_of(&self, round: u32) -> Option<Vec<(&AtomicU32, u32)>> {
        let arena = self.shared.arena();
        let me = arena.me();
        let here = self.cells().iter().filter_map(|cell| {
            let seen = cell.load(Ordering::SeqCst);
            let owner = ProcId::from_u32(seen as u32)?;
            ((seen >> 32) as u32 == round && owner != me).then_some(owner)
        });
        let mut parties: Vec<ProcId> = here.collect();
        parties.sort_unstable_by_key(|owner| owner.as_u32());
        parties.dedup();
        parties
            .into_iter()
            .map(|owner| arena.watch_liveness(owner))
            .collect()
    }

    fn break_round(&self, round: u32) {
        let mut seen = self.look();
        while seen.round() == round && !seen.is_broken() {
            self.change(seen, Seen(seen.0 | BROKEN));
            seen = self.look();
        }
        // The process that broke it may have been stopped or killed before it woke anybody.
        if seen.round() == round {
            failpoint::hit("barrier.broken");
            futex::wake(self.futex(), u32::MAX);
        }
    }

    /// Breaks the barrier: everybody who waits or comes is turned away.
    pub fn abort(&self) {
        self.break_round(self.look().round());
    }

    /// Empties the barrier and repairs it. Everybody who waits is turned away.
    pub fn reset(&self) {
        loop {
            let seen = self.look();
            if self.change(seen, seen.ended(false)) {
                failpoint::hit("barrier.reset");
                futex::wake(self.futex(), u32::MAX);
                return;
            }
        }
    }

    /// The number of parties that must come.
    pub fn parties(&self) -> u32 {
        self.shared.parties.load(Ordering::Relaxed)
    }

    /// The number of parties that wait now.
    pub fn waiting(&self) -> u32 {
        let seen = self.look();
        if seen.is_broken() {
            return 0;
        }
        let here = |cell: &&AtomicU64| (cell.load(Ordering::SeqCst) >> 32) as u32 == seen.round();
        self.cells().iter().filter(here).count() as u32
    }

    /// Whether the barrier is broken.
    pub fn is_broken(&self) -> bool {
        self.look().is_broken()
    }
}

impl OpenGuard<'_> {
    /// Lets all parties through. Returns which of them this one was.
    ///
    /// # Errors
    /// [`BarrierError::Broken`] if the barrier was broken or reset meanwhile.
    pub fn open(self) -> Result<u32, BarrierError> {
        let guard = std::mem::ManuallyDrop::new(self);
        let barrier = guard.barrier;
        loop {
            let seen = barrier.look();
            if seen.round() != guard.round || seen.is_broken() {
                return Err(BarrierError::Broken);
            }
            if barrier.change(seen, seen.ended(true)) {
                failpoint::hit("barrier.opened");
                if seen.0 & SLEEPERS != 0 {
                    futex::wake(barrier.futex(), u32::MAX);
                }
                return Ok(guard.index);
            }
        }
    }
}

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        self.barrier.break_round(self.round);
    }
}
