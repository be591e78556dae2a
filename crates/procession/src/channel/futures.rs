//! Futures for the calls that wait.
//!
//! Each future tries its operation, and waits for a notification before it tries again. Messages are put or
//! received only while the future is polled, so a future dropped before it resolves has done nothing.

use std::sync::Arc;

use procession_engine::channel::{self, End};
use procession_engine::select::EventKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pipe::{Connection, Receiver, Sender};
use super::queue::Queue;
use crate::error::{Error, GetError, PutError};
use crate::reactor::{Interest, ready};
use crate::transfer::codec::Codec;
use crate::transfer::shared::Shared;

/// An endpoint through which messages are sent or received.
pub(crate) trait MessageEndpoint {
    fn event_key(&self) -> EventKey;
    fn room(&self, since: EventKey) -> Interest;
    fn message(&self) -> Interest;
}

impl MessageEndpoint for Shared<channel::Queue> {
    fn event_key(&self) -> EventKey {
        channel::Queue::event_key(self)
    }

    fn room(&self, since: EventKey) -> Interest {
        Interest::QueueRoom(self.clone(), since)
    }

    fn message(&self) -> Interest {
        Interest::QueueMessage(self.clone())
    }
}

impl MessageEndpoint for Arc<End> {
    fn event_key(&self) -> EventKey {
        End::event_key(self)
    }

    fn room(&self, since: EventKey) -> Interest {
        Interest::PipeRoom(Arc::clone(self), since)
    }

    fn message(&self) -> Interest {
        Interest::PipeMessage(Arc::clone(self))
    }
}

/// Tries to put a message until there is room.
pub(crate) async fn put<M>(
    endpoint: &impl MessageEndpoint,
    message: M,
    attempt: impl Fn(M) -> Result<(), PutError<M>>,
) -> Result<(), PutError<M>> {
    let mut message = message;
    loop {
        let key = endpoint.event_key();
        match attempt(message) {
            Err(PutError::Full(back)) => message = back,
            done => return done,
        }
        if let Err(error) = ready(endpoint.room(key)).await {
            return Err(PutError::Failed(message, Box::new(error.into())));
        }
    }
}

/// Tries to get a message until there is one.
pub(crate) async fn get<M>(
    endpoint: &impl MessageEndpoint,
    attempt: impl Fn() -> Result<M, GetError>,
) -> Result<M, GetError> {
    loop {
        match attempt() {
            Err(GetError::Empty) => ready(endpoint.message()).await.map_err(Error::from)?,
            done => return done,
        }
    }
}

impl<T: Serialize, C: Codec, K> Queue<T, C, K> {
    /// Like [`put`](Queue::put), as a future.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves puts nothing, and drops the message.
    ///
    /// # Errors
    /// The same as for [`put`](Queue::put).
    ///
    /// # Examples
    /// ```
    /// use procession::Queue;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> procession::Result<()> {
    /// let queue = Queue::bounded(1)?;
    /// queue.put_async("first".to_owned()).await?;
    /// assert_eq!(queue.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put_async(&self, message: T) -> Result<(), PutError<T>> {
        put(self.engine(), message, |message| self.try_put(message)).await
    }
}

impl<T: DeserializeOwned, C: Codec, K> Queue<T, C, K> {
    /// Like [`get`](Queue::get), as a future.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves receives nothing: the message stays in the queue.
    ///
    /// # Errors
    /// The same as for [`get`](Queue::get).
    ///
    /// # Examples
    /// ```
    /// use procession::{Process, Queue};
    ///
    /// fn produce(queue: Queue<u64>) {
    ///     queue.put(42).unwrap();
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init(); // before there is a runtime: children need none
    ///     run()
    /// }
    ///
    /// #[tokio::main]
    /// async fn run() -> procession::Result<()> {
    ///     let queue = Queue::new()?;
    ///     let producer = Process::spawn(produce, queue.clone())?;
    ///     assert_eq!(queue.get_async().await?, 42);
    ///     producer.await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn get_async(&self) -> Result<T, GetError> {
        get(self.engine(), || self.try_get()).await
    }
}

impl<S: Serialize, R> Connection<S, R> {
    /// Like [`send`](Connection::send), as a future.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves sends nothing, and drops the message.
    ///
    /// # Errors
    /// The same as for [`send`](Connection::send).
    pub async fn send_async(&self, message: S) -> Result<(), PutError<S>> {
        put(self.engine(), message, |message| self.try_send(message)).await
    }
}

impl<S, R: DeserializeOwned> Connection<S, R> {
    /// Like [`recv`](Connection::recv), as a future.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves receives nothing: the message stays in the pipe.
    ///
    /// # Errors
    /// The same as for [`recv`](Connection::recv).
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> procession::Result<()> {
    /// let (ours, theirs) = procession::pipe::<u32, u32>()?;
    /// ours.send_async(1).await?;
    /// assert_eq!(theirs.recv_async().await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv_async(&self) -> Result<R, GetError> {
        get(self.engine(), || self.try_recv()).await
    }
}

impl<T: Serialize> Sender<T> {
    /// See [`Connection::send_async`].
    ///
    /// # Errors
    /// The same as for [`Connection::send`].
    pub async fn send_async(&self, message: T) -> Result<(), PutError<T>> {
        self.connection().send_async(message).await
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// See [`Connection::recv_async`].
    ///
    /// # Errors
    /// The same as for [`Connection::recv`].
    pub async fn recv_async(&self) -> Result<T, GetError> {
        self.connection().recv_async().await
    }
}
