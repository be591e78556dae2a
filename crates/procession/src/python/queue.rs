//! Queues between Rust and Python processes.

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

/// Like [`procession::Queue`](crate::Queue), for messages of plain data that Python reads and writes too.
///
/// In Python it is a `procession.Queue`. Pass it as an argument to [`Process::spawn`](super::Process::spawn),
/// to an [exported](super::export!) function, or to processes of this program.
///
/// A message that does not decode as a `T` is an error for its receiver, and is removed; the queue continues.
/// That includes pickles, which Python sends for instances of classes.
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
    /// Creates an unbounded queue: putting never waits.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn new() -> Result<Queue<T>, Error> {
        Ok(Queue::over(Shared::new(channel::Queue::new(0)?)))
    }

    /// Creates a queue of at most `capacity` messages: putting waits for room.
    ///
    /// # Errors
    /// The same as for [`Queue::new`].
    ///
    /// # Panics
    /// Panics when `capacity` is zero.
    pub fn bounded(capacity: usize) -> Result<Queue<T>, Error> {
        assert!(capacity > 0, "a queue needs a capacity of at least one");
        Ok(Queue::over(Shared::new(channel::Queue::new(capacity)?)))
    }

    fn over(inner: Shared<channel::Queue>) -> Queue<T> {
        Queue {
            inner,
            _items: PhantomData,
        }
    }

    /// Returns the number of waiting messages.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Returns whether no message is waiting.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Returns whether putting would have to wait.
    pub fn is_full(&self) -> bool {
        self.inner.is_full()
    }

    /// Returns the bound, or `None` if the queue is unbounded.
    pub fn capacity(&self) -> Option<usize> {
        Some(self.inner.maxsize()).filter(|&bound| bound > 0)
    }

    /// Closes the queue for all processes. Putting fails from now on. Once the queue is empty, getting
    /// fails with [`GetError::Closed`], and with `EOFError` in Python.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts a message. A bounded queue that is full makes it wait for room.
    ///
    /// # Errors
    /// Returns an error when the queue is closed, or when the message cannot be expressed in Python. The
    /// error returns the message.
    pub fn put(&self, message: T) -> Result<(), PutError<T>> {
        self.put_until(message, Deadline::NEVER)
    }

    /// Puts a message if there is room.
    ///
    /// # Errors
    /// The same as for [`put`](Queue::put), and [`PutError::Full`] when there is no room.
    pub fn try_put(&self, message: T) -> Result<(), PutError<T>> {
        self.put_until(message, Deadline::NOW)
    }

    /// Puts a message, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`put`](Queue::put), and [`PutError::Full`] when there was no room in time.
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
    /// Gets the oldest message, waiting until there is one.
    ///
    /// # Errors
    /// Returns [`GetError::Closed`] when the queue is closed and empty, and [`GetError::Failed`] when the
    /// message does not decode as a `T`.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER)
    }

    /// Gets the oldest message if there is one.
    ///
    /// # Errors
    /// The same as for [`get`](Queue::get), and [`GetError::Empty`] when there is none.
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NOW)
    }

    /// Gets the oldest message, waiting for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`get`](Queue::get), and [`GetError::Empty`] when none arrived in time.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(within(timeout))
    }

    /// Returns an iterator over the messages, which ends when the queue is closed and empty.
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

/// An iterator over the messages of a [`Queue`].
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
