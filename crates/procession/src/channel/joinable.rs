//! Queues whose producers can wait until all messages are processed.

use std::time::Duration;

use procession_engine::error::WaitError;
use procession_engine::{self as engine, Deadline, channel};

use crate::channel::queue::Queue;
use crate::error::{Error, TooMany, within};

/// Whether a queue counts the messages that were put and not yet processed.
///
/// The trait is sealed.
pub trait QueueKind: sealed::QueueKind {}

mod sealed {
    use procession_engine::{self as engine, channel};

    pub trait QueueKind {
        /// The name under which programs use such a queue.
        const NAME: &'static str;

        /// Creates a queue. It is unbounded if `capacity` is zero.
        fn create(capacity: usize) -> engine::Result<channel::Queue>;
    }
}

/// The kind of queues that only carry messages.
#[derive(Debug)]
pub enum NotJoinable {}

impl QueueKind for NotJoinable {}

impl sealed::QueueKind for NotJoinable {
    const NAME: &'static str = "Queue";

    fn create(capacity: usize) -> engine::Result<channel::Queue> {
        channel::Queue::new(capacity)
    }
}

/// The kind of queues whose consumers report when they have processed a message.
#[derive(Debug)]
pub enum Joinable {}

impl QueueKind for Joinable {}

impl sealed::QueueKind for Joinable {
    const NAME: &'static str = "JoinableQueue";

    fn create(capacity: usize) -> engine::Result<channel::Queue> {
        channel::Queue::joinable(capacity)
    }
}

impl<T, C> Queue<T, C, Joinable> {
    /// Reports that one received message has been processed.
    ///
    /// # Errors
    /// Returns an error when it was called for every message that was ever put.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::JoinableQueue::new()?;
    /// queue.put(1)?;
    /// queue.get()?;
    /// queue.task_done()?;
    /// assert!(queue.task_done().is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn task_done(&self) -> Result<(), TooMany> {
        self.engine().task_done().map_err(|_| TooMany)
    }

    /// Waits until all messages that were put have been processed.
    ///
    /// # Errors
    /// Returns [`Error::Unfinished`] when all unprocessed messages were received by processes that are
    /// gone. After handling them, call [`task_done`](Queue::task_done) for each.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::JoinableQueue::new()?;
    /// queue.put(1)?;
    /// queue.get()?;
    /// queue.task_done()?;
    /// queue.join()?; // returns at once
    /// # Ok(())
    /// # }
    /// ```
    pub fn join(&self) -> Result<(), Error> {
        self.join_until(Deadline::NEVER).map(drop)
    }

    /// Like [`join`](Queue::join), but waits for at most `timeout`. Returns whether all messages
    /// have been processed.
    ///
    /// # Errors
    /// The same as for [`join`](Queue::join).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::JoinableQueue::new()?;
    /// queue.put(1)?;
    /// assert!(!queue.join_timeout(Duration::from_millis(10))?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool, Error> {
        self.join_until(within(timeout))
    }

    /// Returns the number of messages that were put and not yet processed.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::JoinableQueue::new()?;
    /// queue.put(1)?;
    /// queue.get()?;
    /// assert_eq!(queue.unfinished(), 1); // received, but not reported
    /// # Ok(())
    /// # }
    /// ```
    pub fn unfinished(&self) -> u64 {
        self.engine().unfinished()
    }

    fn join_until(&self, deadline: Deadline) -> Result<bool, Error> {
        loop {
            match self.engine().join(deadline) {
                Ok(0) => return Ok(true),
                Ok(messages) => return Err(Error::Unfinished { messages }),
                Err(WaitError::TimedOut) => return Ok(false),
                Err(WaitError::Interrupted) => {}
            }
        }
    }
}
