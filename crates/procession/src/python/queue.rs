//! A queue that Rust and Python processes put into and get from.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use procession_engine::{Deadline, channel};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::wire;
use crate::channel::queue::{get_retrying, put_retrying, refused};
use crate::error::{Error, GetError, PutError, within};
use crate::transfer::shared::Shared;

/// As [`procession::Queue`](crate::Queue), for messages of plain data that Python reads and writes too.
///
/// In Python it is a `procession.Queue`. It is an argument of what [`Process::spawn`](super::Process::spawn)
/// starts, or of an [exported](super::export!) function; and of processes of this program.
///
/// A message that is no `T` is an error for who gets it, and gone from the queue; the queue goes on. What
/// Python puts there as a pickle, such as an instance of a class, is such a message.
///
/// # Examples
/// ```no_run
/// use procession::python;
///
/// # fn main() -> procession::Result<()> {
/// let results: python::Queue<Vec<f64>> = python::Queue::new()?;
/// let worker = python::Process::<()>::spawn("worker", "main", (results.clone(),))?;
/// println!("{:?}", results.get()?);
/// worker.join()?;
/// # Ok(())
/// # }
/// ```
pub struct Queue<T> {
    inner: Shared<channel::Queue>,
    _items: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// A queue without a bound: putting never waits.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn new() -> Result<Queue<T>, Error> {
        Ok(Queue::over(Shared::new(channel::Queue::new(0)?)))
    }

    /// A queue of at most `capacity` messages: putting waits for room.
    ///
    /// # Errors
    /// As for [`Queue::new`].
    ///
    /// # Panics
    /// When `capacity` is zero.
    pub fn bounded(capacity: usize) -> Result<Queue<T>, Error> {
        assert!(capacity > 0, "a queue without room could never be put into");
        Ok(Queue::over(Shared::new(channel::Queue::new(capacity)?)))
    }

    fn over(inner: Shared<channel::Queue>) -> Queue<T> {
        Queue {
            inner,
            _items: PhantomData,
        }
    }

    /// How many messages are waiting.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether no message is waiting.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Whether putting would wait.
    pub fn is_full(&self) -> bool {
        self.inner.is_full()
    }

    /// How many messages fit, if there is a bound.
    pub fn capacity(&self) -> Option<usize> {
        Some(self.inner.maxsize()).filter(|&bound| bound > 0)
    }

    /// Closes the queue for everybody: nothing can be put any more, and once the messages in it are gone,
    /// getting is [`GetError::Closed`], and `EOFError` in Python.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts a message, waiting for room if there is a bound.
    ///
    /// # Errors
    /// When the queue is closed, or the message is nothing that Python has; gives it back.
    pub fn put(&self, message: T) -> Result<(), PutError<T>> {
        self.put_until(message, Deadline::NEVER)
    }

    /// Puts a message if there is room.
    ///
    /// # Errors
    /// As for [`put`](Queue::put); and [`PutError::Full`] when there is no room.
    pub fn try_put(&self, message: T) -> Result<(), PutError<T>> {
        self.put_until(message, Deadline::NOW)
    }

    /// Puts a message, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`put`](Queue::put); and [`PutError::Full`] when there was no room in time.
    pub fn put_timeout(&self, message: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(message, within(timeout))
    }

    fn put_until(&self, message: T, deadline: Deadline) -> Result<(), PutError<T>> {
        if deadline == Deadline::NOW && self.inner.would_refuse() {
            return Err(PutError::Full(message));
        }
        let bytes = match wire::encode(&message) {
            Ok(bytes) => bytes,
            Err(error) => return Err(PutError::Failed(message, Box::new(error))),
        };
        put_retrying(|| self.inner.put(&[&bytes], deadline))
            .map_err(|error| refused(message, error))
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Gets the oldest message, waiting for one.
    ///
    /// # Errors
    /// [`GetError::Closed`] when the queue is closed and empty; [`GetError::Failed`] when the message is no
    /// `T`.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER)
    }

    /// Gets the oldest message, if there is one.
    ///
    /// # Errors
    /// As for [`get`](Queue::get); and [`GetError::Empty`] when there is none.
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NOW)
    }

    /// Gets the oldest message, waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`get`](Queue::get); and [`GetError::Empty`] when none came in time.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(within(timeout))
    }

    /// The messages, as they come, until the queue is closed and empty.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self }
    }

    fn get_until(&self, deadline: Deadline) -> Result<T, GetError> {
        let mut message = channel::Message::default();
        get_retrying(&mut message, |message| {
            self.inner.get_into(message, deadline)
        })?;
        Ok(wire::decode(message.bytes())?)
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue::over(self.inner.clone())
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize_as(wire::QUEUE, serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Queue<T>, D::Error> {
        Shared::deserialize_as(wire::QUEUE, deserializer).map(Queue::over)
    }
}

/// The messages of a [`Queue`], as they come.
#[derive(Debug)]
pub struct Iter<'a, T> {
    queue: &'a Queue<T>,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.queue.get() {
            Err(GetError::Closed) => None,
            got => Some(got),
        }
    }
}
