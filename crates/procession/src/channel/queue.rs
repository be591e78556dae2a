//! Queues that any number of processes put into and get from.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use procession_engine::{self as engine, Deadline, ObjectRef, channel};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::joinable::{NotJoinable, QueueKind};
use crate::error::{Error, GetError, PutError, within};
use crate::transfer::codec::{Codec, RustCodec};
use crate::transfer::shared::Shared;

/// A queue whose messages `C` encodes, and that can be joined if `K` is [`Joinable`](super::joinable::Joinable).
///
/// Programs use it as [`procession::Queue`](crate::Queue), as [`procession::JoinableQueue`](crate::JoinableQueue)
/// and, with the feature `python`, as `procession::python::Queue`, which say how a queue behaves.
pub struct Queue<T, C = RustCodec, K = NotJoinable> {
    inner: Shared<channel::Queue>,
    _items: PhantomData<fn(T) -> T>,
    _kind: PhantomData<fn() -> (C, K)>,
}

impl<T, C, K: QueueKind> Queue<T, C, K> {
    /// Creates an unbounded queue: putting never waits.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn new() -> Result<Queue<T, C, K>, Error> {
        Queue::create(0)
    }

    /// Creates a queue of at most `capacity` messages: putting waits for room.
    ///
    /// # Errors
    /// The same as for [`Queue::new`].
    ///
    /// # Panics
    /// Panics when `capacity` is zero.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::bounded(1)?;
    /// queue.put(1)?;
    /// assert!(queue.is_full());
    /// # Ok(())
    /// # }
    /// ```
    pub fn bounded(capacity: usize) -> Result<Queue<T, C, K>, Error> {
        assert!(capacity > 0, "a queue needs a capacity of at least one");
        Queue::create(capacity)
    }

    fn create(capacity: usize) -> Result<Queue<T, C, K>, Error> {
        Ok(Queue::over(Shared::new(K::create(capacity)?)))
    }
}

impl<T, C, K> Queue<T, C, K> {
    fn over(inner: Shared<channel::Queue>) -> Queue<T, C, K> {
        Queue {
            inner,
            _items: PhantomData,
            _kind: PhantomData,
        }
    }

    /// Returns the number of waiting messages.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// queue.put('a')?;
    /// queue.put('b')?;
    /// assert_eq!(queue.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::<u8>::bounded(3)?;
    /// assert_eq!(queue.capacity(), Some(3));
    /// assert_eq!(procession::Queue::<u8>::new()?.capacity(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        Some(self.inner.maxsize()).filter(|&bound| bound > 0)
    }

    /// Closes the queue for all processes. Putting fails from now on, and getting fails with
    /// [`GetError::Closed`] once the queue is empty.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// queue.put("last".to_owned())?;
    /// queue.close();
    /// assert_eq!(queue.get()?, "last");
    /// assert!(matches!(queue.get(), Err(procession::GetError::Closed)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.inner.close();
    }

    pub(crate) fn engine(&self) -> &Shared<channel::Queue> {
        &self.inner
    }
}

impl<T: Serialize, C: Codec, K> Queue<T, C, K> {
    /// Puts a message. A bounded queue that is full makes it wait for room.
    ///
    /// # Errors
    /// Returns an error when the queue is closed or the message cannot be serialised. The error returns the
    /// message.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// queue.put(vec![1, 2, 3])?;
    /// assert_eq!(queue.get()?, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn put(&self, message: T) -> Result<(), PutError<T>> {
        self.put_until(message, Deadline::NEVER)
    }

    /// Puts a message if there is room.
    ///
    /// # Errors
    /// The same as for [`put`](Queue::put), and [`PutError::Full`] when there is no room.
    ///
    /// # Examples
    /// ```
    /// use procession::{PutError, Queue};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = Queue::bounded(1)?;
    /// queue.try_put(1)?;
    /// assert!(matches!(queue.try_put(2), Err(PutError::Full(2))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_put(&self, message: T) -> Result<(), PutError<T>> {
        self.put_until(message, Deadline::NOW)
    }

    /// Puts a message, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`put`](Queue::put), and [`PutError::Full`] when there was no room in time.
    ///
    /// # Examples
    /// ```
    /// use procession::{PutError, Queue};
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = Queue::bounded(1)?;
    /// queue.put(1)?;
    /// let result = queue.put_timeout(2, Duration::from_millis(10));
    /// assert!(matches!(result, Err(PutError::Full(2))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn put_timeout(&self, message: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(message, within(timeout))
    }

    fn put_until(&self, message: T, deadline: Deadline) -> Result<(), PutError<T>> {
        if deadline == Deadline::NOW && self.inner.would_refuse() {
            return Err(PutError::Full(message));
        }
        put_encoded::<C, T>(message, |bytes, held| {
            self.inner.put_with(&[bytes], held, deadline)
        })
    }
}

