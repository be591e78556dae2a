//! A value of any type that one process at a time may use.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::sync::{self, Acquired};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::serialized_cell::{CellState, EditGuard, SerializedCell};
use crate::error::{Error, within};
use crate::sync::guard_error::{GuardError, retry_on_signal};
use crate::sync::guard_owner::GuardOwner;
use crate::transfer::shared::Shared;

/// A value in shared memory, protected by a lock.
///
/// The value may be of any type that serde can carry. [`lock`](Mutex::lock) copies the value out, and dropping
/// the guard writes it back if it was changed. Writing back is one step: if a process dies while holding the
/// lock, or panics, the value stays as it was. Clones refer to the same mutex.
///
/// After the death of a holder, locking returns [`GuardError::OwnerDied`] with the guard, because other state
/// protected by the lock may be half changed. This repeats until
/// [`mark_consistent`](MutexGuard::mark_consistent) is called.
///
/// # Examples
/// ```
/// use std::collections::BTreeMap;
/// use procession::{Mutex, Process};
///
/// type Scores = BTreeMap<String, u32>;
///
/// fn play(name: String, scores: Mutex<Scores>) {
///     let mut scores = scores.lock().unwrap();
///     *scores.entry(name).or_default() += 10;
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let scores = Mutex::new(Scores::new())?;
///     Process::spawn(play, ("Ada".to_owned(), scores.clone()))?.join()?;
///     assert_eq!(scores.lock()?["Ada"], 10);
///     Ok(())
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Mutex<T> {
    lock: Shared<sync::Lock>,
    cell: SerializedCell<T>,
}

impl<T: Serialize + DeserializeOwned> Mutex<T> {
    /// Creates a mutex that no process holds.
    ///
    /// # Errors
    /// Returns an error when the value cannot be serialised, or there is no shared memory left.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let names = procession::Mutex::new(vec!["Ada".to_owned()])?;
    /// names.lock()?.push("Grace".to_owned());
    /// assert_eq!(names.lock()?.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(value: T) -> Result<Mutex<T>, Error> {
        Ok(Mutex {
            lock: Shared::new(sync::Lock::new()?),
            cell: SerializedCell::new(&value)?,
        })
    }

    pub(crate) fn engine(&self) -> &sync::Lock {
        &self.lock
    }

    /// Waits for the lock and returns a guard that holds it.
    ///
    /// # Errors
    /// Returns [`GuardError::OwnerDied`], with the guard, when a process died while holding the lock, and
    /// [`GuardError::Failed`] when the value does not decode as a `T`.
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, GuardError<MutexGuard<'_, T>>> {
        self.lock_until(Deadline::NEVER)
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// The same as for [`lock`](Mutex::lock), and [`GuardError::TimedOut`] when it is not free.
    ///
    /// # Examples
    /// ```
    /// use procession::{GuardError, Mutex};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let count = Mutex::new(0)?;
    /// let guard = count.lock()?;
    /// assert!(matches!(count.try_lock(), Err(GuardError::TimedOut)));
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, GuardError<MutexGuard<'_, T>>> {
        self.lock_until(Deadline::NOW)
    }

    /// Like [`lock`](Mutex::lock), but waits for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`lock`](Mutex::lock), and [`GuardError::TimedOut`].
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<MutexGuard<'_, T>, GuardError<MutexGuard<'_, T>>> {
        self.lock_until(within(timeout))
    }

    fn lock_until(
        &self,
        deadline: Deadline,
    ) -> Result<MutexGuard<'_, T>, GuardError<MutexGuard<'_, T>>> {
        let acquired = retry_on_signal(|| self.lock.acquire_for_repair(deadline))?;
        // Dropping it releases the lock, even when the value cannot be read.
        let held = LockHold {
            mutex: self,
            owner: GuardOwner::current(),
        };
        let (mut edit, found) = EditGuard::begin(&self.cell).map_err(GuardError::Failed)?;
        let state = match acquired {
            Acquired::Clean => found,
            Acquired::AfterOwnerDied => CellState::OwnerDied,
        };
        edit.changed = state != found;
        let guard = MutexGuard {
            edit,
            state,
            held,
            _thread: PhantomData,
        };
        match state {
            CellState::Consistent => Ok(guard),
            CellState::OwnerDied => Err(GuardError::OwnerDied(guard)),
        }
    }
}

