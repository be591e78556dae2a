//! A value of any type with many readers or one writer.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::sync::{self, Acquired, ReadHold};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::serialized_cell::{CellState, EditGuard, SerializedCell};
use crate::error::{Error, within};
use crate::sync::guard_error::{GuardError, retry_on_signal};
use crate::sync::guard_owner::GuardOwner;
use crate::transfer::shared::Shared;

/// A value in shared memory that many processes may read, or one may write.
///
/// The value may be of any type that serde can carry. As with a [`Mutex`](crate::Mutex), locking copies the
/// value out, and a write guard puts it back in one step, so a process that dies leaves the value as it was.
/// After the death of a writer, locking returns [`GuardError::OwnerDied`] with the guard until a writer calls
/// [`mark_consistent`](RwLockWriteGuard::mark_consistent). The death of a reader has no effect. Clones refer to
/// the same lock.
///
/// A reading thread must not lock again: a waiting writer would wait for it, and it for the writer.
///
/// # Examples
/// ```
/// use procession::{Process, RwLock};
///
/// fn raise(limit: RwLock<u32>) {
///     *limit.write().unwrap() += 1;
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let limit = RwLock::new(5)?;
///     assert_eq!(*limit.read()?, 5);
///     Process::spawn(raise, limit.clone())?.join()?;
///     assert_eq!(*limit.read()?, 6);
///     Ok(())
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct RwLock<T> {
    lock: Shared<sync::RwLock>,
    cell: SerializedCell<T>,
}

type Read<'a, T> = Result<RwLockReadGuard<'a, T>, GuardError<RwLockReadGuard<'a, T>>>;
type Write<'a, T> = Result<RwLockWriteGuard<'a, T>, GuardError<RwLockWriteGuard<'a, T>>>;

impl<T: Serialize + DeserializeOwned> RwLock<T> {
    /// Creates a lock that no process holds.
    ///
    /// # Errors
    /// Returns an error when the value cannot be serialised, or there is no shared memory left.
    pub fn new(value: T) -> Result<RwLock<T>, Error> {
        Ok(RwLock {
            lock: Shared::new(sync::RwLock::new()?),
            cell: SerializedCell::new(&value)?,
        })
    }

    /// Waits until no process writes, and returns a guard that keeps writers out.
    ///
    /// # Errors
    /// Returns [`GuardError::OwnerDied`], with the guard, when a writer died, and [`GuardError::Failed`]
    /// when the value does not decode as a `T`.
    pub fn read(&self) -> Read<'_, T> {
        self.read_until(Deadline::NEVER)
    }

    /// Like [`read`](RwLock::read), but does not wait.
    ///
    /// # Errors
    /// The same as for [`read`](RwLock::read), and [`GuardError::TimedOut`] when a process writes.
    ///
    /// # Examples
    /// ```
    /// use procession::{GuardError, RwLock};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let limit = RwLock::new(5)?;
    /// let writer = limit.write()?;
    /// assert!(matches!(limit.try_read(), Err(GuardError::TimedOut)));
    /// # drop(writer);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_read(&self) -> Read<'_, T> {
        self.read_until(Deadline::NOW)
    }

    /// Like [`read`](RwLock::read), but waits for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`read`](RwLock::read), and [`GuardError::TimedOut`].
    pub fn read_timeout(&self, timeout: Duration) -> Read<'_, T> {
        self.read_until(within(timeout))
    }

    /// Waits until no process reads or writes, and returns a guard that keeps all others out.
    ///
    /// # Errors
    /// The same as for [`read`](RwLock::read).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let limit = procession::RwLock::new(5)?;
    /// *limit.write()? += 1;
    /// assert_eq!(*limit.read()?, 6);
    /// # Ok(())
    /// # }
    /// ```
    pub fn write(&self) -> Write<'_, T> {
        self.write_until(Deadline::NEVER)
    }

    /// Like [`write`](RwLock::write), but does not wait.
    ///
    /// # Errors
    /// The same as for [`read`](RwLock::read), and [`GuardError::TimedOut`] when another process reads or
    /// writes.
    ///
    /// # Examples
    /// ```
    /// use procession::{GuardError, RwLock};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let limit = RwLock::new(5)?;
    /// let reader = limit.read()?;
    /// assert!(matches!(limit.try_write(), Err(GuardError::TimedOut)));
    /// # drop(reader);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_write(&self) -> Write<'_, T> {
        self.write_until(Deadline::NOW)
    }

    /// Like [`write`](RwLock::write), but waits for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`read`](RwLock::read), and [`GuardError::TimedOut`].
    pub fn write_timeout(&self, timeout: Duration) -> Write<'_, T> {
        self.write_until(within(timeout))
    }

    fn read_until(&self, deadline: Deadline) -> Read<'_, T> {
        let (hold, state) = retry_on_signal(|| self.lock.read(deadline))?;
        // Dropping it releases the lock, even when the value cannot be read.
        let held = ReadHolder {
            lock: &self.lock,
            hold: Some(hold),
            owner: GuardOwner::current(),
            _thread: PhantomData,
        };
        let (value, _) = self.cell.read().map_err(GuardError::Failed)?;
        let guard = RwLockReadGuard { value, _held: held };
        match state {
            Acquired::Clean => Ok(guard),
            Acquired::AfterOwnerDied => Err(GuardError::OwnerDied(guard)),
        }
    }

    fn write_until(&self, deadline: Deadline) -> Write<'_, T> {
        let state = retry_on_signal(|| self.lock.write(deadline))?;
        let held = WriteHolder {
            lock: &self.lock,
            consistent: state == Acquired::Clean,
            owner: GuardOwner::current(),
            _thread: PhantomData,
        };
        let (edit, _) = EditGuard::begin(&self.cell).map_err(GuardError::Failed)?;
        let guard = RwLockWriteGuard { edit, held };
        match state {
            Acquired::Clean => Ok(guard),
            Acquired::AfterOwnerDied => Err(GuardError::OwnerDied(guard)),
        }
    }
}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> RwLock<T> {
        RwLock {
            lock: self.lock.clone(),
            cell: self.cell.clone(),
        }
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock")
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}

