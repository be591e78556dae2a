//! A mutual-exclusion lock between processes.

use super::lock_state::LockState;
use super::robust_lock::{self, AfterDeath, RobustLock};
use super::spin::Spin;
use crate::arena::cell::BlockId;
use crate::arena::kind::Kind;
use crate::arena::owner::ProcId;
use crate::deadline::Deadline;
use crate::error::{LockError, NotHeld, Result};
use crate::objects::handle::Handle;
use crate::objects::object_ref::{TypedRef, opened};

/// A lock that any process of the tree may hold, and that survives its holder's death.
///
/// As with the lock of Python's `multiprocessing`, any process may release it. So one process
/// can lock it and another can unlock it. If a holder is killed, calls `_exit` or is replaced by
/// another program, the next [`acquire`](Lock::acquire) fails once with [`LockError::OwnerDied`].
/// A holder that exits normally leaves the lock held.
#[derive(Debug)]
pub struct Lock {
    shared: TypedRef<RobustLock<{ Kind::Lock as u32 }>>,
    spin: Spin,
}

opened!(Lock, shared);

/// The state in which a lock was acquired.
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
    /// When shared memory is not available.
    pub fn new() -> Result<Lock> {
        Ok(Lock {
            shared: TypedRef::make(0, |_| {})?,
            spin: Spin::default(),
        })
    }

    /// Opens the lock that a handle names.
    ///
    /// # Errors
    /// When the handle is from another process tree, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<Lock> {
        Ok(Lock {
            shared: TypedRef::open(handle)?,
            spin: Spin::default(),
        })
    }

    /// The handle by which other processes open the lock.
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
    /// [`LockError::OwnerDied`], once, if the holder died: the lock is then free and not taken.
    /// [`LockError::TimedOut`], [`LockError::Interrupted`].
    pub fn acquire(&self, deadline: Deadline) -> Result<(), LockError> {
        self.enter(deadline, AfterDeath::Free).map(drop)
    }

    /// Like [`acquire`](Lock::acquire), but takes over the lock of a dead holder, so that what it
    /// guards can be repaired.
    ///
    /// # Errors
    /// [`LockError::TimedOut`], [`LockError::Interrupted`].
    pub fn acquire_for_repair(&self, deadline: Deadline) -> Result<Acquired, LockError> {
        let owner_died = self.enter(deadline, AfterDeath::Hold)?;
        Ok(match owner_died.0 {
            true => Acquired::AfterOwnerDied,
            false => Acquired::Clean,
        })
    }

    fn enter(
        &self,
        deadline: Deadline,
        after: AfterDeath,
    ) -> Result<robust_lock::OwnerDied, LockError> {
        let arena = self.shared.arena();
        robust_lock::acquire(arena, &self.shared.word, &self.spin, deadline, after)
    }

    /// Frees the lock, whichever process holds it.
    ///
    /// # Errors
    /// [`NotHeld`] if it is free.
    #[inline]
    pub fn release(&self) -> Result<(), NotHeld> {
        robust_lock::release(&self.shared.word).map_err(|()| NotHeld)
    }

    pub(super) fn word(&self) -> (BlockId, &LockState) {
        (self.shared.block(), &self.shared.word)
    }

    /// Whether a process holds the lock.
    pub fn is_held(&self) -> bool {
        !self.shared.word.look().is_free()
    }

    /// Whether [`acquire`](Self::acquire) would wait now: a process that is not dead holds the
    /// lock.
    #[inline]
    pub fn would_wait(&self) -> bool {
        let arena = self.shared.arena();
        robust_lock::is_held_by_living(arena, self.shared.word.look())
    }

    /// The process that acquired the lock, if it is held.
    pub fn holder(&self) -> Option<ProcId> {
        self.shared.word.look().holder()
    }

    /// Whether the calling thread acquired the lock.
    #[inline]
    pub fn is_mine(&self) -> bool {
        self.shared.is_mine(self.shared.arena().me())
    }
}
