//! Waits for the first of several queues, pipes and processes.

use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::error::WaitError;
use procession_engine::select::{self as engine, Source};
use serde::de::DeserializeOwned;

use crate::channel::pipe::{Connection, Receiver, Sender};
use crate::channel::queue::Queue;
use crate::error::{GetError, within};
use crate::process::handle::Process;
use crate::transfer::codec::Codec;

/// An endpoint from which messages can be received.
///
/// The trait is sealed.
pub trait SelectRecv: sealed::Receive {}

/// An endpoint to which messages can be sent.
///
/// The trait is sealed.
pub trait SelectSend: sealed::Send {}

pub(crate) mod sealed {
    use super::{GetError, Source};

    pub trait Receive {
        fn recv_source(&self) -> Source<'_>;
    }

    pub trait Take: Receive {
        type Item;
        fn take(&self) -> Result<Self::Item, GetError>;
    }

    pub trait Send {
        fn send_source(&self) -> Source<'_>;
    }
}

/// Waits for the first of several events: a message, room for a message, the end of a process.
///
/// It receives nothing. [`ready`](Select::ready) returns the index, assigned when it was added, of an operation
/// that would return at once. Another process may be faster, so call [`try_get`](Queue::try_get),
/// [`try_recv`](Receiver::try_recv) or [`try_join`](Process::try_join), and wait again if that finds nothing.
/// The macro [`select!`](crate::select!) does this.
///
/// If several are ready, they take turns. A closed queue and a pipe at the end of its stream are ready.
///
/// # Examples
/// ```
/// use procession::{Queue, Select};
///
/// # fn main() -> procession::Result<()> {
/// let (numbers, words) = (Queue::<u64>::new()?, Queue::<String>::new()?);
/// let mut select = Select::new();
/// let from_numbers = select.recv(&numbers);
/// let from_words = select.recv(&words);
/// words.put("first".to_owned())?;
/// let ready = select.ready();
/// assert_ne!(ready, from_numbers);
/// assert_eq!(ready, from_words);
/// assert_eq!(words.try_get()?, "first");
/// assert_eq!(select.try_ready(), None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Select<'a> {
    sources: Vec<Source<'a>>,
    /// The index of each source.
    numbers: Vec<usize>,
    next: usize,
    inner: engine::Select,
}

impl<'a> Select<'a> {
    /// Creates an empty selection.
    pub fn new() -> Select<'a> {
        Select::default()
    }

    /// Adds a [`Queue`](crate::Queue), [`JoinableQueue`](crate::JoinableQueue), [`Receiver`] or [`Connection`] to
    /// receive from. Returns its index.
    pub fn recv(&mut self, from: &'a impl SelectRecv) -> usize {
        self.add(from.recv_source())
    }

    /// Adds a [`Queue`](crate::Queue), [`JoinableQueue`](crate::JoinableQueue), [`Sender`] or [`Connection`] to send
    /// a small message to. Returns its index.
    ///
    /// # Examples
    /// ```
    /// use procession::{Queue, Select};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = Queue::bounded(1)?;
    /// let mut select = Select::new();
    /// let room = select.send(&queue);
    /// assert_eq!(select.try_ready(), Some(room));
    /// queue.put(1)?;
    /// assert_eq!(select.try_ready(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn send(&mut self, to: &'a impl SelectSend) -> usize {
        self.add(to.send_source())
    }

    /// Adds a process, to learn of its end. Returns its index.
    pub fn join<R, C>(&mut self, process: &'a Process<R, C>) -> usize {
        self.add(process.exit_source())
    }

    fn add(&mut self, source: Source<'a>) -> usize {
        let number = self.next;
        self.next += 1;
        self.sources.push(source);
        self.numbers.push(number);
        number
    }

    /// Removes the operation with this index.
    ///
    /// # Panics
    /// Panics when there is no operation with this index.
    ///
    /// # Examples
    /// ```
    /// use procession::{Queue, Select};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (one, other) = (Queue::new()?, Queue::new()?);
    /// let mut select = Select::new();
    /// let (first, second) = (select.recv(&one), select.recv(&other));
    /// one.put(1)?;
    /// other.put(2)?;
    /// select.remove(first);
    /// assert_eq!(select.ready(), second);
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove(&mut self, number: usize) {
        let at = self.numbers.iter().position(|&known| known == number);
        let at = at.expect("an index of an operation that was added and not removed");
        self.sources.remove(at);
        self.numbers.remove(at);
    }

    /// Waits until an operation is ready, and returns its index.
    ///
    /// # Panics
    /// Panics when the selection is empty, because the call would wait for ever.
    pub fn ready(&mut self) -> usize {
        assert!(
            !self.sources.is_empty(),
            "there is nothing to select from: add something first"
        );
        self.ready_until(Deadline::NEVER)
            .expect("a wait without a deadline returns an operation")
    }

    /// Returns the index of a ready operation, or `None` if there is none.
    pub fn try_ready(&mut self) -> Option<usize> {
        self.ready_until(Deadline::NOW)
    }

    /// Like [`ready`](Select::ready), but waits for at most `timeout`, and returns `None` when the time is
    /// up.
    ///
    /// # Examples
    /// ```
    /// use procession::{Queue, Select};
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = Queue::<u32>::new()?;
    /// let mut select = Select::new();
    /// select.recv(&queue);
    /// assert_eq!(select.ready_timeout(Duration::from_millis(10)), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ready_timeout(&mut self, timeout: Duration) -> Option<usize> {
        self.ready_until(within(timeout))
    }

    fn ready_until(&self, deadline: Deadline) -> Option<usize> {
        loop {
            match self.inner.wait(&self.sources, deadline) {
                Ok(at) => return Some(self.numbers[at]),
                Err(WaitError::TimedOut) => return None,
                Err(WaitError::Interrupted) => {}
            }
        }
    }
}

