//! A mutual-exclusion lock between processes.

use super::lock_state::LockState;
use super::robust_lock::{self, AfterDeath, RobustLock};
use super::spin::Spin;
use crate::deadline::Deadline;
use crate::error::{LockError, NotHeld, Result};
use crate::memory::block::BlockId;
use crate::memory::owner::ProcId;
use crate::objects::handle::Handle;
use crate::objects::object::Kind;
use crate::objects::object_ref::{TypedRef, opened};

/// A lock that any process of the tree may hold, and that outlives a holder's death.
///
/// As with the lock of Python's `multiprocessing`, whoever likes may release it: it can serve as a robust lock
/// that one process closes and another opens. A holder that is killed, calls `_exit` or is replaced by
/// another program makes the next [`acquire`](Lock::acquire) fail once with
/// [`LockError::OwnerDied`]; a holder that ends in order leaves it held.
#[derive(Debug)]
pub struct Lock {
    shared: TypedRef<RobustLock<{ Kind::Lock as u32 }>>,
    spin: Spin,
}

opened!(Lock, shared);

/// How a lock came to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    /// It was free.
    Clean,
    /// Its holder died: what it guards may be half changed.
    AfterOwnerDied,
}

impl Lock {
    /// A new, free lock.
    ///
    /// # Errors
    /// When shared memory cannot be had.
    pub fn new() -> Result<Lock> {
        Ok(Lock {
            shared: TypedRef::make(0, |_| {})?,
            spin: Spin::default(),
        })
    }

    /// The lock a handle names.
    ///
    /// # Errors
    /// When the handle is another tree's, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<Lock> {
        Ok(Lock {
            shared: TypedRef::open(handle)?,
            spin: Spin::default(),
        })
    }

    /// The name by which other processes open the lock.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        let me = self.shared.arena().me();
        self.shared
            .word
            .take(me, super::thread::number(me), false)
            .is_ok()
    }

    /// Waits for the lock and takes it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`], once, when the holder died: the lock is free then and not taken.
    pub fn acquire(&self, deadline: Deadline) -> Result<(), LockError> {
        self.enter(deadline, AfterDeath::Free).map(drop)
    }

    /// As [`acquire`](Lock::acquire), but a dead holder's lock is taken over, so that what it guards can
    /// be repaired.
    ///
    /// # Errors
    /// [`LockError::TimedOut`], [`LockError::Interrupted`].
    pub fn acquire_for_repair(&self, deadline: Deadline) -> Result<Acquired, LockError> {
        let inherited = self.enter(deadline, AfterDeath::Hold)?;
        Ok(match inherited.0 {
            true => Acquired::AfterOwnerDied,
            false => Acquired::Clean,
        })
    }

    fn enter(
        &self,
        deadline: Deadline,
        after: AfterDeath,
    ) -> Result<robust_lock::Inherited, LockError> {
        let arena = self.shared.arena();
        robust_lock::acquire(arena, &self.shared.word, &self.spin, deadline, after)
    }

    /// Frees the lock, whoever holds it.
    ///
    /// # Errors
    /// [`NotHeld`] when it is free.
    #[inline]
    pub fn release(&self) -> Result<(), NotHeld> {
        robust_lock::release(&self.shared.word).map_err(|()| NotHeld)
    }

    pub(super) fn word(&self) -> (BlockId, &LockState) {
        (self.shared.block(), &self.shared.word)
    }

    /// Whether somebody holds it.
    pub fn is_held(&self) -> bool {
        !self.shared.word.look().is_free()
    }

    /// Whether [`acquire`](Self::acquire) would wait now: somebody holds it who is not dead.
    #[inline]
    pub fn would_wait(&self) -> bool {
        let arena = self.shared.arena();
        robust_lock::is_held_by_the_living(arena, self.shared.word.look())
    }

    /// The process that acquired it, if it is held.
    pub fn holder(&self) -> Option<ProcId> {
        self.shared.word.look().holder()
    }

    /// Whether the calling thread acquired it.
    #[inline]
    pub fn is_mine(&self) -> bool {
        self.shared.is_mine(self.shared.arena().me())
    }
}