impl<T: DeserializeOwned, C: Codec, K> Queue<T, C, K> {
    /// Gets the oldest message, waiting until there is one.
    ///
    /// # Errors
    /// Returns [`GetError::Closed`] when the queue is closed and empty, and [`GetError::Failed`] when the
    /// message does not decode as a `T`.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// queue.put(1)?;
    /// queue.put(2)?;
    /// assert_eq!(queue.get()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER)
    }

    /// Gets the oldest message if there is one.
    ///
    /// # Errors
    /// The same as for [`get`](Queue::get), and [`GetError::Empty`] when there is none.
    ///
    /// # Examples
    /// ```
    /// use procession::{GetError, Queue};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = Queue::<u32>::new()?;
    /// assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NOW)
    }

    /// Gets the oldest message, waiting for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`get`](Queue::get), and [`GetError::Empty`] when none arrived in time.
    ///
    /// # Examples
    /// ```
    /// use procession::{GetError, Queue};
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = Queue::<u32>::new()?;
    /// let result = queue.get_timeout(Duration::from_millis(10));
    /// assert!(matches!(result, Err(GetError::Empty)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(within(timeout))
    }

    /// Returns an iterator over the messages, which ends when the queue is closed and empty.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// for n in 1..=3 {
    ///     queue.put(n)?;
    /// }
    /// queue.close();
    /// let all: Result<Vec<i32>, _> = queue.iter().collect();
    /// assert_eq!(all?, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> Iter<'_, T, C, K> {
        Iter { queue: self }
    }

    fn get_until(&self, deadline: Deadline) -> Result<T, GetError> {
        get_decoded::<C, T>(|message| self.inner.get_into(message, deadline))
    }
}

/// Encodes a message and puts it with the objects it refers to. Retries after signals.
pub(crate) fn put_encoded<C: Codec, T: Serialize>(
    message: T,
    mut put: impl FnMut(&[u8], &[ObjectRef]) -> Result<(), engine::error::PutError>,
) -> Result<(), PutError<T>> {
    let put = |bytes: &[u8], held: &[ObjectRef]| put_retrying(|| put(bytes, held));
    match C::with_message(&message, put) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(refused(message, error)),
        Err(error) => Err(PutError::Failed(message, Box::new(error))),
    }
}

#[inline]
pub(crate) fn put_retrying(
    mut put: impl FnMut() -> Result<(), engine::error::PutError>,
) -> Result<(), engine::error::PutError> {
    loop {
        match put() {
            Err(engine::error::PutError::Interrupted) => {}
            done => return done,
        }
    }
}

/// Converts the engine's error, and returns the message in it.
pub(crate) fn refused<T>(message: T, error: engine::error::PutError) -> PutError<T> {
    match error {
        engine::error::PutError::Closed => PutError::Closed(message),
        engine::error::PutError::Failed(error) => PutError::Failed(message, Box::new(error.into())),
        engine::error::PutError::Full | engine::error::PutError::Interrupted => {
            PutError::Full(message)
        }
    }
}

/// Gets a message and decodes it. Retries after signals.
pub(crate) fn get_decoded<C: Codec, T: DeserializeOwned>(
    get: impl FnMut(&mut channel::Message) -> Result<(), engine::error::GetError>,
) -> Result<T, GetError> {
    let mut message = channel::Message::default();
    get_retrying(&mut message, get)?;
    Ok(C::decode(message.bytes())?)
}

#[inline]
pub(crate) fn get_retrying(
    message: &mut channel::Message,
    mut get: impl FnMut(&mut channel::Message) -> Result<(), engine::error::GetError>,
) -> Result<(), GetError> {
    loop {
        return match get(message) {
            Ok(()) => Ok(()),
            Err(engine::error::GetError::Interrupted) => continue,
            Err(engine::error::GetError::Empty) => Err(GetError::Empty),
            Err(engine::error::GetError::Closed) => Err(GetError::Closed),
            Err(engine::error::GetError::Failed(error)) => Err(GetError::Failed(error.into())),
        };
    }
}

impl<T, C, K> Clone for Queue<T, C, K> {
    fn clone(&self) -> Queue<T, C, K> {
        Queue::over(self.inner.clone())
    }
}

impl<T, C, K: QueueKind> fmt::Debug for Queue<T, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(K::NAME)
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl<T, C: Codec, K> Serialize for Queue<T, C, K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize_as(C::QUEUE, serializer)
    }
}

impl<'de, T, C: Codec, K> Deserialize<'de> for Queue<T, C, K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Queue<T, C, K>, D::Error> {
        Shared::deserialize_as(C::QUEUE, deserializer).map(Queue::over)
    }
}

/// An iterator over the messages of a [`Queue`](crate::Queue) or [`JoinableQueue`](crate::JoinableQueue).
pub struct Iter<'a, T, C = RustCodec, K = NotJoinable> {
    queue: &'a Queue<T, C, K>,
}

impl<T, C, K: QueueKind> fmt::Debug for Iter<'_, T, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("queue", self.queue).finish()
    }
}

impl<T: DeserializeOwned, C: Codec, K> Iterator for Iter<'_, T, C, K> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.queue.get() {
            Err(GetError::Closed) => None,
            got => Some(got),
        }
    }
}
