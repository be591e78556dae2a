//! What can go wrong, one small type for each kind of call.

use std::fmt;
use std::time::Duration;

use procession_engine as engine;
use procession_engine::process::child::Exit;

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Setting something up failed; and what every other error of this crate turns into with `?`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine or the operating system refused.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// Children would not know where to enter this program.
    #[error(
        "no process can be started yet: call procession::init() first thing in main(), \
         or put procession::test_support!() beside the tests"
    )]
    NotInitialised,
    /// What was to run in another process is no plain function.
    #[error(transparent)]
    NotPlain(#[from] engine::process::child::NotPlain),
    /// A value could not be turned into bytes.
    #[error("cannot send a {kind}: {reason}")]
    Encode {
        /// The type of the value.
        kind: &'static str,
        /// What the serialiser said.
        reason: String,
    },
    /// There is no Python to start.
    #[cfg(feature = "python")]
    #[error(
        "cannot start the Python interpreter {}: {source}; name another one with python::Builder::interpreter",
        interpreter.display()
    )]
    NoInterpreter {
        /// What was to be started.
        interpreter: std::path::PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Bytes could not be turned into a value.
    #[error("cannot read a {kind}: {reason}")]
    Decode {
        /// The type of the value.
        kind: &'static str,
        /// What the deserialiser said.
        reason: String,
    },
    /// A [`Loan`](crate::Loan) was received as one of items that its bytes are no whole number of. Here they are.
    #[error("cannot read a {kind}: {} bytes are no whole number of items", bytes.len())]
    Misfit {
        /// What it was received as.
        kind: &'static str,
        /// What was received.
        bytes: Box<crate::Received<u8>>,
    },
    /// An object was to travel in a way that objects cannot.
    #[error(
        "a {0} cannot travel this way: pass it as an argument to Process::spawn or to the initializer of \
         a pool, or, unless it is the end of a pipe, in a message of a queue or pipe"
    )]
    NotSpawning(&'static str),
    /// Messages of a [`JoinableQueue`](crate::JoinableQueue) will never be done: who got them is gone.
    #[error(
        "{messages} messages of a queue were got by processes that are gone, and never reported done"
    )]
    Unfinished {
        /// How many there are.
        messages: u64,
    },
    /// A pipe's end was claimed twice, or comes from a process that is no parent.
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
    /// Whether there was no shared memory left, or a limit was met: freeing some of it, or raising the limit, is
    /// what helps. See [`set_memory_limit`](crate::set_memory_limit).
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::Engine(engine::Error::OutOfMemory { .. }))
    }
}

/// Why a process gave no result.
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
        /// The number of the signal.
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
    /// It ended, but its status went to somebody else, or `SIGCHLD` is ignored.
    #[error("process {pid} ended without a result, and how it ended is not known")]
    Vanished {
        /// Its process id.
        pid: u32,
    },
    /// It was started by another process, of which this one is a fork.
    #[error("process {pid} was started by another process, which alone can wait for it")]
    NotOurs {
        /// Its process id.
        pid: u32,
    },
    /// Its arguments or its result could not be carried over.
    #[error("process {pid} could not do its work: {reason}")]
    Undelivered {
        /// Its process id.
        pid: u32,
        /// What went wrong there.
        reason: String,
    },
    /// The result was handed out before.
    #[error("the result of this process was taken already")]
    Taken,
    /// Waiting for it failed.
    #[error(transparent)]
    System(#[from] engine::Error),
}

impl JoinError {
    /// Why a process that ended so gave no result.
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

    /// The process's exit code, when it exited before its function returned.
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

    /// The number of the signal that ended the process, when one did.
    pub fn signal(&self) -> Option<i32> {
        match self {
            JoinError::Killed { signal, .. } => Some(*signal),
            _ => None,
        }
    }

    /// Whether the process left a core file.
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

/// Why a task of a pool gave no result.
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
    /// The worker that had claimed it died. The other tasks go on.
    #[error("the worker {pid} died while it worked on this task: {how}")]
    WorkerDied {
        /// The worker's process id; 0 when it is not known.
        pid: u32,
        /// How it ended, in words.
        how: String,
    },
    /// No worker can be started; an initializer that fails does that.
    #[error("the pool has no workers: {0}")]
    NoWorkers(String),
    /// It did not finish in the time it was given; its worker was stopped.
    #[error("the task did not finish in time")]
    TimedOut,
    /// It was cancelled.
    #[error("the task was cancelled")]
    Cancelled,
    /// The pool ended before it ran.
    #[error("the pool was terminated before this task ran")]
    PoolGone,
    /// Its arguments or its result could not be carried over.
    #[error("the task could not be done: {0}")]
    Undelivered(String),
    /// The result was handed out before.
    #[error("the result of this task was taken already")]
    Taken,
    /// The pool was made by another process, of which this one is a forked copy.
    #[error(
        "this pool, or its task, belongs to process {pid}, which made it: its workers answer nobody else, so that \
         process {}, a forked copy of that one, would wait for ever; make a pool in each process that uses one",
        std::process::id()
    )]
    NotOurs {
        /// The process id of the one that made it.
        pid: u32,
    },
}

/// They end up before users, by `unwrap` and by a `main` that returns them: so `Debug` says what `Display` does.
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
    /// What the panic said.
    pub message: String,
    /// Where it happened: file, line and column.
    pub location: Option<String>,
    /// The calls that led there; `None` with `RUST_BACKTRACE=0`.
    pub backtrace: Option<String>,
}

impl fmt::Display for Panic {
    /// The alternate form, `{:#}`, shows the backtrace too.
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

/// Why a lock was not acquired.
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
    /// Somebody held it until the time was up.
    #[error("timed out waiting for the lock")]
    TimedOut,
    /// The process that held it died. The lock is free again, and what it guards may be half
    /// changed: look at it, then lock anew.
    #[error("the process that held the lock died; the lock is free again, check what it guards")]
    OwnerDied,
}

/// Why nothing was put into a queue, sent through a pipe or submitted to a pool. Gives the value back.
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
    /// Nobody can receive any more.
    #[error("closed: nobody can receive any more")]
    Closed(T),
    /// The value could not be turned into bytes, or there is no memory for them.
    #[error("{1}")]
    Failed(T, #[source] Box<Error>),
}

impl<T> PutError<T> {
    /// The value that was not put.
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

/// Why nothing was got from a queue or received through a pipe.
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
    /// Nothing came before the time was up.
    #[error("nothing came before the time was up")]
    Empty,
    /// Everything was got, and nobody can put any more.
    #[error("closed: everything was received and nobody can send any more")]
    Closed,
    /// The message is no value of this type, or could not be read.
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

/// Why a barrier did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the barrier is broken: a party timed out, died or aborted, or it was reset")]
pub struct BarrierError;

/// Released or marked done more often than acquired or put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("released or marked done too many times")]
pub struct TooMany;

/// The name of a signal that commonly ends processes.
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

/// What commonly makes a process end by this signal, where that is not plain.
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

/// What the system said while this was being done.
pub(crate) fn os(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| engine::Error::Os { what, source }.into()
}

/// The deadline of a call that may wait this long.
pub(crate) fn within(time: Duration) -> engine::Deadline {
    engine::Deadline::after(time)
}
