//! Pipes: two ends, each in one or more processes.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use procession_engine::Opened;
use procession_engine::channel::{self, End};
use procession_engine::error::WaitError;
use procession_engine::process::child;
use procession_engine::{self as engine, Deadline, Handle};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::channel::queue::{get_decoded, put_encoded};
use crate::error::{Error, GetError, PutError, within};
use crate::transfer::codec::RustCodec;
use crate::transfer::context;

/// Creates a pipe whose ends both send and receive: one end sends `A` and receives `B`, the other sends `B` and
/// receives `A`.
///
/// The bytes in transit are bounded: sending waits while the other side does not receive.
///
/// # Errors
/// Returns an error when there is no shared memory or no descriptor left.
///
/// # Examples
/// ```
/// use procession::{Connection, Process};
///
/// fn measure(requests: Connection<usize, String>) {
///     while let Ok(word) = requests.recv() {
///         requests.send(word.len()).unwrap();
///     }
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let (ours, theirs) = procession::pipe::<String, usize>()?;
///     let process = Process::spawn(measure, theirs)?;
///     ours.send("procession".to_owned())?;
///     assert_eq!(ours.recv()?, 10);
///     drop(ours); // the other end sees the end of the stream
///     process.join()?;
///     Ok(())
/// }
/// ```
#[expect(
    clippy::type_complexity,
    reason = "an alias for the pair would hide the types"
)]
pub fn pipe<A, B>() -> Result<(Connection<A, B>, Connection<B, A>), Error> {
    let (one, other) = channel::pipe(true)?;
    Ok((Connection::new(one), Connection::new(other)))
}

/// Creates a pipe with a sending end and a receiving end.
///
/// # Errors
/// The same as for [`pipe`].
///
/// # Examples
/// ```
/// use procession::{Process, Sender};
///
/// fn send(sender: Sender<String>) {
///     sender.send("Hello from sender!".to_owned()).unwrap();
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let (sender, receiver) = procession::channel()?;
///     let process = Process::spawn(send, sender)?;
///     assert_eq!(receiver.recv()?, "Hello from sender!");
///     process.join()?;
///     Ok(())
/// }
/// ```
pub fn channel<T>() -> Result<(Sender<T>, Receiver<T>), Error> {
    let (receiver, sender) = channel::pipe(false)?;
    let (receiver, sender) = if receiver.is_readable() {
        (receiver, sender)
    } else {
        (sender, receiver)
    };
    Ok((
        Sender(Connection::new(sender)),
        Receiver(Connection::new(receiver)),
    ))
}

/// An end of a pipe that sends `S` and receives `R`.
///
/// Clones refer to the same end, and a process that gets one as an argument shares it. Several holders may
/// send, and several may receive; each message is received once. The other side sees the end of the stream when
/// every holder of this end has dropped it or ended.
///
/// # Examples
/// ```
/// # fn main() -> procession::Result<()> {
/// let (client, server) = procession::pipe::<u32, String>()?;
/// client.send(7)?;
/// server.send(format!("got {}", server.recv()?))?;
/// assert_eq!(client.recv()?, "got 7");
/// # Ok(())
/// # }
/// ```
pub struct Connection<S, R> {
    end: Arc<End>,
    _messages: PhantomData<fn(S) -> R>,
}

impl<S, R> Connection<S, R> {
    fn new(end: End) -> Connection<S, R> {
        Connection {
            end: Arc::new(end),
            _messages: PhantomData,
        }
    }

    /// # Panics
    /// Panics in a forked process that does not hold the pipe: see [`Opened::check`].
    pub(crate) fn engine(&self) -> &Arc<End> {
        if let Err(error) = self.end.check() {
            panic!("{error}");
        }
        &self.end
    }

    fn copy_for_child(&self) -> Result<OwnedFd, Error> {
        let copy = self.engine().socket()?.try_clone_to_owned();
        copy.map_err(|source| {
            engine::Error::Os {
                what: "duplicate the descriptor of a pipe",
                source,
            }
            .into()
        })
    }

    /// Returns whether [`recv`](Connection::recv) would return at once, with a message or because the other
    /// side is gone.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (sender, receiver) = procession::channel()?;
    /// assert!(!receiver.poll());
    /// sender.send(1)?;
    /// assert!(receiver.poll());
    /// # drop(sender);
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll(&self) -> bool {
        self.poll_until(Deadline::NOW)
    }

