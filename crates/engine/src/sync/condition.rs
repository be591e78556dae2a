//! The part of a condition variable that is not its lock: waiting for a notification.
//!
//! Every waiter has a cell of its own. So a notification goes to exactly as many waiters as were
//! asked for, in the order in which they came, and never to a dead one:
//! ```text
//! 0 --enroll--> owner --notify--> owner | NOTIFIED --wake up--> 0
//!                 +------------- time out ----------------------^
//! ```
//!
//! Of several waiters that are notified at once, only one can have the lock. So they are not woken
//! but requeued: from then on they sleep for the lock, and each one that releases the lock wakes
//! the next ([`Turns`]). If a notifier is killed in the middle of that, the waiters find themselves
//! notified when they next check their cells.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::lock_state::LockState;
use super::robust_lock;
use super::{Lock, RLock};
use crate::arena::cell::BlockId;
use crate::arena::kind::Kind;
use crate::arena::owner::ProcId;
use crate::deadline::Deadline;
use crate::error::{Error, Result, WaitError};
use crate::failpoint;
use crate::objects::handle::Handle;
use crate::objects::object::{EXTENSION, FURTHER, Layout, ObjectHead};
use crate::objects::object_ref::{ObjectRef, TypedRef, opened};
use crate::process_table::wait_registry;
use crate::process_table::wait_registry::WaitReason;
use crate::sys::futex::{self, Slept};

const NOTIFIED: u32 = 1 << 31;
/// The number of cells in the object itself, in its extension, and in each further part that the
/// extension names.
const INLINE: usize = 26;
const EXTENDED: usize = 4096 - FURTHER * 4 / size_of::<WaitCell>();
const PART: usize = 4096;
const PART_BYTES: u64 = (PART * size_of::<WaitCell>()) as u64;
/// More than there can be threads (`PID_MAX_LIMIT` of Linux is 2^22).
const MAX_WAITERS: usize = INLINE + EXTENDED + FURTHER * PART;

const _: () = assert!(MAX_WAITERS > 1 << 22);

/// One waiter.
#[repr(C)]
struct WaitCell {
    /// Who waits (bits 0-30, zero for nobody), and whether it was notified (bit 31).
    state: AtomicU32,
    /// The block of the lock that the waiter takes afterwards, zero for none; [`MOVED`] once it
    /// sleeps there.
    lock: AtomicU32,
    /// Waiters are notified in the order of their turns. In a free cell: [`LINK`], and the top of
    /// the stack of free cells before this one was pushed.
    turn: AtomicU64,
}

/// The lock's block in a cell, once its waiter was requeued to the lock. No block has this number.
const MOVED: u32 = u32::MAX;

/// In the turn of a cell: it is in the stack of free cells. No waiter has a turn this high.
const LINK: u64 = 1 << 63;

#[repr(C)]
pub(crate) struct ConditionObject {
    head: ObjectHead,
    turns: AtomicU64,
    /// Free cells, as a stack: the index of the top one plus one (low half), and a count of changes
    /// (high half). A hint: the cell itself says whether it is free, and a free cell that is not in
    /// the stack is found by a scan of all cells.
    free: AtomicU64,
    /// How many cells were ever taken.
    used: AtomicU32,
    _pad: [AtomicU32; 3],
    cells: [WaitCell; INLINE],
}

const _: () = assert!(size_of::<ConditionObject>() == 512);

/// This many cells from the stack are tried in vain before a new one is taken.
const TRIES: usize = 4;

// SAFETY: repr(C), head first, atomics only.
unsafe impl Layout for ConditionObject {
    const KIND: Kind = Kind::Condition;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// A lock under which threads wait for a condition. Threads that are notified together take it one
/// after the other.
pub trait Turns {
    #[doc(hidden)]
    fn place(&self) -> LockPlace<'_>;

    /// A thread whose ticket [was moved](Ticket::was_moved) calls this once it has tried to take
    /// the lock: the others sleep for it.
    fn pass_on(&self) {
        robust_lock::pass_on(self.place().word);
    }
}

/// Where a lock is.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct LockPlace<'a> {
    block: BlockId,
    word: &'a LockState,
}

