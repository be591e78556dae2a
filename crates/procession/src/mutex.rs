//! A value of any type that one process at a time may look at and change.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::thread;
use std::time::Duration;

use procession_engine::sync::{self, Acquired};
use procession_engine::{self as engine, Deadline};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, within};
use crate::place::{Place, State};
use crate::shared::Shared;

/// A value in shared memory under a lock.
///
/// Any type that serde can carry will do. [`lock`](Mutex::lock) copies the value out, and the guard writes it
/// back, when it was changed, as it is dropped. That is one step: a process that dies while it holds the
/// lock leaves the value as it was before. So does a panic. Clones are the same mutex.
///
/// After a holder's death the next to lock gets [`MutexError::OwnerDied`], with the guard: other things that
/// the lock stands for may be half done. It goes on being reported until
/// [`mark_consistent`](MutexGuard::mark_consistent) says that all is well again.
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
    place: Place<T>,
}

impl<T: Serialize + DeserializeOwned> Mutex<T> {
    /// A new mutex, held by nobody.
    ///
    /// # Errors
    /// When the value cannot be serialised, or there is no shared memory left.
    pub fn new(value: T) -> Result<Mutex<T>, Error> {
        Ok(Mutex {
            lock: Shared::new(sync::Lock::new()?),
            place: Place::new(&value)?,
        })
    }

    /// Waits for the lock, and holds it for as long as the guard lives.
    ///
    /// # Errors
    /// [`MutexError::OwnerDied`], with the guard, when a process died holding it;
    /// [`MutexError::Failed`] when the value there is no `T`.
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, MutexError<MutexGuard<'_, T>>> {
        self.lock_until(Deadline::NEVER)
    }

    /// Holds the lock if it is free.
    ///
    /// # Errors
    /// As for [`lock`](Mutex::lock); and [`MutexError::TimedOut`] when it is not free.
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, MutexError<MutexGuard<'_, T>>> {
        self.lock_until(Deadline::NOW)
    }

    /// As [`lock`](Mutex::lock), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`lock`](Mutex::lock); and [`MutexError::TimedOut`].
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<MutexGuard<'_, T>, MutexError<MutexGuard<'_, T>>> {
        self.lock_until(within(timeout))
    }

    fn lock_until(
        &self,
        deadline: Deadline,
    ) -> Result<MutexGuard<'_, T>, MutexError<MutexGuard<'_, T>>> {
        let acquired = loop {
            match self.lock.acquire_for_repair(deadline) {
                Ok(acquired) => break acquired,
                Err(engine::error::LockError::Interrupted) => {}
                Err(_) => return Err(MutexError::TimedOut),
            }
        };
        // Its drop gives the lock back, also when the value cannot be read.
        let held = Held { lock: &self.lock };
        let (value, found) = self.place.read().map_err(MutexError::Failed)?;
        let state = match acquired {
            Acquired::Clean => found,
            Acquired::AfterOwnerDied => State::Doubtful,
        };
        let guard = MutexGuard {
            value,
            changed: state != found,
            state,
            panicking: thread::panicking(),
            place: &self.place,
            _held: held,
            _thread: PhantomData,
        };
        match state {
            State::Consistent => Ok(guard),
            State::Doubtful => Err(MutexError::OwnerDied(guard)),
        }
    }
}

impl<T> Mutex<T> {
    /// Whether anybody holds it.
    pub fn is_held(&self) -> bool {
        self.lock.is_held()
    }
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Mutex<T> {
        Mutex {
            lock: self.lock.clone(),
            place: self.place.clone(),
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

/// A lock to be given back, unless it is not this thread's any more: in a forked child it never was.
struct Held<'a> {
    lock: &'a sync::Lock,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.lock.is_mine() {
            let _ = self.lock.release();
        }
    }
}

