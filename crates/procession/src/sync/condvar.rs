//! Condition variables.

use std::time::Duration;

use procession_engine::sync::Turns;
use procession_engine::{Deadline, error::WaitError, sync};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::guard_error::GuardError;
use super::lock::{Lock, LockGuard};
use super::mutex::{Mutex, MutexGuard};
use crate::error::{Error, within};
use crate::transfer::shared::Shared;

/// Makes processes wait, without holding a [`Lock`] or [`Mutex`], until another process notifies them of a
/// change.
///
/// Clones refer to the same condition variable.
///
/// # Examples
/// ```
/// use procession::{Condvar, Mutex, Process};
///
/// fn raise(level: Mutex<u32>, raised: Condvar) {
///     *level.lock().unwrap() += 1;
///     raised.notify_one();
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let (level, raised) = (Mutex::new(0)?, Condvar::new()?);
///     let process = Process::spawn(raise, (level.clone(), raised.clone()))?;
///     let level = raised.wait_while(level.lock()?, |level| *level == 0)?;
///     assert_eq!(*level, 1);
///     process.join()?;
///     Ok(())
/// }
/// ```
///
/// With a [`Lock`], the condition is on other shared objects:
///
/// ```
/// use procession::{Condvar, Lock, Process, Value};
///
/// fn raise(lock: Lock, raised: Condvar, value: Value<u32>) {
///     let _turn = lock.lock().unwrap();
///     value.set(1).unwrap();
///     raised.notify_one();
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let (lock, raised, value) = (Lock::new()?, Condvar::new()?, Value::new(0)?);
///     let process = Process::spawn(raise, (lock.clone(), raised.clone(), value.clone()))?;
///     let guard = raised.wait_while(lock.lock()?, |()| value.get().is_ok_and(|n| n == 0))?;
///     assert_eq!(value.get()?, 1);
///     drop(guard);
///     process.join()?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Condvar {
    inner: Shared<sync::Condition>,
}

impl Condvar {
    /// Creates a condition variable.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn new() -> Result<Condvar, Error> {
        Ok(Condvar {
            inner: Shared::new(sync::Condition::new()?),
        })
    }

    /// Releases the lock, waits for a notification, and locks again.
    ///
    /// # Errors
    /// Returns the errors of locking the [`Lock`] or [`Mutex`]; an error when there is no shared memory
    /// left; and an error in a forked process whose parent holds the guard.
    pub fn wait<G: CondvarGuard>(&self, guard: G) -> Result<G, G::Error> {
        Ok(self.wait_until(guard, Deadline::NEVER)?.0)
    }

    /// Like [`wait`](Condvar::wait), but waits for at most `timeout`. Also returns whether it was notified.
    ///
    /// # Errors
    /// The same as for [`wait`](Condvar::wait).
    ///
    /// # Examples
    /// ```
    /// use procession::{Condvar, Lock};
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (lock, changed) = (Lock::new()?, Condvar::new()?);
    /// let (guard, notified) = changed.wait_timeout(lock.lock()?, Duration::from_millis(10))?;
    /// assert!(!notified);
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout<G: CondvarGuard>(
        &self,
        guard: G,
        timeout: Duration,
    ) -> Result<(G, bool), G::Error> {
        self.wait_until(guard, within(timeout))
    }

    /// Waits while `condition` holds. The condition is checked under the lock.
    ///
    /// # Errors
    /// The same as for [`wait`](Condvar::wait).
    pub fn wait_while<G: CondvarGuard>(
        &self,
        mut guard: G,
        mut condition: impl FnMut(&G::Value) -> bool,
    ) -> Result<G, G::Error> {
        while condition(guard.value()) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits while `condition` holds, for at most `timeout`. Also returns whether the condition ended.
    ///
    /// # Errors
    /// The same as for [`wait`](Condvar::wait).
    ///
    /// # Examples
    /// ```
    /// use procession::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (ready, changed) = (Mutex::new(false)?, Condvar::new()?);
    /// let time = Duration::from_millis(10);
    /// let (guard, ended) = changed.wait_while_timeout(ready.lock()?, time, |ready| !ready)?;
    /// assert!(!ended);
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_while_timeout<G: CondvarGuard>(
        &self,
        mut guard: G,
        timeout: Duration,
        mut condition: impl FnMut(&G::Value) -> bool,
    ) -> Result<(G, bool), G::Error> {
        let deadline = within(timeout);
        while condition(guard.value()) {
            if deadline.is_past() {
                return Ok((guard, false));
            }
            guard = self.wait_until(guard, deadline)?.0;
        }
        Ok((guard, true))
    }

    /// Wakes one waiting process or thread.
    pub fn notify_one(&self) {
        self.inner.notify(1);
    }

    /// Wakes all waiting processes and threads.
    pub fn notify_all(&self) {
        self.inner.notify(usize::MAX);
    }

    fn wait_until<G: CondvarGuard>(
        &self,
        guard: G,
        deadline: Deadline,
    ) -> Result<(G, bool), G::Error> {
        let lock = guard.lock();
        let waiter = self
            .inner
            .enroll_under(G::engine(&lock))
            .map_err(|error| G::failed(error.into()))?;
        guard.release().map_err(G::failed)?;
        while self.inner.sleep(&waiter, deadline) == Err(WaitError::Interrupted) {}
        let moved = waiter.was_moved();
        let notified = waiter.leave();
        let locked = G::lock_again(lock);
        if moved {
            G::engine(&lock).pass_on();
        }
        if notified && locked.is_err() {
            // The caller gets an error and cannot act on the notification, so pass it on.
            self.inner.notify(1);
        }
        Ok((locked?, notified))
    }
}