impl Turns for Lock {
    fn place(&self) -> LockPlace<'_> {
        let (block, word) = self.word();
        LockPlace { block, word }
    }
}

impl Turns for RLock {
    fn place(&self) -> LockPlace<'_> {
        let (block, word) = self.word();
        LockPlace { block, word }
    }
}

/// A place where processes wait until another one says that something changed.
///
/// Use it with a lock: call [`enroll`](Condition::enroll) and [`notify`](Condition::notify) while
/// holding it, and [`sleep`](Condition::sleep) after releasing it.
#[derive(Debug)]
pub struct Condition {
    shared: TypedRef<ConditionObject>,
}

opened!(Condition, shared);

/// A waiter's place in the line. Dropping it gives the place up. [`Ticket::leave`] does that too,
/// and returns whether it was notified.
#[derive(Debug)]
pub struct Ticket<'a> {
    condition: &'a Condition,
    index: usize,
    owner: ProcId,
}

impl Condition {
    /// A new condition that nobody waits for.
    ///
    /// # Errors
    /// When shared memory is not available.
    pub fn new() -> Result<Condition> {
        Ok(Condition {
            shared: TypedRef::make(0, |_| {})?,
        })
    }

    /// Opens the condition that a handle names.
    ///
    /// # Errors
    /// When the handle is from another process tree, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<Condition> {
        Ok(Condition {
            shared: TypedRef::open(handle)?,
        })
    }

    /// The handle by which other processes open the condition.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    /// All existing cells, from the three kinds of places.
    fn places(&self) -> impl Iterator<Item = &[WaitCell]> {
        let inline = std::iter::once(&self.shared.cells[..]);
        let (links, cells) = self.extension();
        let further = links.iter().map_while(|link| self.further(link));
        inline.chain(std::iter::once(cells)).chain(further)
    }

    /// The links to further parts, and the cells behind them.
    fn extension(&self) -> (&[AtomicU32], &[WaitCell]) {
        let arena = self.shared.arena();
        match arena.part(&self.shared.head, EXTENSION, PART_BYTES) {
            // SAFETY: the part is this large, 64-aligned and never unmapped; any bytes are valid
            // atomics.
            Some(part) => unsafe {
                let cells = part.cast::<AtomicU32>().add(FURTHER).cast::<WaitCell>();
                (
                    std::slice::from_raw_parts(part.cast().as_ptr(), FURTHER),
                    std::slice::from_raw_parts(cells.as_ptr(), EXTENDED),
                )
            },
            None => (&[], &[]),
        }
    }

    fn further(&self, link: &AtomicU32) -> Option<&[WaitCell]> {
        let part = self.shared.arena().linked(link, PART_BYTES)?;
        // SAFETY: as above.
        Some(unsafe { std::slice::from_raw_parts(part.cast().as_ptr(), PART) })
    }

    /// The cells that were ever taken, with their indices.
    fn cells(&self) -> impl Iterator<Item = (usize, &WaitCell)> {
        let used = self.shared.used.load(Ordering::SeqCst) as usize;
        self.places().flatten().enumerate().take(used)
    }

    /// The cell with an index; `None` if it does not exist.
    fn cell(&self, index: usize) -> Option<&WaitCell> {
        if let Some(cell) = self.shared.cells.get(index) {
            return Some(cell);
        }
        let (links, cells) = self.extension();
        let index = index - INLINE;
        if let Some(cell) = cells.get(index) {
            return Some(cell);
        }
        let index = index.checked_sub(EXTENDED)?;
        self.further(links.get(index / PART)?)?.get(index % PART)
    }

    /// Takes a place in the line of waiters.
    ///
    /// # Errors
    /// When shared memory is not available; [`Error::TableFull`] beyond 4,198,170 waiters.
    pub fn enroll(&self) -> Result<Ticket<'_>> {
        self.take_place(0)
    }

    /// Like [`Condition::enroll`], for a thread that takes `lock` afterwards.
    ///
    /// # Errors
    /// Like [`Condition::enroll`].
    pub fn enroll_under(&self, lock: &impl Turns) -> Result<Ticket<'_>> {
        self.take_place(lock.place().block.0)
    }

    fn take_place(&self, lock: u32) -> Result<Ticket<'_>> {
        let free_cells = (0..TRIES).map_while(|_| self.pop());
        for index in free_cells {
            if let Some(ticket) = self.claim(index, lock) {
                return Ok(ticket);
            }
        }
        loop {
            let used = self.shared.used.load(Ordering::SeqCst) as usize;
            if let Some(ticket) = (used..=used + 1).find_map(|index| self.claim(index, lock)) {
                return Ok(ticket);
            }
            if self.cell(used).is_some() {
                continue;
            }
            // Try the cells of dead waiters, and cells that the dead had popped from the stack.
            if let Some(ticket) = (0..used).find_map(|index| self.claim(index, lock)) {
                // The cell may be in the stack as well. A stack with a cell in it twice would have
                // no end, so empty it.
                self.shared
                    .free
                    .fetch_and(!u64::from(u32::MAX), Ordering::SeqCst);
                return Ok(ticket);
            }
            self.extend()?;
        }
    }

    /// Replaces the top of the stack, unless another thread did so since `seen`.
    fn change_free(&self, seen: u64, first: u32) -> bool {
        let next = ((seen >> 32).wrapping_add(1) << 32) | u64::from(first);
        let free = &self.shared.free;
        free.compare_exchange(seen, next, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Pops a cell's index from the stack.
    fn pop(&self) -> Option<usize> {
        loop {
            let seen = self.shared.free.load(Ordering::SeqCst);
            let first = (seen as u32 as usize).checked_sub(1)?;
            let turn = self.cell(first)?.turn.load(Ordering::SeqCst);
            // A cell that was taken by a scan leads nowhere.
            let next = if turn & LINK != 0 { turn as u32 } else { 0 };
            if self.change_free(seen, next) {
                return Some(first);
            }
        }
    }

    /// Pushes a cell onto the stack, unless a thread took it in a scan: its turn is that waiter's
    /// then.
    fn push(&self, index: usize, cell: &WaitCell) {
        loop {
            let turn = cell.turn.load(Ordering::SeqCst);
            let seen = self.shared.free.load(Ordering::SeqCst);
            let link = LINK | u64::from(seen as u32);
            if cell.state.load(Ordering::SeqCst) != 0
                || cell
                    .turn
                    .compare_exchange(turn, link, Ordering::SeqCst, Ordering::SeqCst)
                    .is_err()
                || self.change_free(seen, index as u32 + 1)
            {
                return;
            }
        }
    }

    fn claim(&self, index: usize, lock: u32) -> Option<Ticket<'_>> {
        let (arena, cell) = (self.shared.arena(), self.cell(index)?);
        let seen = cell.state.load(Ordering::SeqCst);
        let is_free = ProcId::from_u32(seen & !NOTIFIED).is_none_or(|owner| arena.is_dead(owner));
        let owner = arena.me();
        if !is_free || !cell.pass(seen, owner.as_u32()) {
            return None;
        }
        failpoint::hit("condition.claimed");
        let used = &self.shared.used;
        if used.load(Ordering::SeqCst) <= index as u32 {
            used.fetch_max(index as u32 + 1, Ordering::SeqCst);
        }
        let turn = self.shared.turns.fetch_add(1, Ordering::SeqCst);
        cell.turn.store(turn, Ordering::SeqCst);
        cell.lock.store(lock, Ordering::SeqCst);
        Some(Ticket {
            condition: self,
            index,
            owner,
        })
    }

    /// Makes room for more waiters.
    #[cold]
    fn extend(&self) -> Result<()> {
        let (arena, object) = (self.shared.arena(), self.shared.block());
        let (links, _) = self.extension();
        if links.is_empty() {
            return arena.ensure_part(object, &self.shared.head, EXTENSION, PART_BYTES);
        }
        match links.iter().find(|link| self.further(link).is_none()) {
            Some(link) => arena.ensure_further(object, link, PART_BYTES),
            None => Err(Error::TableFull("place for a further waiter")),
        }
    }

    /// Sleeps until the ticket is notified.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; [`WaitError::Interrupted`], after which the same ticket may sleep
    /// again.
    pub fn sleep(&self, ticket: &Ticket<'_>, deadline: Deadline) -> Result<(), WaitError> {
        let state = &ticket.cell().state;
        let waiting = ticket.owner.as_u32();
        // The cell may lie in an extension, so the first cell identifies the condition.
        let known_by = &self.shared.cells[0].state;
        let _call = wait_registry::Call::join();
        loop {
            if state.load(Ordering::SeqCst) != waiting {
                return Ok(());
            }
            if deadline.is_past() {
                return Err(WaitError::TimedOut);
            }
            if wait_registry::wait_known_by(
                WaitReason::Notification,
                known_by,
                &[(state, waiting)],
                deadline,
            ) == Slept::Interrupted
                && state.load(Ordering::SeqCst) == waiting
            {
                return Err(WaitError::Interrupted);
            }
        }
    }

    /// Notifies up to `count` waiters, those that came first. Returns how many there were.
    ///
    /// If one gives up at the same moment, it is not notified, and the next one in the line is.
    pub fn notify(&self, count: usize) -> usize {
        if count == 1 {
            return usize::from(self.notify_first());
        }
        let arena = self.shared.arena();
        let mut waiting: Vec<(u64, &WaitCell, u32)> = Vec::new();
        for (index, cell) in self.cells() {
            let seen = cell.state.load(Ordering::SeqCst);
            match ProcId::from_u32(seen & !NOTIFIED) {
                Some(owner) if arena.is_dead(owner) => self.free_cell(index, cell, seen),
                Some(_) if seen & NOTIFIED == 0 => {
                    waiting.push((cell.turn.load(Ordering::SeqCst), cell, seen));
                }
                _ => {}
            }
        }
        let mut notified = 0;
        let mut line = &mut waiting[..];
        while notified < count && !line.is_empty() {
            let due = line.len().min(count - notified);
            if due < line.len() {
                line.select_nth_unstable_by_key(due, |(turn, ..)| *turn);
            }
            let (first, others) = line.split_at_mut(due);
            first.sort_unstable_by_key(|(turn, ..)| *turn);
            failpoint::hit("condition.chosen");
            notified += match first {
                [(_, cell, seen)] => usize::from(cell.wake(*seen)),
                _ => self.release(first),
            };
            line = others;
        }
        notified
    }

    /// Notifies the waiter that came first. Returns whether there was one.
    fn notify_first(&self) -> bool {
        while let Some((cell, seen)) = self.first() {
            failpoint::hit("condition.chosen");
            if cell.wake(seen) {
                return true;
            }
        }
        false
    }

    /// The cell of the waiter that came first, and its state. Only cells with the lowest turn so
    /// far are examined closely, because thousands may wait.
    fn first(&self) -> Option<(&WaitCell, u32)> {
        let arena = self.shared.arena();
        let (mut first, mut lowest) = (None, u64::MAX);
        for (index, cell) in self.cells() {
            let seen = cell.state.load(Ordering::SeqCst);
            if seen == 0 || seen & NOTIFIED != 0 {
                continue;
            }
            let turn = cell.turn.load(Ordering::SeqCst);
            if turn >= lowest {
                continue;
            }
            if ProcId::from_u32(seen).is_some_and(|owner| arena.is_dead(owner)) {
                self.free_cell(index, cell, seen);
            } else {
                (first, lowest) = (Some((cell, seen)), turn);
            }
        }
        first
    }

    /// Notifies waiters, one after the other where they take a lock.
    fn release(&self, waiting: &[(u64, &WaitCell, u32)]) -> usize {
        let mut batch = None::<RequeueBatch>;
        let mut notified = 0;
        for (_, cell, seen) in waiting {
            let block = BlockId::new(cell.lock.load(Ordering::SeqCst));
            if batch.as_ref().map(|batch| batch.block) != block {
                drop(batch.take());
                batch = block.and_then(|block| RequeueBatch::of(self.shared.arena(), block));
            }
            notified += usize::from(match &batch {
                Some(batch) => batch.join(cell, *seen),
                None => cell.wake(*seen),
            });
        }
        notified
    }

    fn free_cell(&self, index: usize, cell: &WaitCell, seen: u32) {
        if cell.pass(seen, 0) {
            self.push(index, cell);
        }
    }

    /// The number of waiters that were not notified yet.
    pub fn waiters(&self) -> usize {
        let arena = self.shared.arena();
        let waits = |(_, cell): &(usize, &WaitCell)| {
            let seen = cell.state.load(Ordering::SeqCst);
            seen & NOTIFIED == 0 && ProcId::from_u32(seen).is_some_and(|o| !arena.is_dead(o))
        };
        self.cells().filter(waits).count()
    }
}