    /// Like [`poll`](Connection::poll), but waits for at most `timeout`.
    pub fn poll_timeout(&self, timeout: Duration) -> bool {
        self.poll_until(within(timeout))
    }

    /// Returns a descriptor for event loops. It is readable exactly when a message or the end of the stream
    /// is there, in every process that has this end.
    ///
    /// Only wait on it; do not read from it. After the first call, a message that arrives at an empty pipe
    /// costs system calls.
    ///
    /// # Errors
    /// Returns an error when there is no descriptor left.
    pub fn fileno(&self) -> Result<RawFd, Error> {
        Ok(self.end.fileno())
    }

    fn poll_until(&self, deadline: Deadline) -> bool {
        loop {
            match self.engine().poll(deadline) {
                Ok(ready) => return ready,
                Err(WaitError::TimedOut) => return false,
                Err(WaitError::Interrupted) => {}
            }
        }
    }
}

impl<S: Serialize, R> Connection<S, R> {
    /// Sends a message, waiting while too many bytes are in transit.
    ///
    /// # Errors
    /// Returns an error when no process can receive it, or when it cannot be serialised. The error returns
    /// the message.
    pub fn send(&self, message: S) -> Result<(), PutError<S>> {
        self.send_until(message, Deadline::NEVER)
    }

    /// Sends a message, waiting for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`send`](Connection::send), and [`PutError::Full`] when the time is up.
    pub fn send_timeout(&self, message: S, timeout: Duration) -> Result<(), PutError<S>> {
        self.send_until(message, within(timeout))
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// The same as for [`send`](Connection::send), and [`PutError::Full`] when there is none.
    ///
    /// # Examples
    /// ```
    /// use procession::PutError;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (sender, receiver) = procession::channel()?;
    /// drop(receiver);
    /// assert!(matches!(sender.try_send(1), Err(PutError::Closed(1))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_send(&self, message: S) -> Result<(), PutError<S>> {
        self.send_until(message, Deadline::NOW)
    }

    fn send_until(&self, message: S, deadline: Deadline) -> Result<(), PutError<S>> {
        put_encoded::<RustCodec, S>(message, |bytes, held| {
            self.engine().send_with(&[bytes], held, deadline)
        })
    }
}

impl<S, R: DeserializeOwned> Connection<S, R> {
    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// Returns [`GetError::Closed`] when everything was received and the other side is gone;
    /// [`GetError::Failed`] when the message does not decode as an `R`.
    pub fn recv(&self) -> Result<R, GetError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives the next message, waiting for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`recv`](Connection::recv), and [`GetError::Empty`] when none arrived in time.
    ///
    /// # Examples
    /// ```
    /// use procession::GetError;
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (_sender, receiver) = procession::channel::<u32>()?;
    /// let result = receiver.recv_timeout(Duration::from_millis(10));
    /// assert!(matches!(result, Err(GetError::Empty)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<R, GetError> {
        self.recv_until(within(timeout))
    }

    /// Receives the next message if there is one.
    ///
    /// # Errors
    /// The same as for [`recv`](Connection::recv), and [`GetError::Empty`] when there is none.
    ///
    /// # Examples
    /// ```
    /// use procession::GetError;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (sender, receiver) = procession::channel::<u32>()?;
    /// assert!(matches!(receiver.try_recv(), Err(GetError::Empty)));
    /// drop(sender);
    /// assert!(matches!(receiver.try_recv(), Err(GetError::Closed)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_recv(&self) -> Result<R, GetError> {
        self.recv_until(Deadline::NOW)
    }

    /// Returns an iterator over the messages, which ends when the other side is gone.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (client, server) = procession::pipe::<u32, ()>()?;
    /// client.send(1)?;
    /// client.send(2)?;
    /// drop(client);
    /// let all: Result<Vec<u32>, _> = server.iter().collect();
    /// assert_eq!(all?, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Result<R, GetError>> {
        std::iter::from_fn(|| match self.recv() {
            Err(GetError::Closed) => None,
            received => Some(received),
        })
    }

    fn recv_until(&self, deadline: Deadline) -> Result<R, GetError> {
        get_decoded::<RustCodec, R>(|message| self.engine().recv_into(message, deadline))
    }
}

impl<S, R> Clone for Connection<S, R> {
    fn clone(&self) -> Connection<S, R> {
        Connection {
            end: Arc::clone(self.engine()),
            _messages: PhantomData,
        }
    }
}