impl<T> Mutex<T> {
    /// Returns whether any process holds the lock.
    pub fn is_held(&self) -> bool {
        self.lock.is_held()
    }
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Mutex<T> {
        Mutex {
            lock: self.lock.clone(),
            cell: self.cell.clone(),
        }
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}

/// Holds the lock, and releases it in the thread that took it.
struct LockHold<'a, T> {
    mutex: &'a Mutex<T>,
    owner: GuardOwner,
}

impl<T> LockHold<'_, T> {
    fn is_mine(&self) -> bool {
        self.owner.is_current() && self.mutex.lock.is_mine()
    }
}

impl<T> Drop for LockHold<'_, T> {
    fn drop(&mut self) {
        if self.is_mine() {
            let _ = self.mutex.lock.release();
        }
    }
}

/// Holds a [`Mutex`] and gives access to its value.
///
/// Dropping the guard writes the value back if it was changed, and releases the lock. If a panic drops the
/// guard, the value stays as it was.
#[must_use = "dropping the guard releases the lock at once"]
pub struct MutexGuard<'a, T: Serialize + DeserializeOwned> {
    edit: EditGuard<'a, T>,
    state: CellState,
    held: LockHold<'a, T>,
    /// A guard stays in the thread that locked.
    _thread: PhantomData<*const ()>,
}

impl<'a, T: Serialize + DeserializeOwned> MutexGuard<'a, T> {
    pub(crate) fn mutex(&self) -> &'a Mutex<T> {
        self.held.mutex
    }

    /// Ends the reports of a holder's death: the protected state is consistent.
    pub fn mark_consistent(&mut self) {
        self.edit.changed |= self.state == CellState::OwnerDied;
        self.state = CellState::Consistent;
    }

    /// Writes the value back and releases the lock. Dropping the guard does the same, but panics when this
    /// fails.
    ///
    /// # Errors
    /// Returns an error when the value cannot be serialised, or when there is no shared memory left; the
    /// value then stays as it was. Also fails in a forked process whose parent holds the guard.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let text = procession::Mutex::new(String::new())?;
    /// let mut guard = text.lock()?;
    /// guard.push_str("done");
    /// guard.commit()?;
    /// assert_eq!(*text.lock()?, "done");
    /// # Ok(())
    /// # }
    /// ```
    pub fn commit(mut self) -> Result<(), Error> {
        self.write_back()
    }

    /// Like [`commit`](MutexGuard::commit), and returns the value.
    pub(crate) fn commit_and_take(mut self) -> Result<T, Error>
    where
        T: Default,
    {
        self.write_back()?;
        Ok(std::mem::take(&mut self.edit.value))
    }

    /// Releases the lock and leaves the value as it was.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let text = procession::Mutex::new("old".to_owned())?;
    /// let mut guard = text.lock()?;
    /// guard.clear();
    /// guard.discard();
    /// assert_eq!(*text.lock()?, "old");
    /// # Ok(())
    /// # }
    /// ```
    pub fn discard(mut self) {
        self.edit.changed = false;
    }

    fn write_back(&mut self) -> Result<(), Error> {
        self.held.owner.check()?;
        match self.held.is_mine() {
            true => self.edit.write_back(self.state),
            false => Ok(()),
        }
    }
}

impl<T: Serialize + DeserializeOwned> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.edit.value
    }
}

impl<T: Serialize + DeserializeOwned> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.edit.value_mut()
    }
}

impl<T: Serialize + DeserializeOwned + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.edit.value.fmt(f)
    }
}

impl<T: Serialize + DeserializeOwned> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if self.held.is_mine() {
            self.edit.end(self.state);
        }
    }
}
