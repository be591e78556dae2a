//! A queue whose producers can wait until all messages are processed.

use std::time::Duration;

use procession_engine::error::WaitError;
use procession_engine::{Deadline, channel};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::channel::queue::{Iter, Queue};
use crate::error::{Error, GetError, PutError, TooMany, within};
use crate::transfer::shared::Shared;

/// A [`Queue`] whose consumers report when they have processed a message.
///
/// # Examples
/// ```
/// use procession::{JoinableQueue, Process};
///
/// fn consume(queue: JoinableQueue<u32>) {
///     for message in queue.iter() {
///         println!("{}", message.unwrap());
///         queue.task_done().unwrap();
///     }
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let queue = JoinableQueue::new()?;
///     let consumer = Process::spawn(consume, queue.clone())?;
///     queue.put(1)?;
///     queue.put(2)?;
///     queue.join()?;
///     assert_eq!(queue.unfinished(), 0);
///     queue.close();
///     consumer.join()?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct JoinableQueue<T> {
    queue: Queue<T>,
}

impl<T> JoinableQueue<T> {
    /// Creates an unbounded queue.
    ///
    /// # Errors
    /// The same as for [`Queue::new`].
    pub fn new() -> Result<JoinableQueue<T>, Error> {
        Ok(JoinableQueue {
            queue: Queue::over(channel::Queue::joinable(0)?),
        })
    }

    /// Creates a queue of at most `capacity` messages.
    ///
    /// # Errors
    /// The same as for [`Queue::new`].
    ///
    /// # Panics
    /// Panics when `capacity` is zero.
    pub fn bounded(capacity: usize) -> Result<JoinableQueue<T>, Error> {
        assert!(capacity > 0, "a queue needs a capacity of at least one");
        Ok(JoinableQueue {
            queue: Queue::over(channel::Queue::joinable(capacity)?),
        })
    }

    pub(crate) fn queue(&self) -> &Queue<T> {
        &self.queue
    }

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
        self.queue.engine().task_done().map_err(|_| TooMany)
    }

    /// Waits until all messages that were put have been processed.
    ///
    /// # Errors
    /// Returns [`Error::Unfinished`] when all unprocessed messages were received by processes that are
    /// gone. After handling them, call [`task_done`](JoinableQueue::task_done) for each.
    pub fn join(&self) -> Result<(), Error> {
        self.join_until(Deadline::NEVER).map(drop)
    }

    /// Like [`join`](JoinableQueue::join), but waits for at most `timeout`. Returns whether all messages
    /// have been processed.
    ///
    /// # Errors
    /// The same as for [`join`](JoinableQueue::join).
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

    fn join_until(&self, deadline: Deadline) -> Result<bool, Error> {
        loop {
            match self.queue.engine().join(deadline) {
                Ok(0) => return Ok(true),
                Ok(messages) => return Err(Error::Unfinished { messages }),
                Err(WaitError::TimedOut) => return Ok(false),
                Err(WaitError::Interrupted) => {}
            }
        }
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
        self.queue.engine().unfinished()
    }

    pub(crate) fn engine(&self) -> &Shared<channel::Queue> {
        self.queue.engine()
    }

    /// Returns the number of waiting messages.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns whether no message is waiting.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns whether putting would have to wait.
    pub fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Returns the bound, or `None` if the queue is unbounded.
    pub fn capacity(&self) -> Option<usize> {
        self.queue.capacity()
    }

    /// See [`Queue::close`].
    pub fn close(&self) {
        self.queue.close();
    }
}

impl<T: Serialize> JoinableQueue<T> {
    /// See [`Queue::put`].
    ///
    /// # Errors
    /// The same as for [`Queue::put`].
    pub fn put(&self, message: T) -> Result<(), PutError<T>> {
        self.queue.put(message)
    }

    /// See [`Queue::try_put`].
    ///
    /// # Errors
    /// The same as for [`Queue::try_put`].
    pub fn try_put(&self, message: T) -> Result<(), PutError<T>> {
        self.queue.try_put(message)
    }

    /// See [`Queue::put_timeout`].
    ///
    /// # Errors
    /// The same as for [`Queue::put_timeout`].
    pub fn put_timeout(&self, message: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.queue.put_timeout(message, timeout)
    }
}

impl<T: DeserializeOwned> JoinableQueue<T> {
    /// See [`Queue::get`].
    ///
    /// # Errors
    /// The same as for [`Queue::get`].
    pub fn get(&self) -> Result<T, GetError> {
        self.queue.get()
    }

    /// See [`Queue::try_get`].
    ///
    /// # Errors
    /// The same as for [`Queue::try_get`].
    pub fn try_get(&self) -> Result<T, GetError> {
        self.queue.try_get()
    }

    /// See [`Queue::get_timeout`].
    ///
    /// # Errors
    /// The same as for [`Queue::get_timeout`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.queue.get_timeout(timeout)
    }

    /// See [`Queue::iter`].
    pub fn iter(&self) -> Iter<'_, T> {
        self.queue.iter()
    }
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> JoinableQueue<T> {
        JoinableQueue {
            queue: self.queue.clone(),
        }
    }
}
