//! A lock that many may hold to read, or one to write.
//!
//! It is made of locks that know their holders (`word.rs`), so there is no count that a dead reader would
//! leave wrong. Each reader holds one of the *stalls*; a writer holds the gate, and then all the stalls.
//!
//! ```text
//! read:   gate held? pass through it     take a stall that is free, or wait for one's own
//! write:  take the gate     take every stall, in their order     unfinished := 1
//! finish: unfinished := 0     give everything back
//! ```
//!
//! Readers pass through the gate while somebody holds it, so that a writer need not wait for ever. What a dead
//! process holds is taken over, and of a dead reader no more is said. What a dead writer had begun stays
//! unfinished, which everybody is told who holds the lock after it, until a writer says that all is well.

use std::sync::atomic::{AtomicU32, Ordering};

use super::gate::{self, AfterDeath, Inherited};
use super::spin::Spin;
use super::thread;
use super::word::LockWord;
use crate::arena::handle::Handle;
use crate::arena::object::{Kind, Layout, ObjectHead};
use crate::arena::open::{Shared, opened};
use crate::deadline::Deadline;
use crate::error::{LockError, Result};
use crate::kill;
use crate::sync::Acquired;

/// So many may read at a time; others wait for one of them.
const STALLS: usize = 16;

/// One cache line: readers do not get in each other's way.
#[repr(C, align(64))]
struct Stall {
    word: LockWord,
}

#[repr(C)]
pub(crate) struct RwLockObject {
    head: ObjectHead,
    gate: LockWord,
    /// Whether somebody writes, or died over it.
    unfinished: AtomicU32,
    stalls: [Stall; STALLS],
}

// SAFETY: repr(C), head first, atomics only, zeroes are a free lock.
unsafe impl Layout for RwLockObject {
    const KIND: Kind = Kind::RwLock;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// A readers-writer lock between processes, which outlives its holders' deaths.
#[derive(Debug)]
pub struct RwLock {
    shared: Shared<RwLockObject>,
    spin: Spin,
}

opened!(RwLock, shared);

/// The stall that a reader holds, to be given back.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the lock stays held until the stall is given back"]
pub struct ReadHold(usize);

impl RwLock {
    /// A new lock, held by nobody.
    ///
    /// # Errors
    /// When shared memory cannot be had.
    pub fn new() -> Result<RwLock> {
        Ok(RwLock {
            shared: Shared::make(0, |_| {})?,
            spin: Spin::default(),
        })
    }

    /// The lock a handle names.
    ///
    /// # Errors
    /// When the handle is another tree's, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<RwLock> {
        Ok(RwLock {
            shared: Shared::open(handle)?,
            spin: Spin::default(),
        })
    }

    /// The name by which other processes open the lock.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    /// Waits until nobody writes, and keeps writers out until [`leave`](RwLock::leave). Says whether a writer
    /// died over what it wrote.
    ///
    /// # Errors
    /// [`LockError::TimedOut`], [`LockError::Interrupted`].
    pub fn read(&self, deadline: Deadline) -> Result<(ReadHold, Acquired), LockError> {
        if !self.shared.gate.look().is_free() {
            self.take(&self.shared.gate, deadline)?;
            kill::point("rwlock.passing");
            let _ = gate::release(&self.shared.gate);
        }
        let hold = match self.free_stall() {
            Some(hold) => hold,
            None => self.own_stall(deadline)?,
        };
        kill::point("rwlock.reading");
        // With a stall in hand, no living writer has set this.
        Ok((hold, self.state()))
    }

    fn free_stall(&self) -> Option<ReadHold> {
        let me = self.shared.arena().me();
        let number = thread::number(me);
        let first = number as usize;
        (first..first + STALLS)
            .map(|at| at % STALLS)
            .find(|at| self.shared.stalls[*at].word.take(me, number, false).is_ok())
            .map(ReadHold)
    }

    fn own_stall(&self, deadline: Deadline) -> Result<ReadHold, LockError> {
        let own = thread::number(self.shared.arena().me()) as usize % STALLS;
        self.take(&self.shared.stalls[own].word, deadline)?;
        Ok(ReadHold(own))
    }

    /// Gives a reader's hold back.
    pub fn leave(&self, hold: ReadHold) {
        let _ = gate::release(&self.shared.stalls[hold.0].word);
    }

    /// Whether this thread has that hold. In a forked child it is the parent's.
    pub fn is_reading(&self, hold: &ReadHold) -> bool {
        self.is_mine(&self.shared.stalls[hold.0].word)
    }

    /// Waits until nobody else reads or writes, and keeps all others out until [`finish`](RwLock::finish).
    ///
    /// # Errors
    /// [`LockError::TimedOut`], [`LockError::Interrupted`].
    pub fn write(&self, deadline: Deadline) -> Result<Acquired, LockError> {
        self.take(&self.shared.gate, deadline)?;
        kill::point("rwlock.entering");
        for (at, stall) in self.shared.stalls.iter().enumerate() {
            if let Err(error) = self.take(&stall.word, deadline) {
                self.release_all(at);
                return Err(error);
            }
        }
        let state = self.state();
        self.shared.unfinished.store(1, Ordering::SeqCst);
        kill::point("rwlock.writing");
        Ok(state)
    }

    /// Gives a writer's hold back. `well`: what is guarded is as it should be; otherwise those who come after
    /// are told that somebody died over it.
    pub fn finish(&self, well: bool) {
        if well {
            self.shared.unfinished.store(0, Ordering::SeqCst);
            kill::point("rwlock.finished");
        }
        self.release_all(STALLS);
    }

    /// Whether this thread may write. In a forked child its parent does.
    pub fn is_writing(&self) -> bool {
        self.is_mine(&self.shared.gate)
    }

    /// Gives the first stalls and the gate back.
    fn release_all(&self, stalls: usize) {
        for stall in self.shared.stalls[..stalls].iter().rev() {
            let _ = gate::release(&stall.word);
        }
        let _ = gate::release(&self.shared.gate);
    }

    /// Takes a word, from the dead as well.
    fn take(&self, word: &LockWord, deadline: Deadline) -> Result<Inherited, LockError> {
        let arena = self.shared.arena();
        gate::acquire(arena, word, &self.spin, deadline, AfterDeath::Hold)
    }

    fn state(&self) -> Acquired {
        match self.shared.unfinished.load(Ordering::SeqCst) {
            0 => Acquired::Clean,
            _ => Acquired::AfterOwnerDied,
        }
    }

    fn is_mine(&self, word: &LockWord) -> bool {
        let me = self.shared.arena().me();
        let seen = word.look();
        seen.holder() == Some(me) && seen.thread() == thread::number(me)
    }
}
