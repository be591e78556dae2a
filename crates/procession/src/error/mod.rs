//! The errors of this crate, one small type for each kind of call.

mod channel;
mod pool;
mod process;
#[cfg(feature = "python")]
mod python;
mod sync;

use std::time::Duration;

use procession_engine as engine;

pub use channel::{GetError, PutError};
pub use pool::TaskError;
pub(crate) use process::signal_name;
pub use process::{JoinError, Panic};
#[cfg(feature = "python")]
pub use python::Exception;
pub use sync::{BarrierError, LockError, TooMany};

/// `Debug` prints what `Display` does, because users see these errors through `unwrap` and through a `main`
/// that returns them.
macro_rules! debug_as_display {
    ($($error:ty)+) => {$(
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    )+};
}

pub(crate) use debug_as_display;

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
    #[error("cannot read a {kind}: {} bytes are not a whole number of items", bytes.len())]
    Misfit {
        /// The type that was expected.
        kind: &'static str,
        /// The received bytes.
        bytes: Box<crate::Received<u8>>,
    },
    /// An object was serialised where objects cannot be sent.
    #[error(
        "a {0} cannot be sent this way: pass it as an argument to Process::spawn or to the initializer of \
         a pool, or (unless it is the end of a pipe) in a message of a queue or pipe"
    )]
    NotSpawning(&'static str),
    /// Some messages of a [`JoinableQueue`](crate::JoinableQueue) will never be reported as processed,
    /// because their consumers are gone.
    #[error(
        "{messages} messages of a queue were received by processes that are gone, and never reported done"
    )]
    Unfinished {
        /// The number of such messages.
        messages: u64,
    },
    /// The end of a pipe was opened twice, or by a process that did not inherit it.
    #[error("this process did not inherit this end of a pipe")]
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
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// procession::set_memory_limit(procession::memory_usage()?.resident + (1 << 20))?;
    /// let refused = procession::Array::<u8>::zeroed(64 << 20).unwrap_err();
    /// assert!(refused.is_out_of_memory());
    /// procession::set_memory_limit(None)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::Engine(engine::Error::OutOfMemory { .. }))
    }
}

debug_as_display!(Error);

/// Converts an I/O error of the operation `what`.
pub(crate) fn os(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| engine::Error::Os { what, source }.into()
}

/// Returns the deadline of a call that may wait for `time`.
pub(crate) fn within(time: Duration) -> engine::Deadline {
    engine::Deadline::after(time)
}
