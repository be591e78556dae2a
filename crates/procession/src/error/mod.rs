//! The errors of this crate, one small type for each kind of call.

use std::fmt;
use std::time::Duration;

use procession_engine as engine;
use procession_engine::process::child::Exit;

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of creating objects and starting processes. All other errors of this crate convert into it with
/// `?`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine or the operating system reported an error.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// Children would not find their entry point in this program.
    #[error(
        "no process can be started yet: call procession::init() first thing in main(), \
         or put procession::test_support!() beside the tests"
    )]
    NotInitialised,
    /// The function to run in another process is not a plain function.
    #[error(transparent)]
    NotPlain(#[from] engine::process::child::NotPlain),
    /// A value could not be serialised.
    #[error("cannot send a {kind}: {reason}")]
    Encode {
        /// The type of the value.
        kind: &'static str,
        /// The serialiser's reason.
        reason: String,
    },
    /// The Python interpreter could not be started.
    #[cfg(feature = "python")]
    #[error(
        "cannot start the Python interpreter {}: {source}; name another one with python::Builder::interpreter",
        interpreter.display()
    )]
    NoInterpreter {
        /// The path of the interpreter.
        interpreter: std::path::PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A value could not be deserialised.
    #[error("cannot read a {kind}: {reason}")]
    Decode {
        /// The type of the value.
        kind: &'static str,
        /// The deserialiser's reason.
        reason: String,
    },
    /// A received [`Loan`](crate::Loan) is not a whole number of items. The error returns its bytes.
    #[error("cannot read a {kind}: {} bytes are no whole number of items", bytes.len())]
    Misfit {
        /// The type that was expected.
        kind: &'static str,
        /// The received bytes.
        bytes: Box<crate::Received<u8>>,
    },
    /// An object was serialised where objects cannot be sent.
    #[error(
        "a {0} cannot travel this way: pass it as an argument to Process::spawn or to the initializer of \
         a pool, or, unless it is the end of a pipe, in a message of a queue or pipe"
    )]
    NotSpawning(&'static str),
    /// Some messages of a [`JoinableQueue`](crate::JoinableQueue) will never be reported as processed,
    /// because their consumers are gone.
    #[error(
        "{messages} messages of a queue were got by processes that are gone, and never reported done"
    )]
    Unfinished {
        /// The number of such messages.
        messages: u64,
    },
    /// The end of a pipe was opened twice, or by a process that did not inherit it.
    #[error("this end of a pipe did not come with the process that opens it")]
    EndNotInherited,
    /// See [`JoinError`].
    #[error(transparent)]
    Join(#[from] JoinError),
    /// See [`TaskError`].
    #[error(transparent)]
    Task(#[from] TaskError),
    /// See [`LockError`].
    #[error(transparent)]
    Lock(#[from] LockError),
    /// See [`GetError`].
    #[error(transparent)]
    Get(Box<GetError>),
    /// See [`PutError::Full`].
    #[error("no room before the time was up")]
    Full,
    /// See [`PutError::Closed`].
    #[error("closed: nobody can receive any more")]
    Closed,
    /// See [`BarrierError`].
    #[error(transparent)]
    Barrier(#[from] BarrierError),
    /// See [`TooMany`].
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The pool takes no more work.
    #[error("the pool is closed")]
    PoolClosed,
}

impl Error {
    /// Returns whether there was no shared memory left, or a limit was reached. Free some memory or raise
    /// the limit; see [`set_memory_limit`](crate::set_memory_limit).
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::Engine(engine::Error::OutOfMemory { .. }))
    }
}

/// Why a process returned no result.
///
/// # Examples
/// ```
/// use procession::{JoinError, Process};
///
/// fn leave() {
///     std::process::exit(3);
/// }
///
/// # fn main() -> procession::Result<()> {
/// # procession::init();
/// match Process::spawn(leave, ())?.join() {
///     Err(JoinError::Exited { code, .. }) => assert_eq!(code, 3),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Its function panicked.
    #[error(transparent)]
    Panicked(#[from] Panic),
    /// Its Python function raised an exception.
    #[cfg(feature = "python")]
    #[error(transparent)]
    Raised(#[from] crate::python::Exception),
    /// A signal ended it.
    #[error(
        "process {pid} was killed by signal {signal} ({}){}",
        signal_name(*signal),
        signal_hint(*signal)
    )]
    Killed {
        /// Its process id.
        pid: u32,
        /// The signal's number.
        signal: i32,
        /// Whether it left a core file.
        core_dumped: bool,
    },
    /// It exited before its function returned.
    #[error("process {pid} exited with code {code} before its function returned")]
    Exited {
        /// Its process id.
        pid: u32,
        /// Its exit code.
        code: i32,
    },
    /// It ended, but another wait took its exit status, or `SIGCHLD` is ignored.
    #[error("process {pid} ended without a result, and how it ended is not known")]
    Vanished {
        /// Its process id.
        pid: u32,
    },
    /// It was started by another process, and this one is a fork of that.
    #[error("process {pid} was started by another process, which alone can wait for it")]
    NotOurs {
        /// Its process id.
        pid: u32,
    },
    /// Its arguments or its result could not be transferred.
    #[error("process {pid} could not do its work: {reason}")]
    Undelivered {
        /// Its process id.
        pid: u32,
        /// The reason the process gave.
        reason: String,
    },
    /// The result was already returned.
    #[error("the result of this process was taken already")]
    Taken,
    /// Waiting for it failed.
    #[error(transparent)]
    System(#[from] engine::Error),
}

impl JoinError {
    /// Converts the exit of a process that left no result.
    pub(crate) fn of_exit(pid: u32, exit: Exit) -> JoinError {
        match exit {
            Exit::Code(code) => JoinError::Exited { pid, code },
            Exit::Signal { number, core } => JoinError::Killed {
                pid,
                signal: number,
                core_dumped: core,
            },
            Exit::Unknown => JoinError::Vanished { pid },
        }
    }

    /// Returns the exit code if the process exited before its function returned.
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// fn give_up() {
    ///     std::process::exit(3);
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let error = Process::spawn(give_up, ())?.join().unwrap_err();
    ///     assert_eq!(error.code(), Some(3));
    ///     assert_eq!(error.signal(), None);
    ///     Ok(())
    /// }
    /// ```
    pub fn code(&self) -> Option<i32> {
        match self {
            JoinError::Exited { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Returns the number of the signal that ended the process, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self {
            JoinError::Killed { signal, .. } => Some(*signal),
            _ => None,
        }
    }

    /// Returns whether the process left a core file.
    pub fn core_dumped(&self) -> bool {
        matches!(
            self,
            JoinError::Killed {
                core_dumped: true,
                ..
            }
        )
    }
}

/// Why a task of a pool returned no result.
///
/// # Examples
/// ```
/// use procession::{Error, Pool, TaskError};
///
/// fn crash() {
///     std::process::abort();
/// }
///
/// # fn main() -> procession::Result<()> {
/// # procession::init();
/// let pool = Pool::new(1)?;
/// match pool.apply(crash, ()) {
///     Err(Error::Task(TaskError::WorkerDied { how, .. })) => assert!(how.contains("SIGABRT")),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Its function panicked.
    #[error(transparent)]
    Panicked(#[from] Panic),
    /// The worker running it died. Other tasks are not affected.
    #[error("the worker {pid} died while it worked on this task: {how}")]
    WorkerDied {
        /// The worker's process id; 0 if unknown.
        pid: u32,
        /// How it ended, as text.
        how: String,
    },
    /// No worker can be started, for example because an initializer fails.
    #[error("the pool has no workers: {0}")]
    NoWorkers(String),
    /// It exceeded its time limit, and its worker was killed.
    #[error("the task did not finish in time")]
    TimedOut,
    /// It was cancelled.
    #[error("the task was cancelled")]
    Cancelled,
    /// The pool ended before it ran.
    #[error("the pool was terminated before this task ran")]
    PoolGone,
    /// Its arguments or its result could not be transferred.
    #[error("the task could not be done: {0}")]
    Undelivered(String),
    /// The result was already returned.
    #[error("the result of this task was taken already")]
    Taken,
    /// The pool was created by another process, and this one is a forked copy of that.
    #[error(
        "this pool, or its task, belongs to process {pid}, which made it: its workers answer nobody else, so that \
         process {}, a forked copy of that one, would wait for ever; make a pool in each process that uses one",
        std::process::id()
    )]
    NotOurs {
        /// The id of the process that created the pool.
        pid: u32,
    },
}

/// `Debug` prints what `Display` does, because users see these errors through `unwrap` and through a `main`
/// that returns them.
macro_rules! speaks_plainly {
    ($($error:ty)+) => {$(
        impl fmt::Debug for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )+};
}

speaks_plainly!(Error JoinError TaskError);

/// A panic that happened in another process.
///
/// # Examples
/// ```
/// use procession::{JoinError, Process};
///
/// fn give_up() {
///     panic!("out of ideas");
/// }
///
/// # fn main() -> procession::Result<()> {
/// # procession::init();
/// match Process::spawn(give_up, ())?.join() {
///     Err(JoinError::Panicked(panic)) => {
///         assert_eq!(panic.message, "out of ideas");
///         println!("{panic:#}"); // with the backtrace
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Panic {
    /// The panic message.
    pub message: String,
    /// The location: file, line and column.
    pub location: Option<String>,
    /// The backtrace; `None` with `RUST_BACKTRACE=0`.
    pub backtrace: Option<String>,
}

impl fmt::Display for Panic {
    /// The alternate form, `{:#}`, includes the backtrace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked")?;
        if let Some(location) = &self.location {
            write!(f, " at {location}")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.backtrace {
            Some(backtrace) if f.alternate() => write!(f, "\n{backtrace}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Panic {}

/// Why a lock was not taken.
///
/// # Examples
/// ```
/// use procession::{Lock, LockError, Process};
///
/// fn die_holding(lock: Lock) {
///     let _held = lock.lock().unwrap();
///     std::process::abort();
/// }
///
/// # fn main() -> procession::Result<()> {
/// # procession::init();
/// let lock = Lock::new()?;
/// assert!(Process::spawn(die_holding, lock.clone())?.join().is_err());
/// assert!(matches!(lock.lock(), Err(LockError::OwnerDied))); // told once
/// let _held = lock.lock()?;
/// assert!(matches!(lock.try_lock(), Err(LockError::TimedOut)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Another process held it until the time was up.
    #[error("timed out waiting for the lock")]
    TimedOut,
    /// The process that held it died. The lock is free again, and what it guards may be half changed. Check
    /// that, then lock again.
    #[error("the process that held the lock died; the lock is free again, check what it guards")]
    OwnerDied,
}

/// Why a message was not put into a queue or sent through a pipe, or a task not submitted to a pool. Returns
/// the value.
///
/// # Examples
/// ```
/// use procession::{PutError, Queue};
///
/// # fn main() -> procession::Result<()> {
/// let queue = Queue::bounded(1)?;
/// queue.put("first".to_owned())?;
/// let refused = queue.try_put("second".to_owned()).unwrap_err();
/// assert!(matches!(refused, PutError::Full(_)));
/// assert_eq!(refused.into_inner(), "second");
/// # Ok(())
/// # }
/// ```
#[derive(thiserror::Error)]
pub enum PutError<T> {
    /// There was no room before the time was up.
    #[error("no room before the time was up")]
    Full(T),
    /// No process can receive it any more.
    #[error("closed: nobody can receive any more")]
    Closed(T),
    /// The value could not be serialised, or there is no memory for it.
    #[error("{1}")]
    Failed(T, #[source] Box<Error>),
}

impl<T> PutError<T> {
    /// Returns the value that was not put.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Full(value) | PutError::Closed(value) | PutError::Failed(value, _) => value,
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Full(_) => f.write_str("Full(..)"),
            PutError::Closed(_) => f.write_str("Closed(..)"),
            PutError::Failed(_, error) => write!(f, "Failed(.., {error:?})"),
        }
    }
}

impl<T> From<PutError<T>> for Error {
    fn from(error: PutError<T>) -> Error {
        match error {
            PutError::Full(_) => Error::Full,
            PutError::Closed(_) => Error::Closed,
            PutError::Failed(_, error) => *error,
        }
    }
}

/// Why no message was received from a queue or pipe.
///
/// # Examples
/// ```
/// use procession::{GetError, Queue};
///
/// # fn main() -> procession::Result<()> {
/// let queue = Queue::<u32>::new()?;
/// assert!(matches!(queue.try_get(), Err(GetError::Empty)));
/// queue.close();
/// assert!(matches!(queue.try_get(), Err(GetError::Closed)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// No message arrived before the time was up.
    #[error("nothing came before the time was up")]
    Empty,
    /// Everything was received, and no process can send any more.
    #[error("closed: everything was received and nobody can send any more")]
    Closed,
    /// The message could not be read, or does not decode as this type.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<GetError> for Error {
    fn from(error: GetError) -> Error {
        match error {
            GetError::Failed(error) => error,
            other => Error::Get(Box::new(other)),
        }
    }
}

/// The barrier is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the barrier is broken: a party timed out, died or aborted, or it was reset")]
pub struct BarrierError;

/// A semaphore was released, or a message reported as processed, too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("released or marked done too many times")]
pub struct TooMany;

/// Returns the name of a signal that commonly ends processes.
pub(crate) fn signal_name(number: i32) -> &'static str {
    // The numbers are the same on every architecture this crate supports.
    match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => "a signal",
    }
}

/// Returns the usual cause of a signal, where it is not obvious.
fn signal_hint(number: i32) -> &'static str {
    match number {
        6 => {
            "; it ended itself, as Rust does after a stack overflow, and its standard error says why"
        }
        7 | 11 => {
            "; it used memory that it does not have, as after a stack overflow in foreign code"
        }
        _ => "",
    }
}

/// Converts an I/O error of the operation `what`.
pub(crate) fn os(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| engine::Error::Os { what, source }.into()
}

/// Returns the deadline of a call that may wait for `time`.
pub(crate) fn within(time: Duration) -> engine::Deadline {
    engine::Deadline::after(time)
}
