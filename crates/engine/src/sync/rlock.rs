//! A lock that its holder may acquire again.

use std::sync::atomic::Ordering;

use super::lock_state::LockState;
use super::robust_lock::{self, AfterDeath, RobustLock};
use super::spin::Spin;
use super::{Acquired, thread};
use crate::arena::cell::BlockId;
use crate::arena::kind::Kind;
use crate::arena::owner::ProcId;
use crate::deadline::Deadline;
use crate::error::{LockError, NotOwner, Result};
use crate::objects::handle::Handle;
use crate::objects::object_ref::{TypedRef, opened};

/// A lock for one thread of one process, which must release it as often as it acquired it.
///
/// If the holder dies, the next [`acquire`](RLock::acquire) fails once with
/// [`LockError::OwnerDied`].
#[derive(Debug)]
pub struct RLock {
    shared: TypedRef<RobustLock<{ Kind::RLock as u32 }>>,
    spin: Spin,
}

opened!(RLock, shared);

impl RLock {
    /// A new, free lock.
    ///
    /// # Errors
    /// When shared memory is not available.
    pub fn new() -> Result<RLock> {
        Ok(RLock {
            shared: TypedRef::make(0, |_| {})?,
            spin: Spin::default(),
        })
    }

    /// Opens the lock that a handle names.
    ///
    /// # Errors
    /// When the handle is from another process tree, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<RLock> {
        Ok(RLock {
            shared: TypedRef::open(handle)?,
            spin: Spin::default(),
        })
    }

    /// The handle by which other processes open the lock.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    /// Takes the lock if it is free or held by this thread.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        let me = self.shared.arena().me();
        match self.shared.word.take(me, thread::number(me), false) {
            Ok(()) => {
                self.shared.again.store(0, Ordering::Relaxed);
                true
            }
            Err(_) => self.acquire_again(me),
        }
    }

    /// Counts one more hold if this thread has the lock.
    fn acquire_again(&self, me: ProcId) -> bool {
        let mine = self.shared.is_mine(me);
        if mine {
            self.shared.again.fetch_add(1, Ordering::Relaxed);
        }
        mine
    }

    /// Waits for the lock and takes it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`], once, if the holder died: the lock is then free and not taken.
    /// [`LockError::TimedOut`], [`LockError::Interrupted`].
    pub fn acquire(&self, deadline: Deadline) -> Result<(), LockError> {
        self.enter(deadline, AfterDeath::Free).map(drop)
    }

    /// Like [`acquire`](RLock::acquire), but takes over the lock of a dead holder.
    ///
    /// # Errors
    /// [`LockError::TimedOut`], [`LockError::Interrupted`].
    pub fn acquire_for_repair(&self, deadline: Deadline) -> Result<Acquired, LockError> {
        self.enter(deadline, AfterDeath::Hold)
    }

    fn enter(&self, deadline: Deadline, after: AfterDeath) -> Result<Acquired, LockError> {
        let arena = self.shared.arena();
        if self.try_acquire() {
            return Ok(Acquired::Clean);
        }
        let owner_died =
            robust_lock::acquire(arena, &self.shared.word, &self.spin, deadline, after)?;
        self.shared.again.store(0, Ordering::Relaxed);
        Ok(match owner_died.0 {
            true => Acquired::AfterOwnerDied,
            false => Acquired::Clean,
        })
    }

    /// Releases one hold. The lock is free after the last one.
    ///
    /// # Errors
    /// [`NotOwner`] if the calling thread does not hold it.
    #[inline]
    pub fn release(&self) -> Result<(), NotOwner> {
        if !self.is_mine() {
            return Err(NotOwner);
        }
        let again = self.shared.again.load(Ordering::Relaxed);
        if again > 0 {
            self.shared.again.store(again - 1, Ordering::Relaxed);
            return Ok(());
        }
        robust_lock::release(&self.shared.word).map_err(|()| NotOwner)
    }

    /// How many times the calling thread holds the lock.
    pub fn count(&self) -> u32 {
        match self.is_mine() {
            true => self.shared.again.load(Ordering::Relaxed) + 1,
            false => 0,
        }
    }

    /// Whether the calling thread holds the lock.
    #[inline]
    pub fn is_mine(&self) -> bool {
        self.shared.is_mine(self.shared.arena().me())
    }

    pub(super) fn word(&self) -> (BlockId, &LockState) {
        (self.shared.block(), &self.shared.word)
    }

    /// Whether a process holds the lock.
    pub fn is_held(&self) -> bool {
        !self.shared.word.look().is_free()
    }

    /// Whether [`acquire`](Self::acquire) would wait now: another thread that is not dead holds the
    /// lock.
    #[inline]
    pub fn would_wait(&self) -> bool {
        let arena = self.shared.arena();
        let seen = self.shared.word.look();
        robust_lock::is_held_by_living(arena, seen) && !self.shared.is_held_by(arena.me(), seen)
    }

    /// The process that holds the lock.
    pub fn holder(&self) -> Option<ProcId> {
        self.shared.word.look().holder()
    }
}
