//! A lock that many may hold to read, or one to write.
//!
//! It consists of locks that know their holders (`lock_state.rs`), so there is no count that a dead
//! reader could leave wrong. Each reader holds one of the *reader slots*. A writer holds the writer
//! lock, and then all reader slots.
//!
//! ```text
//! read:   writer lock held? acquire and release it     take a free reader slot, or wait for this thread's own
//! write:  take the writer lock     take every reader slot, in order     unfinished := 1
//! finish: unfinished := 0     release everything
//! ```
//!
//! While a process holds the writer lock, readers first acquire and release it, so that a writer
//! does not wait for ever. A lock that a dead process holds is taken over. A dead reader has no
//! further effect. What a dead writer had begun stays unfinished: every later holder is told so,
//! until a writer says that the data is consistent again.

use std::sync::atomic::{AtomicU32, Ordering};

use super::lock_state::LockState;
use super::robust_lock::{self, AfterDeath, OwnerDied};
use super::spin::Spin;
use super::thread;
use crate::arena::kind::Kind;
use crate::deadline::Deadline;
use crate::error::{LockError, Result};
use crate::failpoint;
use crate::objects::handle::Handle;
use crate::objects::object::{Layout, ObjectHead};
use crate::objects::object_ref::{TypedRef, opened};
use crate::sync::Acquired;

/// This many may read at a time; others wait for one of them.
const READER_SLOTS: usize = 16;

/// One cache line, so that readers do not slow each other down.
#[repr(C, align(64))]
struct ReaderSlot {
    word: LockState,
}

#[repr(C)]
pub(crate) struct RwLockObject {
    head: ObjectHead,
    writer_lock: LockState,
    /// Whether a process is writing, or died while it was.
    unfinished: AtomicU32,
    reader_slots: [ReaderSlot; READER_SLOTS],
}

// SAFETY: repr(C), head first, atomics only, zeroes are a free lock.
unsafe impl Layout for RwLockObject {
    const KIND: Kind = Kind::RwLock;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// A readers-writer lock between processes. It survives its holders' deaths.
#[derive(Debug)]
pub struct RwLock {
    shared: TypedRef<RwLockObject>,
    spin: Spin,
}

opened!(RwLock, shared);

/// The reader slot that a reader holds, to be released with [`RwLock::leave`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the lock stays held until the hold is released"]
pub struct ReadHold(usize);

impl RwLock {
    /// A new lock that nobody holds.
    ///
    /// # Errors
    /// When shared memory is not available.
    pub fn new() -> Result<RwLock> {
        Ok(RwLock {
            shared: TypedRef::make(0, |_| {})?,
            spin: Spin::default(),
        })
    }

    /// Opens the lock that a handle names.
    ///
    /// # Errors
    /// When the handle is from another process tree, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<RwLock> {
        Ok(RwLock {
            shared: TypedRef::open(handle)?,
            spin: Spin::default(),
        })
    }

    /// The handle by which other processes open the lock.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    /// Waits until nobody writes, and keeps writers out until [`leave`](RwLock::leave). Also tells
    /// whether a writer died while it was writing.
    ///
    /// # Errors
    /// [`LockError::TimedOut`], [`LockError::Interrupted`].
    pub fn read(&self, deadline: Deadline) -> Result<(ReadHold, Acquired), LockError> {
        if !self.shared.writer_lock.look().is_free() {
            self.take(&self.shared.writer_lock, deadline)?;
            failpoint::hit("rwlock.passing");
            let _ = robust_lock::release(&self.shared.writer_lock);
        }
        let hold = match self.free_reader_slot() {
            Some(hold) => hold,
            None => self.own_reader_slot(deadline)?,
        };
        failpoint::hit("rwlock.reading");
        // While this thread holds a reader slot, no living writer has set `unfinished`.
        Ok((hold, self.state()))
    }

    fn free_reader_slot(&self) -> Option<ReadHold> {
        let me = self.shared.arena().me();
        let number = thread::number(me);
        let first = number as usize;
        (first..first + READER_SLOTS)
            .map(|at| at % READER_SLOTS)
            .find(|at| {
                self.shared.reader_slots[*at]
                    .word
                    .take(me, number, false)
                    .is_ok()
            })
            .map(ReadHold)
    }

    fn own_reader_slot(&self, deadline: Deadline) -> Result<ReadHold, LockError> {
        let own = thread::number(self.shared.arena().me()) as usize % READER_SLOTS;
        self.take(&self.shared.reader_slots[own].word, deadline)?;
        Ok(ReadHold(own))
    }

    /// Releases a reader's hold.
    pub fn leave(&self, hold: ReadHold) {
        let _ = robust_lock::release(&self.shared.reader_slots[hold.0].word);
    }

    /// Whether this thread has that hold. In a forked child, the parent has it.
    pub fn is_reading(&self, hold: &ReadHold) -> bool {
        self.is_mine(&self.shared.reader_slots[hold.0].word)
    }

    /// Waits until nobody else reads or writes, and keeps all others out until
    /// [`finish`](RwLock::finish).
    ///
    /// # Errors
    /// [`LockError::TimedOut`], [`LockError::Interrupted`].
    pub fn write(&self, deadline: Deadline) -> Result<Acquired, LockError> {
        self.take(&self.shared.writer_lock, deadline)?;
        failpoint::hit("rwlock.entering");
        for (at, reader_slot) in self.shared.reader_slots.iter().enumerate() {
            if let Err(error) = self.take(&reader_slot.word, deadline) {
                self.release_all(at);
                return Err(error);
            }
        }
        let state = self.state();
        self.shared.unfinished.store(1, Ordering::SeqCst);
        failpoint::hit("rwlock.writing");
        Ok(state)
    }

    /// Releases a writer's hold. `consistent` says that the guarded data is consistent. If it is false,
    /// later holders are told that a writer died.
    pub fn finish(&self, consistent: bool) {
        if consistent {
            self.shared.unfinished.store(0, Ordering::SeqCst);
            failpoint::hit("rwlock.finished");
        }
        self.release_all(READER_SLOTS);
    }

    /// Whether this thread may write. In a forked child, the parent may.
    pub fn is_writing(&self) -> bool {
        self.is_mine(&self.shared.writer_lock)
    }

    /// Releases the first `reader_slots` reader slots, and the writer lock.
    fn release_all(&self, reader_slots: usize) {
        for reader_slot in self.shared.reader_slots[..reader_slots].iter().rev() {
            let _ = robust_lock::release(&reader_slot.word);
        }
        let _ = robust_lock::release(&self.shared.writer_lock);
    }

    /// Takes a lock, also from a dead holder.
    fn take(&self, word: &LockState, deadline: Deadline) -> Result<OwnerDied, LockError> {
        let arena = self.shared.arena();
        robust_lock::acquire(arena, word, &self.spin, deadline, AfterDeath::Hold)
    }

    fn state(&self) -> Acquired {
        match self.shared.unfinished.load(Ordering::SeqCst) {
            0 => Acquired::Clean,
            _ => Acquired::AfterOwnerDied,
        }
    }

    fn is_mine(&self, word: &LockState) -> bool {
        let me = self.shared.arena().me();
        let seen = word.look();
        seen.holder() == Some(me) && seen.thread() == thread::number(me)
    }
}
