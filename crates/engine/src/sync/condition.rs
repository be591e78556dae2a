//! Waiting for news: the part of a condition variable that is not its lock.
//!
//! Every waiter has a cell of its own, so a notification goes to exactly so many waiters as were
//! asked for, in the order in which they came, and never to one that is dead:
//!
//! ```text
//! 0 --enroll--> owner --notify--> owner | NOTIFIED --wake up--> 0
//!                 +------------- time out ----------------------^
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::arena::handle::Handle;
use crate::arena::object::{EXTENSION, Kind, Layout, ObjectHead};
use crate::arena::open::{Shared, opened};
use crate::arena::owner::OwnerId;
use crate::arena::waits::{self, What};
use crate::deadline::Deadline;
use crate::error::{Error, Result, WaitError};
use crate::kill;
use crate::sys::futex::{self, Slept};

const NOTIFIED: u32 = 1 << 31;
const INLINE: usize = 28;
const EXTENDED: usize = 4096;

/// One waiter.
#[repr(C)]
struct WaitCell {
    /// Who waits (bits 0-30, zero for nobody) and whether it was notified (bit 31).
    state: AtomicU32,
    _pad: AtomicU32,
    /// Waiters are notified in the order of these.
    turn: AtomicU64,
}

#[repr(C)]
pub(crate) struct ConditionObject {
    head: ObjectHead,
    turns: AtomicU64,
    _pad: AtomicU64,
    cells: [WaitCell; INLINE],
}

// SAFETY: repr(C), head first, atomics only.
unsafe impl Layout for ConditionObject {
    const KIND: Kind = Kind::Condition;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// A place where processes wait until another says that something changed.
///
/// To be used with a lock: [`enroll`](Condition::enroll) and [`notify`](Condition::notify) while
/// holding it, [`sleep`](Condition::sleep) after releasing it.
#[derive(Debug)]
pub struct Condition {
    shared: Shared<ConditionObject>,
}

opened!(Condition, shared);

/// A waiter's place in the line; dropped, it is given up.
#[derive(Debug)]
pub struct Ticket<'a> {
    condition: &'a Condition,
    index: usize,
    owner: OwnerId,
}

impl Condition {
    /// A new condition that nobody waits for.
    ///
    /// # Errors
    /// When shared memory cannot be had.
    pub fn new() -> Result<Condition> {
        Ok(Condition {
            shared: Shared::make(0, |_| {})?,
        })
    }

