//! A queue that one can wait for until all that was put is done.

use std::time::Duration;

use procession_engine::error::WaitError;
use procession_engine::{Deadline, channel};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::channel::queue::{Iter, Queue};
use crate::error::{Error, GetError, PutError, TooMany, within};
use crate::transfer::shared::Shared;

/// A [`Queue`] whose consumers say when they are done with a message.
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
    /// A queue without a bound.
    ///
    /// # Errors
    /// As for [`Queue::new`].
    pub fn new() -> Result<JoinableQueue<T>, Error> {
        Ok(JoinableQueue {
            queue: Queue::over(channel::Queue::joinable(0)?),
        })
    }

    /// A queue of at most `capacity` messages.
    ///
    /// # Errors
    /// As for [`Queue::new`].
    ///
    /// # Panics
    /// When `capacity` is zero.
    pub fn bounded(capacity: usize) -> Result<JoinableQueue<T>, Error> {
        assert!(capacity > 0, "a queue without room could never be put into");
        Ok(JoinableQueue {
            queue: Queue::over(channel::Queue::joinable(capacity)?),
        })
    }

    pub(crate) fn queue(&self) -> &Queue<T> {
        &self.queue
    }

    /// Says that one of the messages got is done with.
    ///
    /// # Errors
    /// When it was said for every message that was ever put.
    pub fn task_done(&self) -> Result<(), TooMany> {
        self.queue.engine().task_done().map_err(|_| TooMany)
    }

    /// Waits until all messages that were put are done with.
    ///
    /// # Errors
    /// [`Error::Unfinished`] when the only ones left were got by processes that are gone;
    /// [`task_done`](JoinableQueue::task_done) still says it of those, for whoever deals with them.
    pub fn join(&self) -> Result<(), Error> {
        self.join_until(Deadline::NEVER).map(drop)
    }

    /// As [`join`](JoinableQueue::join), but waits no longer than `timeout`; says whether all is
    /// done.
    ///
    /// # Errors
    /// As for [`join`](JoinableQueue::join).
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

    /// How many messages that were put are not done with.
    pub fn unfinished(&self) -> u64 {
        self.queue.engine().unfinished()
    }

    pub(crate) fn engine(&self) -> &Shared<channel::Queue> {
        self.queue.engine()
    }

    /// How many messages are waiting.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no message is waiting.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether putting would wait.
    pub fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// How many messages fit, if there is a bound.
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
    /// As for [`Queue::put`].
    pub fn put(&self, message: T) -> Result<(), PutError<T>> {
        self.queue.put(message)
    }

    /// See [`Queue::try_put`].
    ///
    /// # Errors
    /// As for [`Queue::try_put`].
    pub fn try_put(&self, message: T) -> Result<(), PutError<T>> {
        self.queue.try_put(message)
    }

    /// See [`Queue::put_timeout`].
    ///
    /// # Errors
    /// As for [`Queue::put_timeout`].
    pub fn put_timeout(&self, message: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.queue.put_timeout(message, timeout)
    }
}

impl<T: DeserializeOwned> JoinableQueue<T> {
    /// See [`Queue::get`].
    ///
    /// # Errors
    /// As for [`Queue::get`].
    pub fn get(&self) -> Result<T, GetError> {
        self.queue.get()
    }

    /// See [`Queue::try_get`].
    ///
    /// # Errors
    /// As for [`Queue::try_get`].
    pub fn try_get(&self) -> Result<T, GetError> {
        self.queue.try_get()
    }

    /// See [`Queue::get_timeout`].
    ///
    /// # Errors
    /// As for [`Queue::get_timeout`].
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
