//! Flags that processes wait for.

use std::time::Duration;

use procession_engine::{Deadline, error::WaitError, sync};
use serde::{Deserialize, Serialize};

use crate::error::{Error, within};
use crate::transfer::shared::Shared;

/// A flag that processes set, clear and wait for.
///
/// Clones refer to the same event.
///
/// # Examples
/// ```
/// use procession::{Event, Process};
///
/// fn runner(go: Event) {
///     go.wait();
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let go = Event::new()?;
///     let process = Process::spawn(runner, go.clone())?;
///     go.set();
///     process.join()?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Event {
    inner: Shared<sync::Event>,
}

impl Event {
    /// Creates an event that is not set.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn new() -> Result<Event, Error> {
        Ok(Event {
            inner: Shared::new(sync::Event::new()?),
        })
    }

    /// Sets the flag and wakes all waiting processes.
    pub fn set(&self) {
        self.inner.set();
    }

    /// Clears the flag.
    pub fn clear(&self) {
        self.inner.clear();
    }

    /// Returns whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.inner.is_set()
    }

    /// Waits until the flag is set.
    pub fn wait(&self) {
        self.wait_until(Deadline::NEVER);
    }

    /// Waits for at most `timeout`. Returns whether the flag was set.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let event = procession::Event::new()?;
    /// assert!(!event.wait_timeout(Duration::from_millis(10)));
    /// event.set();
    /// assert!(event.wait_timeout(Duration::from_millis(10)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(within(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> bool {
        let since = self.inner.now();
        loop {
            match self.inner.wait_since(since, deadline) {
                Ok(()) => return true,
                Err(WaitError::TimedOut) => return false,
                Err(WaitError::Interrupted) => {}
            }
        }
    }
}
