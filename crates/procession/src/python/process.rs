//! Python functions that run in processes of their own.

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

/// A Python function running in another process.
///
/// The process is a fresh interpreter, in which the package `procession` must be installed in the same version
/// as this crate. It shares no memory with this process except the shared objects in its arguments.
///
/// Dropping a `Process` does not stop it and does not wait for it, unless
/// [`kill_on_drop`](Builder::kill_on_drop) is set. A process outlives its parent unless it is a
/// [`daemon`](Builder::daemon).
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
    /// [`wait`](Process::wait) close it first, so that a process reading to the end sees the end.
    pub stdin: Option<PipeWriter>,
    /// Its standard output, if it was [piped](crate::Stdio::piped).
    pub stdout: Option<PipeReader>,
    /// Its standard error, if it was [piped](crate::Stdio::piped).
    pub stderr: Option<PipeReader>,
    inner: process::Process<()>,
    /// The pipe on which the interpreter reports that it could not start.
    error_reader: UnixStream,
    taken: bool,
    _result: PhantomData<fn() -> R>,
}

impl Process<()> {
    /// Returns a builder with the default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<R: DeserializeOwned> Process<R> {
    /// Starts `python3` to call a function of a module. [`Builder`] can start other interpreters.
    ///
    /// `module` is the name of an importable module, and `function` a name in it (`"dumps"`,
    /// `"Path.home"`). `args` is a tuple of the positional arguments, also for a single one: `(5,)`. A
    /// struct or map gives keyword arguments instead. A function that returns `None` returns `()`.
    ///
    /// # Errors
    /// Returns an error when the arguments have another form or cannot be expressed in Python,
    /// [`Error::NoInterpreter`] when the interpreter does not exist, and an error when the system cannot
    /// start a process.
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
    /// Returns [`JoinError::Raised`] when the function raised an exception. Returns
    /// [`JoinError::Undelivered`] when it could not be called (no such module or function, or no package
    /// `procession`) or returned something other than an `R`. Also returns an error when the process ended
    /// before the function returned.
    pub fn join(mut self) -> Result<R, JoinError> {
        self.stdin = None;
        match self.join_until(Deadline::NEVER)? {
            Some(result) => Ok(result),
            None => Err(JoinError::Vanished { pid: self.id() }),
        }
    }

    /// Like [`join`](Process::join), but waits for at most `timeout`. Returns `None` while the process
    /// runs.
    ///
    /// # Errors
    /// The same as for [`join`](Process::join), and [`JoinError::Taken`] once the result was returned.
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>, JoinError> {
        self.join_until(within(timeout))
    }

    /// Returns the function's result if the process has ended, and `None` while it runs.
    ///
    /// # Errors
    /// The same as for [`join_timeout`](Process::join_timeout).
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
            // The first message may be the request, if the process ended before it received that.
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
        // The socket does not block: reading fails at the end if another process still has the other
        // end.
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

    /// Waits for the process to end, and returns its exit status. The result can be joined afterwards.
    ///
    /// The exit code is 0 when the function returned, and 1 when it raised an exception or could not be
    /// called.
    ///
    /// # Errors
    /// The same as for [`procession::Process::wait`](crate::Process::wait).
    pub fn wait(&mut self) -> Result<ExitStatus, JoinError> {
        self.stdin = None;
        self.inner.wait()
    }

    /// Like [`wait`](Process::wait), but waits for at most `timeout` and leaves standard input open.
    /// Returns `None` while the process runs.
    ///
    /// # Errors
    /// The same as for [`wait`](Process::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, JoinError> {
        self.inner.wait_timeout(timeout)
    }

    /// Returns the exit status if the process has ended, and `None` while it runs.
    ///
    /// # Errors
    /// The same as for [`wait`](Process::wait).
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, JoinError> {
        self.inner.try_wait()
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// Returns the name of the process.
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// Returns whether the process is still running.
    pub fn is_alive(&self) -> bool {
        self.inner.is_alive()
    }

    /// Kills the process (SIGKILL). Returns `false` when it had already ended.
    ///
    /// # Errors
    /// Returns an error when the system does not allow this process to send the signal.
    pub fn kill(&self) -> Result<bool, Error> {
        self.inner.kill()
    }

    /// Terminates the process (SIGTERM). Returns `false` when it had already ended.
    ///
    /// # Errors
    /// The same as for [`kill`](Process::kill).
    pub fn terminate(&self) -> Result<bool, Error> {
        self.inner.terminate()
    }

    /// Sends the signal with this number to the process. Returns `false` when it had already ended.
    ///
    /// # Errors
    /// Returns an error when there is no such signal, or when the system does not allow this process to
    /// send it.
    pub fn signal(&self, number: i32) -> Result<bool, Error> {
        self.inner.signal(number)
    }
}

impl<R> AsFd for Process<R> {
    /// Returns the sentinel, a descriptor that becomes readable when the process ends.
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