impl<T, C, K> SelectRecv for Queue<T, C, K> {}

impl<T, C, K> sealed::Receive for Queue<T, C, K> {
    fn recv_source(&self) -> Source<'_> {
        Source::Message(self.engine())
    }
}

impl<T: DeserializeOwned, C: Codec, K> sealed::Take for Queue<T, C, K> {
    type Item = T;

    fn take(&self) -> Result<T, GetError> {
        self.try_get()
    }
}

impl<T, C, K> SelectSend for Queue<T, C, K> {}

impl<T, C, K> sealed::Send for Queue<T, C, K> {
    fn send_source(&self) -> Source<'_> {
        Source::Room(self.engine())
    }
}

impl<S, R> SelectRecv for Connection<S, R> {}

impl<S, R> sealed::Receive for Connection<S, R> {
    fn recv_source(&self) -> Source<'_> {
        Source::Arrival(self.engine())
    }
}

impl<S, R: DeserializeOwned> sealed::Take for Connection<S, R> {
    type Item = R;

    fn take(&self) -> Result<R, GetError> {
        self.try_recv()
    }
}

impl<S, R> SelectSend for Connection<S, R> {}

impl<S, R> sealed::Send for Connection<S, R> {
    fn send_source(&self) -> Source<'_> {
        Source::Departure(self.engine())
    }
}

impl<T> SelectRecv for Receiver<T> {}

impl<T> sealed::Receive for Receiver<T> {
    fn recv_source(&self) -> Source<'_> {
        Source::Arrival(self.engine())
    }
}

impl<T: DeserializeOwned> sealed::Take for Receiver<T> {
    type Item = T;

    fn take(&self) -> Result<T, GetError> {
        self.try_recv()
    }
}

impl<T> SelectSend for Sender<T> {}

impl<T> sealed::Send for Sender<T> {
    fn send_source(&self) -> Source<'_> {
        Source::Departure(self.engine())
    }
}

