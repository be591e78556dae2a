//! Python functions that run in a process of their own.

use std::fmt;
use std::io::{PipeReader, PipeWriter, Read};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::process::child::Exit;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::Builder;
use super::message::Response;
use super::wire;
use crate::error::{Error, JoinError, within};
use crate::process;

/// A Python function running in a process of its own.
///
/// The process is a fresh interpreter, which needs the package `procession` in the version of this crate. It
/// shares no memory with this process but what it is given as arguments.
///
/// Dropping a `Process` neither stops it nor waits for it, unless [`kill_on_drop`](Builder::kill_on_drop) was
/// asked for. A process outlives the one that started it unless it is a [`daemon`](Builder::daemon).
///
/// # Examples
/// ```no_run
/// use procession::python;
///
/// # fn main() -> procession::Result<()> {
/// let process = python::Process::<u64>::spawn("math", "factorial", (20,))?;
/// assert_eq!(process.join()?, 2_432_902_008_176_640_000);
///
/// // An exception comes back as an error.
/// let error = python::Process::<u64>::spawn("math", "factorial", (-1,))?.join().unwrap_err();
/// assert_eq!(error.to_string(), "ValueError: factorial() not defined for negative values");
/// # Ok(())
/// # }
/// ```
pub struct Process<R> {
    /// Its standard input, if it was [piped](crate::Stdio::piped). [`join`](Process::join) and
    /// [`wait`](Process::wait) close it first, so that a process which reads to the end comes to one.
    pub stdin: Option<PipeWriter>,
    /// Its standard output, if it was [piped](crate::Stdio::piped).
    pub stdout: Option<PipeReader>,
    /// Its standard error, if it was [piped](crate::Stdio::piped).
    pub stderr: Option<PipeReader>,
    inner: process::Process<()>,
    /// Where the interpreter says why it could not begin.
    error_reader: UnixStream,
    taken: bool,
    _result: PhantomData<fn() -> R>,
}

impl Process<()> {
    /// Sets up a process before it is started.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<R: DeserializeOwned> Process<R> {
    /// Starts `python3`, which calls a function of a module; [`Builder`] starts other interpreters.
    ///
    /// The module is one that `import` finds, the function a name in it (`"dumps"`, `"Path.home"`). `args` is a
    /// tuple of what it is called with, also if that is one thing: `(5,)`. The fields of a struct and the
    /// entries of a map are keyword arguments. A function that returns nothing returns `()`.
    ///
    /// # Errors
    /// When the arguments are not such, or nothing that Python has; [`Error::NoInterpreter`] when there is no
    /// such Python; or when the system has no room for a process.
    pub fn spawn<Args: Serialize>(
        module: &str,
        function: &str,
        args: Args,
    ) -> Result<Process<R>, Error> {
        Builder::default().spawn(module, function, args)
    }

    /// Waits for the process to end, and returns what its function returned.
    ///
    /// # Errors
    /// [`JoinError::Raised`] when the function raised an exception, [`JoinError::Undelivered`] when it could not
    /// be called (there is no such module or function, or no package `procession`) or returned
    /// something else than an `R`; or when the process ended before the function returned.
    pub fn join(mut self) -> Result<R, JoinError> {
        self.stdin = None;
        match self.join_until(Deadline::NEVER)? {
            Some(result) => Ok(result),
            None => Err(JoinError::Vanished { pid: self.id() }),
        }
    }

    /// As [`join`](Process::join), but waits no longer than `timeout`. `None` while it runs.
    ///
    /// # Errors
    /// As for [`join`](Process::join); and [`JoinError::Taken`] once the result was returned.
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>, JoinError> {
        self.join_until(within(timeout))
    }

    /// What the function returned, if the process has ended.
    ///
    /// # Errors
    /// As for [`join_timeout`](Process::join_timeout).
    pub fn try_join(&mut self) -> Result<Option<R>, JoinError> {
        self.join_until(Deadline::NOW)
    }

    fn join_until(&mut self, deadline: Deadline) -> Result<Option<R>, JoinError> {
        let Some(exit) = self.inner.ended(deadline)? else {
            return Ok(None);
        };
        if std::mem::replace(&mut self.taken, true) {
            return Err(JoinError::Taken);
        }
        self.outcome(exit).map(Some)
    }

    fn outcome(&mut self, exit: Exit) -> Result<R, JoinError> {
        let pid = self.id();
        let undelivered = |reason: String| JoinError::Undelivered { pid, reason };
        while let Some(message) = self.inner.next_message() {
            // What is there first may be the order, if the process ended before it took that.
            match wire::decode(message.bytes()) {
                Ok(Response::Returned(result)) => {
                    return wire::decode(&result).map_err(|error| undelivered(error.to_string()));
                }
                Ok(Response::Raised(exception)) => return Err(exception.into()),
                Ok(Response::Panicked(panic)) => return Err(panic.into()),
                Ok(Response::Refused(reason)) => return Err(undelivered(reason)),
                Err(_) => {}
            }
        }
        let mut message = Vec::new();
        // It is read until there is nothing more, which is an error of its own when others have the other end.
        let _ = self.error_reader.read_to_end(&mut message);
        Err(match message.is_empty() {
            true => JoinError::of_exit(pid, exit),
            false => undelivered(String::from_utf8_lossy(&message).into_owned()),
        })
    }
}

impl<R> Process<R> {
    pub(super) fn started(mut inner: process::Process<()>, error_reader: UnixStream) -> Process<R> {
        Process {
            stdin: inner.stdin.take(),
            stdout: inner.stdout.take(),
            stderr: inner.stderr.take(),
            inner,
            error_reader,
            taken: false,
            _result: PhantomData,
        }
    }

    /// Waits for the process to end, and says how it did. Its result can be joined afterwards.
    ///
    /// The code is 0 when the function returned, and 1 when it raised an exception or could not be called.
    ///
    /// # Errors
    /// As for [`procession::Process::wait`](crate::Process::wait).
    pub fn wait(&mut self) -> Result<ExitStatus, JoinError> {
        self.stdin = None;
        self.inner.wait()
    }

    /// As [`wait`](Process::wait), but waits no longer than `timeout` and leaves standard input open. `None` while
    /// it runs.
    ///
    /// # Errors
    /// As for [`wait`](Process::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, JoinError> {
        self.inner.wait_timeout(timeout)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// As for [`wait`](Process::wait).
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, JoinError> {
        self.inner.try_wait()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.inner.is_alive()
    }

    /// Ends it at once (SIGKILL). `false` when it had ended before.
    ///
    /// # Errors
    /// When the system does not let this process send it a signal.
    pub fn kill(&self) -> Result<bool, Error> {
        self.inner.kill()
    }

    /// Asks it to end (SIGTERM). `false` when it had ended before.
    ///
    /// # Errors
    /// As for [`kill`](Process::kill).
    pub fn terminate(&self) -> Result<bool, Error> {
        self.inner.terminate()
    }

    /// Sends it the signal with this number. `false` when it had ended before.
    ///
    /// # Errors
    /// When there is no such signal; and as for [`kill`](Process::kill).
    pub fn signal(&self, number: i32) -> Result<bool, Error> {
        self.inner.signal(number)
    }
}

impl<R> AsFd for Process<R> {
    /// The sentinel: a descriptor that becomes readable when the process ends.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<R> AsRawFd for Process<R> {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