/// A reader's share of the lock.
struct ReadHolder<'a> {
    lock: &'a sync::RwLock,
    hold: Option<ReadHold>,
    owner: GuardOwner,
    _thread: PhantomData<*const ()>,
}

impl Drop for ReadHolder<'_> {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take()
            && self.owner.is_current()
        {
            self.lock.leave(hold);
        }
    }
}

/// A writer's hold of the lock.
struct WriteHolder<'a> {
    lock: &'a sync::RwLock,
    /// Whether the death of a writer no longer has to be reported.
    consistent: bool,
    owner: GuardOwner,
    _thread: PhantomData<*const ()>,
}

impl Drop for WriteHolder<'_> {
    fn drop(&mut self) {
        if self.owner.is_current() {
            self.lock.finish(self.consistent);
        }
    }
}

/// Holds a [`RwLock`] for reading and gives access to its value.
#[must_use = "dropping the guard releases the lock at once"]
pub struct RwLockReadGuard<'a, T> {
    value: T,
    _held: ReadHolder<'a>,
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// Holds a [`RwLock`] for writing and gives access to its value.
///
/// Dropping the guard writes the value back if it was changed, and releases the lock. If a panic drops the
/// guard, the value stays as it was.
#[must_use = "dropping the guard releases the lock at once"]
pub struct RwLockWriteGuard<'a, T: Serialize + DeserializeOwned> {
    edit: EditGuard<'a, T>,
    held: WriteHolder<'a>,
}

impl<T: Serialize + DeserializeOwned> RwLockWriteGuard<'_, T> {
    /// Ends the reports of a writer's death: the protected state is consistent.
    pub fn mark_consistent(&mut self) {
        self.held.consistent = true;
    }

    /// Writes the value back and releases the lock. Dropping the guard does the same, but panics when this
    /// fails.
    ///
    /// # Errors
    /// Returns an error when the value cannot be serialised, or when there is no shared memory left; the
    /// value then stays as it was. Also fails in a forked process whose parent holds the guard.
    pub fn commit(mut self) -> Result<(), Error> {
        self.write_back()
    }

    /// Releases the lock and leaves the value as it was.
    pub fn discard(mut self) {
        self.edit.changed = false;
    }

    fn write_back(&mut self) -> Result<(), Error> {
        self.held.owner.check()?;
        self.edit.write_back(CellState::Consistent)
    }
}

impl<T: Serialize + DeserializeOwned> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.edit.value
    }
}

impl<T: Serialize + DeserializeOwned> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.edit.value_mut()
    }
}

impl<T: Serialize + DeserializeOwned + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.edit.value.fmt(f)
    }
}

impl<T: Serialize + DeserializeOwned> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        if self.held.owner.is_current() {
            self.edit.end(CellState::Consistent);
        }
    }
}