/// A [`Mutex`], held: the value, to be looked at and changed.
///
/// Dropped, it writes the value back if it was changed, and gives the lock back. Dropped by a panic, it
/// leaves the value as it was.
#[must_use = "the lock is given back at once when its guard is dropped"]
pub struct MutexGuard<'a, T: Serialize + DeserializeOwned> {
    value: T,
    changed: bool,
    state: State,
    /// Whether the thread was panicking when it locked.
    panicking: bool,
    place: &'a Place<T>,
    _held: Held<'a>,
    /// Belongs to the thread that locked.
    _thread: PhantomData<*const ()>,
}

impl<T: Serialize + DeserializeOwned> MutexGuard<'_, T> {
    /// Says that all is well after a holder's death, which is not reported again then.
    pub fn mark_consistent(&mut self) {
        self.changed |= self.state == State::Doubtful;
        self.state = State::Consistent;
    }

    /// Writes the value back and gives the lock back. Dropping does it as well, but panics where this fails.
    ///
    /// # Errors
    /// When the value cannot be serialised, or there is no shared memory left: it is what it was before.
    pub fn commit(mut self) -> Result<(), Error> {
        self.write_back()
    }

    /// As [`commit`](MutexGuard::commit), and gives the value.
    pub(crate) fn commit_and_take(mut self) -> Result<T, Error>
    where
        T: Default,
    {
        self.write_back()?;
        Ok(std::mem::take(&mut self.value))
    }

    /// Gives the lock back, and leaves the value as it was.
    pub fn discard(mut self) {
        self.changed = false;
    }

    fn write_back(&mut self) -> Result<(), Error> {
        match std::mem::take(&mut self.changed) && self._held.lock.is_mine() {
            true => self.place.write(&self.value, self.state),
            false => Ok(()),
        }
    }
}

impl<T: Serialize + DeserializeOwned> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Serialize + DeserializeOwned> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.value
    }
}

impl<T: Serialize + DeserializeOwned + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Serialize + DeserializeOwned> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        let panicking = thread::panicking();
        if panicking && !self.panicking {
            return;
        }
        if let Err(error) = self.write_back()
            && !panicking
        {
            panic!("the value of a mutex could not be written back: {error}");
        }
    }
}

/// Why a [`Mutex`] was not locked in good order.
#[non_exhaustive]
pub enum MutexError<G> {
    /// A process died holding it. The guard holds it now: the value is what it was before the dead one
    /// locked, but what else it did may be half done.
    OwnerDied(G),
    /// Somebody held it until the time was up.
    TimedOut,
    /// The value cannot be read.
    Failed(Error),
}

impl<G> MutexError<G> {
    /// The guard, if the only trouble is that a holder died.
    ///
    /// # Errors
    /// The error, if there is none.
    pub fn into_guard(self) -> Result<G, MutexError<G>> {
        match self {
            MutexError::OwnerDied(guard) => Ok(guard),
            other => Err(other),
        }
    }
}

impl<G> fmt::Display for MutexError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MutexError::OwnerDied(_) => f.write_str(
                "a process died holding the mutex; its value is as before, check what else it stands for",
            ),
            MutexError::TimedOut => f.write_str("timed out waiting for the mutex"),
            MutexError::Failed(error) => write!(f, "the value of the mutex cannot be read: {error}"),
        }
    }
}

impl<G> fmt::Debug for MutexError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MutexError::OwnerDied(_) => f.write_str("OwnerDied(..)"),
            MutexError::TimedOut => f.write_str("TimedOut"),
            MutexError::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<G> std::error::Error for MutexError<G> {}

/// Forgets the guard: the lock is given back, and the death is reported to the next one as well.
impl<G> From<MutexError<G>> for Error {
    fn from(error: MutexError<G>) -> Error {
        match error {
            MutexError::OwnerDied(_) => crate::LockError::OwnerDied.into(),
            MutexError::TimedOut => crate::LockError::TimedOut.into(),
            MutexError::Failed(error) => error,
        }
    }
}