/// Waits for the first of several operations, and runs its arm.
///
/// Arms: `recv(from) -> got => ..`, with a [`Queue`](crate::Queue), [`JoinableQueue`](crate::JoinableQueue),
/// [`Receiver`] or [`Connection`] and the `Result` of receiving from it; `join(process) => ..`, run when the process
/// has ended; and, as the last arm, `default => ..` when nothing is ready or `default(timeout) => ..` when nothing
/// became ready in time. The macro's value is that of the arm.
///
/// # Examples
/// ```
/// use procession::{Process, Queue, select};
/// use std::time::Duration;
///
/// fn work(results: Queue<u64>) {
///     results.put(42).unwrap();
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let results = Queue::new()?;
///     let worker = Process::spawn(work, results.clone())?;
///     let result = select! {
///         recv(results) -> got => got?,
///         default(Duration::from_secs(60)) => panic!("it takes too long"),
///     };
///     assert_eq!(result, 42);
///     let ended = select! {
///         recv(results) -> got => got.is_err(),
///         join(worker) => true,
///     };
///     assert!(ended);
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! select {
    // Each arm needs variables of its own: the source, its index, and what was received.
    (@arms [$($arms:tt)*] recv($from:expr) -> $got:pat => $body:expr, $($rest:tt)*) => {
        $crate::select!(@arms [$($arms)* (source number taken recv [$from] [$got] [$body])] $($rest)*)
    };
    (@arms [$($arms:tt)*] recv($from:expr) -> $got:pat => $body:expr) => {
        $crate::select!(@arms [$($arms)* (source number taken recv [$from] [$got] [$body])])
    };
    (@arms [$($arms:tt)*] join($process:expr) => $body:expr, $($rest:tt)*) => {
        $crate::select!(@arms [$($arms)* (source number taken join [$process] [()] [$body])] $($rest)*)
    };
    (@arms [$($arms:tt)*] join($process:expr) => $body:expr) => {
        $crate::select!(@arms [$($arms)* (source number taken join [$process] [()] [$body])])
    };
    (@arms [$($arms:tt)*] default($timeout:expr) => $body:expr $(,)?) => {
        $crate::select!(@run [$($arms)*] [Some($timeout)] [$body])
    };
    (@arms [$($arms:tt)*] default => $body:expr $(,)?) => {
        $crate::select!(@run [$($arms)*] [Some(::std::time::Duration::ZERO)] [$body])
    };
    (@arms [$($arms:tt)*]) => {
        $crate::select!(@run [$($arms)*] [None] [unreachable!("one of the arms was ready")])
    };
    (
        @run
        [$(($source:ident $number:ident $taken:ident $kind:ident [$what:expr] [$got:pat] [$body:expr]))+]
        [$timeout:expr]
        [$default:expr]
    ) => {{
        $(
            let mut $taken = ::core::option::Option::None;
        )+
        {
            $(
                let $source = &$what;
            )+
            let timeout: ::core::option::Option<::std::time::Duration> = $timeout;
            // An unrepresentable deadline means waiting without one.
            let until =
                timeout.and_then(|timeout| ::std::time::Instant::now().checked_add(timeout));
            let mut select = $crate::Select::new();
            $(
                let $number = select.$kind($source);
            )+
            loop {
                let ready = match until {
                    ::core::option::Option::None => select.ready(),
                    ::core::option::Option::Some(until) => {
                        let left = until.saturating_duration_since(::std::time::Instant::now());
                        match select.ready_timeout(left) {
                            ::core::option::Option::Some(ready) => ready,
                            ::core::option::Option::None => break,
                        }
                    }
                };
                $(
                    if ready == $number {
                        $taken = $crate::select!(@take $kind $source);
                        if $taken.is_some() {
                            break;
                        }
                    }
                )+
            }
        }
        $(
            if let ::core::option::Option::Some(taken) = $taken {
                let $got = taken;
                $body
            } else
        )+
        {
            $default
        }
    }};
    (@take recv $source:ident) => {
        $crate::take_if_ready($source)
    };
    (@take join $source:ident) => {
        ::core::option::Option::Some(())
    };
    ($($arms:tt)+) => {
        $crate::select!(@arms [] $($arms)+)
    };
}

/// Implementation of [`select!`](crate::select!). Returns `None` when another process was faster.
#[doc(hidden)]
pub fn take_if_ready<S: sealed::Take>(from: &S) -> Option<Result<S::Item, GetError>> {
    match from.take() {
        Err(GetError::Empty) => None,
        taken => Some(taken),
    }
}
