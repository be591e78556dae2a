//! The errors of processes.

use std::fmt;

use procession_engine as engine;
use procession_engine::process::child::Exit;

use super::debug_as_display;

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
    Raised(#[from] super::Exception),
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
    #[error("process {pid} ended without a result, and its exit status is unknown")]
    Vanished {
        /// Its process id.
        pid: u32,
    },
    /// It was started by another process, and this one is a fork of that.
    #[error("process {pid} was started by another process, and only that one can wait for it")]
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
    #[error("the result of this process was already taken")]
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

debug_as_display!(JoinError);

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
        6 => "; it aborted, as Rust does after a stack overflow, and its standard error says why",
        7 | 11 => "; it accessed invalid memory, as after a stack overflow in foreign code",
        _ => "",
    }
}
