//! A place where processes wait for each other.

use std::time::Duration;

use procession_engine::{Deadline, sync};
use serde::{Deserialize, Serialize};

use crate::error::{BarrierError, Error, within};
use crate::transfer::shared::Shared;

/// Lets a number of parties wait until all have arrived; then it opens, and can be used again.
///
/// A party that times out, dies while it waits, or aborts breaks it: the others get
/// [`BarrierError`] until it is [`reset`](Barrier::reset). Clones are the same barrier.
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
    /// A barrier that opens when this many have arrived.
    ///
    /// # Errors
    /// When there is no shared memory left, or `parties` is zero.
    pub fn new(parties: u32) -> Result<Barrier, Error> {
        Ok(Barrier {
            inner: Shared::new(sync::Barrier::new(parties)?),
        })
    }

    /// Waits until all have arrived.
    ///
    /// # Errors
    /// When the barrier is broken.
    pub fn wait(&self) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(Deadline::NEVER)
    }

    /// Waits no longer than `timeout`, after which the barrier breaks.
    ///
    /// # Errors
    /// As for [`wait`](Barrier::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(within(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<BarrierWaitResult, BarrierError> {
        loop {
            return match self.inner.arrive(deadline) {
                Ok(sync::Arrival::Last(turnstile)) => match turnstile.open() {
                    Ok(index) => Ok(BarrierWaitResult {
                        index,
                        leader: true,
                    }),
                    Err(_) => Err(BarrierError),
                },
                Ok(sync::Arrival::Passed { index }) => Ok(BarrierWaitResult {
                    index,
                    leader: false,
                }),
                Err(sync::BarrierError::Interrupted) => continue,
                Err(_) => Err(BarrierError),
            };
        }
    }

    /// Breaks it: all that wait, or come to wait, get an error.
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// Makes it as new; those that wait get an error.
    pub fn reset(&self) {
        self.inner.reset();
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.inner.waiting()
    }

    /// How many it takes.
    pub fn parties(&self) -> u32 {
        self.inner.parties()
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.inner.is_broken()
    }
}

/// What a party that passed a [`Barrier`] gets.
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
    /// Whether this is the one party of this round that opened the barrier.
    pub fn is_leader(&self) -> bool {
        self.leader
    }

    /// A number from 0 to the number of parties, another for each.
    pub fn index(&self) -> u32 {
        self.index
    }
}