impl<S, R> fmt::Debug for Connection<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("handle", &self.end.handle())
            .finish_non_exhaustive()
    }
}

impl<S, R> Serialize for Connection<S, R> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let attach = || {
            let handle = self.engine().handle();
            context::attach_to_child(&handle, "Connection")?;
            let number = context::attach_fd(self.copy_for_child()?);
            Ok((handle.to_bytes(), number))
        };
        let parts = attach().map_err(context::fail_ser)?;
        serializer.serialize_newtype_struct("procession::Connection", &parts)
    }
}

impl<'de, S, R> Deserialize<'de> for Connection<S, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (bytes, number) = <([u8; 32], RawFd)>::deserialize(deserializer)?;
        let open = || {
            let fd = child::inherited(number).ok_or(Error::EndNotInherited)?;
            Ok(Connection::new(End::open(
                &Handle::from_bytes(&bytes)?,
                fd,
            )?))
        };
        open().map_err(context::fail_de)
    }
}

/// The sending end of [`channel()`]. Clones refer to the same end.
///
/// # Examples
/// ```
/// # fn main() -> procession::Result<()> {
/// let (sender, receiver) = procession::channel()?;
/// let second = sender.clone();
/// sender.send(1)?;
/// second.send(2)?;
/// assert_eq!([receiver.recv()?, receiver.recv()?], [1, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent, bound = "")]
pub struct Sender<T>(Connection<T, ()>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender(self.0.clone())
    }
}

impl<T> Sender<T> {
    pub(crate) fn connection(&self) -> &Connection<T, ()> {
        &self.0
    }

    pub(crate) fn engine(&self) -> &Arc<End> {
        self.0.engine()
    }
}

impl<T: Serialize> Sender<T> {
    /// See [`Connection::send`].
    ///
    /// # Errors
    /// The same as for [`Connection::send`].
    pub fn send(&self, message: T) -> Result<(), PutError<T>> {
        self.0.send(message)
    }

    /// See [`Connection::send_timeout`].
    ///
    /// # Errors
    /// The same as for [`Connection::send_timeout`].
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.0.send_timeout(message, timeout)
    }

    /// See [`Connection::try_send`].
    ///
    /// # Errors
    /// The same as for [`Connection::try_send`].
    pub fn try_send(&self, message: T) -> Result<(), PutError<T>> {
        self.0.try_send(message)
    }
}

/// The receiving end of [`channel()`]. Clones refer to the same end.
///
/// # Examples
/// ```
/// # fn main() -> procession::Result<()> {
/// let (sender, receiver) = procession::channel()?;
/// (1..=3).try_for_each(|n| sender.send(n))?;
/// drop(sender);
/// let all: Result<Vec<u32>, _> = receiver.iter().collect();
/// assert_eq!(all?, [1, 2, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent, bound = "")]
pub struct Receiver<T>(Connection<(), T>);

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver(self.0.clone())
    }
}

impl<T> Receiver<T> {
    pub(crate) fn connection(&self) -> &Connection<(), T> {
        &self.0
    }

    pub(crate) fn engine(&self) -> &Arc<End> {
        self.0.engine()
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// See [`Connection::recv`].
    ///
    /// # Errors
    /// The same as for [`Connection::recv`].
    pub fn recv(&self) -> Result<T, GetError> {
        self.0.recv()
    }

    /// See [`Connection::recv_timeout`].
    ///
    /// # Errors
    /// The same as for [`Connection::recv_timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.0.recv_timeout(timeout)
    }

    /// See [`Connection::try_recv`].
    ///
    /// # Errors
    /// The same as for [`Connection::try_recv`].
    pub fn try_recv(&self) -> Result<T, GetError> {
        self.0.try_recv()
    }

    /// See [`Connection::iter`].
    pub fn iter(&self) -> impl Iterator<Item = Result<T, GetError>> {
        self.0.iter()
    }

    /// See [`Connection::poll`].
    pub fn poll(&self) -> bool {
        self.0.poll()
    }

    /// See [`Connection::poll_timeout`].
    pub fn poll_timeout(&self, timeout: Duration) -> bool {
        self.0.poll_timeout(timeout)
    }

    /// See [`Connection::fileno`].
    ///
    /// # Errors
    /// The same as for [`Connection::fileno`].
    pub fn fileno(&self) -> Result<RawFd, Error> {
        self.0.fileno()
    }
}