    /// The condition a handle names.
    ///
    /// # Errors
    /// When the handle is another tree's, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<Condition> {
        Ok(Condition {
            shared: Shared::open(handle)?,
        })
    }

    /// The name by which other processes open the condition.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    /// The cells beyond the first, there only once so many waited at a time.
    fn extension(&self) -> &[WaitCell] {
        let size = (EXTENDED * size_of::<WaitCell>()) as u64;
        let arena = self.shared.arena();
        match arena.part(&self.shared.head, EXTENSION, size) {
            // SAFETY: the part is this large, 64-aligned and mapped for good; any bytes are atomics.
            Some(cells) => unsafe { std::slice::from_raw_parts(cells.cast().as_ptr(), EXTENDED) },
            None => &[],
        }
    }

    fn cells(&self) -> impl Iterator<Item = &WaitCell> {
        self.shared.cells.iter().chain(self.extension())
    }

    fn cell(&self, index: usize) -> &WaitCell {
        match self.shared.cells.get(index) {
            Some(cell) => cell,
            None => &self.extension()[index - INLINE],
        }
    }

    /// Takes a place in the line of waiters.
    ///
    /// # Errors
    /// When shared memory cannot be had; [`Error::TableFull`] beyond 4124 waiters.
    pub fn enroll(&self) -> Result<Ticket<'_>> {
        let arena = self.shared.arena();
        let owner = arena.me();
        for _ in 0..2 {
            for (index, cell) in self.cells().enumerate() {
                let seen = cell.state.load(Ordering::SeqCst);
                let vacant = OwnerId::from_u32(seen & !NOTIFIED).is_none_or(|o| arena.is_dead(o));
                if vacant && cell.pass(seen, owner.as_u32()) {
                    kill::point("condition.claimed");
                    let turn = self.shared.turns.fetch_add(1, Ordering::SeqCst);
                    cell.turn.store(turn, Ordering::SeqCst);
                    return Ok(Ticket {
                        condition: self,
                        index,
                        owner,
                    });
                }
            }
            let size = (EXTENDED * size_of::<WaitCell>()) as u64;
            arena.ensure_part(self.shared.block(), &self.shared.head, EXTENSION, size)?;
        }
        Err(Error::TableFull("place for a further waiter"))
    }

    /// Sleeps until the ticket is notified.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; [`WaitError::Interrupted`], after which the same ticket may sleep again.
    pub fn sleep(&self, ticket: &Ticket<'_>, deadline: Deadline) -> Result<(), WaitError> {
        let state = &self.cell(ticket.index).state;
        let waiting = ticket.owner.as_u32();
        let _call = waits::Call::join();
        loop {
            if state.load(Ordering::SeqCst) != waiting {
                return Ok(());
            }
            if deadline.is_past() {
                return Err(WaitError::TimedOut);
            }
            if self.sleep_in(state, waiting, deadline) == Slept::Interrupted
                && state.load(Ordering::SeqCst) == waiting
            {
                return Err(WaitError::Interrupted);
            }
        }
    }

    fn sleep_in(&self, state: &AtomicU32, waiting: u32, deadline: Deadline) -> Slept {
        // The cell may lie in an extension: the condition is known by its first one.
        let known_by = &self.shared.cells[0].state;
        waits::noting(What::Notification, known_by, || {
            futex::wait(state, waiting, deadline)
        })
    }

    /// Lets up to `count` waiters go, those that came first; how many they were.
    pub fn notify(&self, count: usize) -> usize {
        let arena = self.shared.arena();
        let mut waiting: Vec<(u64, &WaitCell, u32)> = self
            .cells()
            .map(|cell| (cell, cell.state.load(Ordering::SeqCst)))
            .filter(|(_, seen)| *seen != 0 && seen & NOTIFIED == 0)
            .map(|(cell, seen)| (cell.turn.load(Ordering::SeqCst), cell, seen))
            .collect();
        waiting.sort_unstable_by_key(|(turn, ..)| *turn);
        let mut notified = 0;
        for (_, cell, seen) in waiting {
            if notified == count {
                break;
            }
            if OwnerId::from_u32(seen).is_none_or(|owner| arena.is_dead(owner)) {
                cell.pass(seen, 0);
            } else if cell.pass(seen, seen | NOTIFIED) {
                kill::point("condition.notified");
                futex::wake(&cell.state, u32::MAX);
                notified += 1;
            }
        }
        notified
    }

    /// How many wait and were not notified yet.
    pub fn waiters(&self) -> usize {
        let arena = self.shared.arena();
        let waits = |cell: &&WaitCell| {
            let seen = cell.state.load(Ordering::SeqCst);
            seen & NOTIFIED == 0 && OwnerId::from_u32(seen).is_some_and(|o| !arena.is_dead(o))
        };
        self.cells().filter(waits).count()
    }
}

impl WaitCell {
    fn pass(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

impl Ticket<'_> {
    /// Whether the ticket was notified.
    pub fn is_notified(&self) -> bool {
        self.condition.cell(self.index).state.load(Ordering::SeqCst) & NOTIFIED != 0
    }

    /// The ticket's place, to be kept where a reference cannot be; see [`Condition::ticket`].
    pub fn into_index(self) -> usize {
        std::mem::ManuallyDrop::new(self).index
    }
}

impl Condition {
    /// The ticket of this process at a place that [`Ticket::into_index`] gave.
    pub fn ticket(&self, index: usize) -> Ticket<'_> {
        Ticket {
            condition: self,
            index,
            owner: self.shared.arena().me(),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let cell = self.condition.cell(self.index);
        let waiting = self.owner.as_u32();
        // Notified while giving up: the cell is freed all the same.
        if !cell.pass(waiting, 0) {
            cell.pass(waiting | NOTIFIED, 0);
        }
    }
}