/// Waiters that are requeued to a lock. Dropping the batch wakes the first one if the lock is free;
/// otherwise the lock's release does.
struct RequeueBatch {
    block: BlockId,
    word: &'static LockState,
    _held: ObjectRef,
}

impl RequeueBatch {
    fn of(arena: &'static crate::arena::Arena, block: BlockId) -> Option<RequeueBatch> {
        let (held, word) = robust_lock::lock_in(arena, block)?;
        Some(RequeueBatch {
            block,
            word,
            _held: held,
        })
    }

    fn join(&self, cell: &WaitCell, seen: u32) -> bool {
        cell.lock.store(MOVED, Ordering::SeqCst);
        let notified = cell.pass(seen, seen | NOTIFIED);
        if notified {
            failpoint::hit("condition.notified");
            futex::requeue(&cell.state, seen | NOTIFIED, self.word.futex());
            failpoint::hit("condition.moved");
        }
        notified
    }
}

impl Drop for RequeueBatch {
    fn drop(&mut self) {
        robust_lock::pass_on(self.word);
    }
}

impl WaitCell {
    fn pass(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Notifies a cell's waiter and wakes it. Returns false if the waiter gave up.
    fn wake(&self, seen: u32) -> bool {
        let notified = self.pass(seen, seen | NOTIFIED);
        if notified {
            failpoint::hit("condition.notified");
            futex::wake(&self.state, u32::MAX);
        }
        notified
    }
}

impl<'a> Ticket<'a> {
    fn cell(&self) -> &'a WaitCell {
        let cell = self.condition.cell(self.index);
        cell.expect("parts of a condition stay for as long as it does")
    }

    /// Whether the ticket was notified.
    pub fn is_notified(&self) -> bool {
        self.cell().state.load(Ordering::SeqCst) & NOTIFIED != 0
    }

    /// Whether its thread was notified together with others, which sleep for the same lock: see
    /// [`Turns::pass_on`].
    pub fn was_moved(&self) -> bool {
        self.cell().lock.load(Ordering::SeqCst) == MOVED
    }

    /// Gives the place up. In the same step, returns whether the ticket was notified before.
    pub fn leave(self) -> bool {
        std::mem::ManuallyDrop::new(self).give_up()
    }

    fn give_up(&self) -> bool {
        let (cell, waiting) = (self.cell(), self.owner.as_u32());
        let notified = !cell.pass(waiting, 0);
        if !notified || cell.pass(waiting | NOTIFIED, 0) {
            failpoint::hit("condition.given_up");
            self.condition.push(self.index, cell);
        }
        notified
    }

    /// The index of the ticket's place, for callers that cannot keep a reference; see
    /// [`Condition::ticket`].
    pub fn into_index(self) -> usize {
        std::mem::ManuallyDrop::new(self).index
    }
}

impl Condition {
    /// This process's ticket at an index that [`Ticket::into_index`] returned.
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
        self.give_up();
    }
}
