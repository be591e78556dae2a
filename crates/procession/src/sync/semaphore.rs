//! A number of permits shared by processes.

use std::time::Duration;

use procession_engine::{Deadline, error::WaitError, sync};
use serde::{Deserialize, Serialize};

use crate::error::{Error, TooMany, within};
use crate::sync::guard_owner::GuardOwner;
use crate::transfer::shared::Shared;

/// A number of permits; taking one waits while there is none.
///
/// Permits have no owner: those of a process that died are not given back. Clones are the same
/// semaphore.
///
/// # Examples
/// ```
/// # fn main() -> procession::Result<()> {
/// let permits = procession::Semaphore::new(2)?;
/// let one = permits.acquire();
/// let two = permits.acquire();
/// assert!(permits.try_acquire().is_none());
/// drop(one);
/// assert!(permits.try_acquire().is_some());
/// # drop(two);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Semaphore {
    inner: Shared<sync::Semaphore>,
}

impl Semaphore {
    /// A semaphore with this many permits, to which more may be added.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn new(permits: u32) -> Result<Semaphore, Error> {
        Ok(Semaphore {
            inner: Shared::new(sync::Semaphore::new(permits, None)?),
        })
    }

    /// A semaphore with this many permits, and never more.
    ///
    /// # Errors
    /// As for [`Semaphore::new`].
    pub fn bounded(permits: u32) -> Result<Semaphore, Error> {
        Ok(Semaphore {
            inner: Shared::new(sync::Semaphore::new(permits, Some(permits))?),
        })
    }

    /// Waits for a permit and takes it for as long as the guard lives.
    pub fn acquire(&self) -> Permit<'_> {
        loop {
            if let Some(permit) = self.acquire_until(Deadline::NEVER) {
                return permit;
            }
        }
    }

    /// Takes a permit if there is one.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.acquire_until(Deadline::NOW)
    }

    /// Waits for a permit no longer than `timeout`.
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<Permit<'_>> {
        self.acquire_until(within(timeout))
    }

    /// Adds `permits`, which any process may take.
    ///
    /// # Errors
    /// When a bounded semaphore would have more than its bound; nothing is added then.
    pub fn release(&self, permits: u32) -> Result<(), TooMany> {
        self.inner.release(permits).map_err(|_| TooMany)
    }

    /// How many permits are there to take.
    pub fn available(&self) -> u32 {
        self.inner.value()
    }

    fn acquire_until(&self, deadline: Deadline) -> Option<Permit<'_>> {
        loop {
            match self.inner.acquire(deadline) {
                Ok(()) => {
                    return Some(Permit {
                        semaphore: self,
                        owner: GuardOwner::current(),
                    });
                }
                Err(WaitError::TimedOut) => return None,
                Err(WaitError::Interrupted) => {}
            }
        }
    }
}

/// A permit of a [`Semaphore`]; given back when it is dropped.
#[derive(Debug)]
#[must_use = "the permit is given back at once when it is dropped"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    owner: GuardOwner,
}

impl Permit<'_> {
    /// Keeps the permit from being given back; [`Semaphore::release`] does that, from anywhere.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.owner.is_current() {
            // Too many only when somebody released what he did not take.
            let _ = self.semaphore.release(1);
        }
    }
}