/// A guard with which a [`Condvar`] can wait: a [`LockGuard`] or a [`MutexGuard`].
///
/// The trait is sealed.
pub trait CondvarGuard: sealed::Guard {}

pub(crate) mod sealed {
    use procession_engine::sync;

    use crate::error::Error;

    pub trait Guard: Sized {
        /// The value under the lock.
        type Value;
        /// The error of locking.
        type Error;
        type Lock: Copy;

        fn value(&self) -> &Self::Value;
        fn lock(&self) -> Self::Lock;
        fn engine(lock: &Self::Lock) -> &sync::Lock;
        fn release(self) -> Result<(), Error>;
        fn lock_again(lock: Self::Lock) -> Result<Self, Self::Error>;
        fn failed(error: Error) -> Self::Error;
    }
}

impl CondvarGuard for LockGuard<'_> {}

impl<'a> sealed::Guard for LockGuard<'a> {
    type Value = ();
    type Error = Error;
    type Lock = &'a Lock;

    fn value(&self) -> &() {
        &()
    }

    fn lock(&self) -> &'a Lock {
        LockGuard::lock(self)
    }

    fn engine<'l>(lock: &'l &'a Lock) -> &'l sync::Lock {
        lock.engine()
    }

    fn release(self) -> Result<(), Error> {
        // Dropping it releases the lock.
        self.owner().check()
    }

    fn lock_again(lock: &'a Lock) -> Result<LockGuard<'a>, Error> {
        Ok(lock.lock()?)
    }

    fn failed(error: Error) -> Error {
        error
    }
}

impl<T: Serialize + DeserializeOwned> CondvarGuard for MutexGuard<'_, T> {}

impl<'a, T: Serialize + DeserializeOwned> sealed::Guard for MutexGuard<'a, T> {
    type Value = T;
    type Error = GuardError<MutexGuard<'a, T>>;
    type Lock = &'a Mutex<T>;

    fn value(&self) -> &T {
        self
    }

    fn lock(&self) -> &'a Mutex<T> {
        self.mutex()
    }

    fn engine<'l>(mutex: &'l &'a Mutex<T>) -> &'l sync::Lock {
        mutex.engine()
    }

    fn release(self) -> Result<(), Error> {
        self.commit()
    }

    fn lock_again(mutex: &'a Mutex<T>) -> Result<MutexGuard<'a, T>, Self::Error> {
        mutex.lock()
    }

    fn failed(error: Error) -> Self::Error {
        GuardError::Failed(error)
    }
}
