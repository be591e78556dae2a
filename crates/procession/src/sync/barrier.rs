//! Barriers, at which processes wait for each other.

use std::time::Duration;

use procession_engine::{Deadline, sync};
use serde::{Deserialize, Serialize};

use crate::error::{BarrierError, Error, within};
use crate::transfer::shared::Shared;

/// Makes a number of parties wait until all have arrived. Then it opens, and it can be used again.
///
/// A party that times out, dies while waiting, or aborts breaks the barrier: the others get [`BarrierError`]
/// until it is [`reset`](Barrier::reset). Clones refer to the same barrier.
///
/// # Examples
/// ```
/// use procession::{Barrier, Process};
///
/// fn arrive(barrier: Barrier) -> bool {
///     barrier.wait().unwrap().is_leader()
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let barrier = Barrier::new(2)?;
///     let other = Process::spawn(arrive, barrier.clone())?;
///     let ours = barrier.wait()?.is_leader();
///     assert_ne!(ours, other.join()?);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Barrier {
    inner: Shared<sync::Barrier>,
}

impl Barrier {
    /// Creates a barrier that opens when `parties` parties have arrived.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left, or `parties` is zero.
    pub fn new(parties: u32) -> Result<Barrier, Error> {
        Ok(Barrier {
            inner: Shared::new(sync::Barrier::new(parties)?),
        })
    }

    /// Waits until all parties have arrived.
    ///
    /// # Errors
    /// Returns an error when the barrier is broken.
    pub fn wait(&self) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(Deadline::NEVER)
    }

    /// Waits for at most `timeout`, and then breaks the barrier.
    ///
    /// # Errors
    /// The same as for [`wait`](Barrier::wait).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let barrier = procession::Barrier::new(2)?;
    /// assert!(barrier.wait_timeout(Duration::from_millis(10)).is_err());
    /// assert!(barrier.is_broken());
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(within(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<BarrierWaitResult, BarrierError> {
        loop {
            return match self.inner.arrive(deadline) {
                Ok(sync::WaitOutcome::Last(guard)) => match guard.open() {
                    Ok(index) => Ok(BarrierWaitResult {
                        index,
                        leader: true,
                    }),
                    Err(_) => Err(BarrierError),
                },
                Ok(sync::WaitOutcome::Passed { index }) => Ok(BarrierWaitResult {
                    index,
                    leader: false,
                }),
                Err(sync::BarrierError::Interrupted) => continue,
                Err(_) => Err(BarrierError),
            };
        }
    }

    /// Breaks the barrier: all parties that wait, now or later, get an error.
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// Restores the initial state. Parties that wait get an error.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let barrier = procession::Barrier::new(1)?;
    /// barrier.abort();
    /// assert!(barrier.wait().is_err());
    /// barrier.reset();
    /// assert!(barrier.wait().is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn reset(&self) {
        self.inner.reset();
    }

    /// Returns the number of waiting parties.
    pub fn waiting(&self) -> u32 {
        self.inner.waiting()
    }

    /// Returns the number of parties the barrier needs.
    pub fn parties(&self) -> u32 {
        self.inner.parties()
    }

    /// Returns whether the barrier is broken.
    pub fn is_broken(&self) -> bool {
        self.inner.is_broken()
    }
}

/// The result of passing a [`Barrier`].
///
/// # Examples
/// ```
/// # fn main() -> procession::Result<()> {
/// let alone = procession::Barrier::new(1)?;
/// assert!(alone.wait()?.is_leader());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: u32,
    leader: bool,
}

impl BarrierWaitResult {
    /// Returns whether this party opened the barrier. There is one such party per round.
    pub fn is_leader(&self) -> bool {
        self.leader
    }

    /// Returns a number below the number of parties, different for each party of a round.
    pub fn index(&self) -> u32 {
        self.index
    }
}
