//! Waiting for a condition under a lock.

use std::time::Duration;

use procession_engine::{Deadline, error::WaitError, sync};
use serde::{Deserialize, Serialize};

use crate::error::{Error, within};
use crate::lock::LockGuard;
use crate::shared::Shared;

/// Lets processes wait, without holding a [`Lock`](crate::Lock), until another says that
/// something changed.
///
/// Clones are the same condition variable.
///
/// # Examples
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
///     let turn = lock.lock()?;
///     let process = Process::spawn(raise, (lock.clone(), raised.clone(), value.clone()))?;
///     let turn = raised.wait_while(turn, || value.get().is_ok_and(|n| n == 0))?;
///     assert_eq!(value.get()?, 1);
///     drop(turn);
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
    /// A new condition variable.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn new() -> Result<Condvar, Error> {
        Ok(Condvar {
            inner: Shared::new(sync::Condition::new()?),
        })
    }

    /// Gives the lock back, waits until notified, and locks again.
    ///
    /// # Errors
    /// As for [`Lock::lock`](crate::Lock::lock); and when there is no shared memory left.
    pub fn wait<'a>(&self, guard: LockGuard<'a>) -> Result<LockGuard<'a>, Error> {
        Ok(self.wait_until(guard, Deadline::NEVER)?.0)
    }

    /// As [`wait`](Condvar::wait), but waits no longer than `timeout`. Says whether it was
    /// notified.
    ///
    /// # Errors
    /// As for [`wait`](Condvar::wait).
    pub fn wait_timeout<'a>(
        &self,
        guard: LockGuard<'a>,
        timeout: Duration,
    ) -> Result<(LockGuard<'a>, bool), Error> {
        self.wait_until(guard, within(timeout))
    }

    /// Waits for as long as `condition`, looked at under the lock, holds.
    ///
    /// # Errors
    /// As for [`wait`](Condvar::wait).
    pub fn wait_while<'a>(
        &self,
        mut guard: LockGuard<'a>,
        mut condition: impl FnMut() -> bool,
    ) -> Result<LockGuard<'a>, Error> {
        while condition() {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits for as long as `condition` holds, but no longer than `timeout`. Says whether it
    /// ceased to hold.
    ///
    /// # Errors
    /// As for [`wait`](Condvar::wait).
    pub fn wait_while_timeout<'a>(
        &self,
        mut guard: LockGuard<'a>,
        timeout: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Result<(LockGuard<'a>, bool), Error> {
        let deadline = within(timeout);
        while condition() {
            if deadline.is_past() {
                return Ok((guard, false));
            }
            guard = self.wait_until(guard, deadline)?.0;
        }
        Ok((guard, true))
    }

    /// Wakes one that waits.
    pub fn notify_one(&self) {
        self.inner.notify(1);
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        self.inner.notify(usize::MAX);
    }

    fn wait_until<'a>(
        &self,
        guard: LockGuard<'a>,
        deadline: Deadline,
    ) -> Result<(LockGuard<'a>, bool), Error> {
        let lock = guard.lock();
        let ticket = self.inner.enroll()?;
        drop(guard);
        let notified = loop {
            match self.inner.sleep(&ticket, deadline) {
                Ok(()) => break true,
                Err(WaitError::TimedOut) => break false,
                Err(WaitError::Interrupted) => {}
            }
        };
        drop(ticket);
        Ok((lock.lock()?, notified))
    }
}
