//! A process that this one started.

use std::fmt;
use std::io::{PipeReader, PipeWriter, Read};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procession_engine::process::child::{self, Exit, ForkSafe};
use procession_engine::select::Source;
use procession_engine::{Deadline, ProcId, channel, process};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::Builder;
use super::stdio;
use crate::error::{Error, JoinError, within};
use crate::transfer::codec::{Codec, RustCodec};
use crate::transfer::function::Function;

/// A function running in another process. `C` encodes its arguments and its result.
///
/// Programs use it as [`procession::Process`](crate::Process) and, with the feature `python`, as
/// `procession::python::Process`, which say how a process behaves.
pub struct Process<R, C = RustCodec> {
    /// Its standard input, if it was [piped](crate::Stdio::piped). [`join`](Process::join) and
    /// [`wait`](Process::wait) close it first, so that a process reading to the end sees the end.
    pub stdin: Option<PipeWriter>,
    /// Its standard output, if it was [piped](crate::Stdio::piped).
    pub stdout: Option<PipeReader>,
    /// Its standard error, if it was [piped](crate::Stdio::piped).
    pub stderr: Option<PipeReader>,
    child: Option<child::Child>,
    /// The process that started it.
    parent: ProcId,
    control: Arc<channel::Queue>,
    name: String,
    taken: bool,
    kill_on_drop: bool,
    /// The pipe on which another program reports that it could not start.
    error_reader: Option<UnixStream>,
    _result: PhantomData<fn() -> (R, C)>,
}

impl<C: Codec> Process<(), C> {
    /// Returns a builder with the default settings.
    pub fn builder() -> Builder<C> {
        Builder::default()
    }
}

impl<R: DeserializeOwned> Process<R> {
    /// Starts a process that calls `function` with `args`.
    ///
    /// `args` is the argument itself for one parameter, a tuple for several, and `()` for none.
    ///
    /// # Errors
    /// Returns an error when this program did not call [`init`](crate::init()), when `function` is a closure,
    /// when the arguments cannot be serialised, or when the system cannot start a process.
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// fn add(a: u32, b: u32) -> u32 {
    ///     a + b
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let process = Process::spawn(add, (2, 3))?;
    /// assert_eq!(process.join()?, 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn<F, Args, Shape>(function: F, args: Args) -> Result<Process<R>, Error>
    where
        F: Function<Args, Shape, Output = R>,
        R: Serialize,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        Builder::<RustCodec>::default().spawn(function, args)
    }

    /// Forks this process. The child is a copy that runs `closure` and exits.
    ///
    /// The closure may capture anything. Captures are not serialised; the result is. [`init`](crate::init())
    /// is not needed. The closure must follow the rules of [`ForkSafe::new`], above all when this process
    /// has other threads. [`Process::spawn`] has no such rules.
    ///
    /// The child runs only the closure. It neither drops values of its parent that the closure did not
    /// capture nor runs its parent's exit handlers. A panic, an exit or a signal is reported as for a
    /// spawned process. Both processes may use captured shared objects. A captured guard still belongs to
    /// the parent: dropping it in the child does nothing, even if the child has meanwhile taken the same
    /// lock itself.
    ///
    /// This call waits for the locks of standard output and standard error, and flushes standard output, so
    /// that buffered text is not printed twice. The first call wraps the panic hook, so that panics of
    /// forked processes are reported with their location.
    ///
    /// # Errors
    /// Returns an error when the system or the shared memory has no room for a process, or when a setting
    /// cannot take effect.
    ///
    /// # Examples
    /// ```
    /// use std::collections::HashMap;
    /// use procession::{ForkSafe, Process};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let prices = HashMap::from([("tea", 3), ("milk", 2)]);
    /// let sum = || prices.values().sum::<u32>();
    /// // SAFETY: this program has no other threads.
    /// let sum = unsafe { ForkSafe::new(sum) };
    /// assert_eq!(Process::fork(sum)?.join()?, 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fork<F>(closure: ForkSafe<F>) -> Result<Process<R>, Error>
    where
        F: FnOnce() -> R,
        R: Serialize,
    {
        Builder::<RustCodec>::default().fork(closure)
    }
}

impl<R: DeserializeOwned, C: Codec> Process<R, C> {
    /// Waits for the process to end, and returns what its function returned.
    ///
    /// # Errors
    /// Returns [`JoinError::Panicked`] when the function panicked, and `JoinError::Raised` when a Python function
    /// raised an exception. Returns [`JoinError::Undelivered`] when the function could not be called, or when its
    /// result cannot be sent or is something other than an `R`. Returns [`JoinError::Killed`],
    /// [`JoinError::Exited`] or [`JoinError::Vanished`] when the process ended before the function returned.
    /// Returns [`JoinError::NotOurs`] in a process that did not start it, and [`JoinError::System`] when waiting
    /// failed.
    ///
    /// # Examples
    /// ```
    /// use procession::{JoinError, Process};
    ///
    /// fn first(words: Vec<String>) -> String {
    ///     words[0].clone()
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// assert_eq!(Process::spawn(first, vec!["one".to_owned()])?.join()?, "one");
    /// let failed = Process::spawn(first, Vec::new())?.join();
    /// assert!(matches!(failed, Err(JoinError::Panicked(_))));
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    /// use std::time::Duration;
    ///
    /// fn sleep() {
    ///     std::thread::sleep(Duration::from_secs(60));
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let mut process = Process::spawn(sleep, ())?;
    /// assert_eq!(process.join_timeout(Duration::from_millis(10))?, None);
    /// process.kill()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>, JoinError> {
        self.join_until(within(timeout))
    }

    /// Returns the function's result if the process has ended, and `None` while it runs.
    ///
    /// # Errors
    /// The same as for [`join_timeout`](Process::join_timeout).
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    /// use std::time::Duration;
    ///
    /// fn sleep() {
    ///     std::thread::sleep(Duration::from_secs(60));
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let mut process = Process::spawn(sleep, ())?;
    /// assert_eq!(process.try_join()?, None);
    /// process.kill()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_join(&mut self) -> Result<Option<R>, JoinError> {
        self.join_until(Deadline::NOW)
    }

    pub(crate) fn join_until(&mut self, deadline: Deadline) -> Result<Option<R>, JoinError> {
        let Some(exit) = self.ended(deadline)? else {
            return Ok(None);
        };
        if std::mem::replace(&mut self.taken, true) {
            return Err(JoinError::Taken);
        }
        self.outcome(exit).map(Some)
    }

    fn outcome(&self, exit: Exit) -> Result<R, JoinError> {
        let pid = self.id();
        while let Ok(message) = self.control.get(Deadline::NOW) {
            // Another message is the request, if the process ended before it received that.
            if let Some(result) = C::result(pid, message.bytes()) {
                return result;
            }
        }
        Err(self
            .start_error()
            .unwrap_or_else(|| JoinError::of_exit(pid, exit)))
    }
}

impl<R, C> Process<R, C> {
    pub(super) fn started(
        child: child::Child,
        control: Arc<channel::Queue>,
        name: String,
        ends: stdio::Ends,
        kill_on_drop: bool,
    ) -> Process<R, C> {
        Process {
            stdin: ends.stdin,
            stdout: ends.stdout,
            stderr: ends.stderr,
            child: Some(child),
            parent: process::me(),
            control,
            name,
            taken: false,
            kill_on_drop,
            error_reader: None,
            _result: PhantomData,
        }
    }

    /// Sets the pipe on which another program reports that it could not start.
    #[cfg(feature = "python")]
    pub(crate) fn with_error_reader(mut self, reader: UnixStream) -> Process<R, C> {
        self.error_reader = Some(reader);
        self
    }

    /// Returns what another program reported instead of starting.
    fn start_error(&self) -> Option<JoinError> {
        let mut reason = Vec::new();
        // The socket does not block: reading fails at the end if another process still has the other end.
        let _ = self.error_reader.as_ref()?.read_to_end(&mut reason);
        (!reason.is_empty()).then(|| JoinError::Undelivered {
            pid: self.id(),
            reason: String::from_utf8_lossy(&reason).into_owned(),
        })
    }

    /// Waits for the process to end, and returns its exit status. The result can be joined afterwards.
    ///
    /// The exit code is 0 when the function returned and 101 when it panicked. It is 1 when the function could not
    /// be called, and when a Python function raised an exception.
    ///
    /// # Errors
    /// Returns [`JoinError::Vanished`] when the exit status is unknown, [`JoinError::NotOurs`] in a process
    /// that did not start it, and [`JoinError::System`] when waiting failed.
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// fn work() {}
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let mut process = Process::spawn(work, ())?;
    ///     assert!(process.wait()?.success());
    ///     process.join()?;
    ///     Ok(())
    /// }
    /// ```
    pub fn wait(&mut self) -> Result<ExitStatus, JoinError> {
        self.stdin = None;
        let vanished = JoinError::Vanished { pid: self.id() };
        self.status(Deadline::NEVER)?.ok_or(vanished)
    }

    /// Like [`wait`](Process::wait), but waits for at most `timeout` and leaves standard input open.
    /// Returns `None` while the process runs.
    ///
    /// # Errors
    /// The same as for [`wait`](Process::wait).
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    /// use std::time::Duration;
    ///
    /// fn sleep() {
    ///     std::thread::sleep(Duration::from_secs(60));
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let mut process = Process::spawn(sleep, ())?;
    /// assert_eq!(process.wait_timeout(Duration::from_millis(10))?, None);
    /// process.kill()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, JoinError> {
        self.status(within(timeout))
    }

    /// Returns the exit status if the process has ended, and `None` while it runs.
    ///
    /// # Errors
    /// The same as for [`wait`](Process::wait).
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// fn sleep() {
    ///     std::thread::sleep(std::time::Duration::from_secs(60));
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let mut process = Process::spawn(sleep, ())?;
    /// assert_eq!(process.try_wait()?, None);
    /// process.kill()?;
    /// assert!(!process.wait()?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, JoinError> {
        self.status(Deadline::NOW)
    }

    fn status(&mut self, deadline: Deadline) -> Result<Option<ExitStatus>, JoinError> {
        const CORE: i32 = 0x80;
        Ok(match self.ended(deadline)? {
            None => None,
            Some(Exit::Code(code)) => Some(ExitStatus::from_raw(code << 8)),
            Some(Exit::Signal { number, core }) => {
                let core = if core { CORE } else { 0 };
                Some(ExitStatus::from_raw(number | core))
            }
            Some(Exit::Unknown) => return Err(JoinError::Vanished { pid: self.id() }),
        })
    }

    fn ended(&mut self, deadline: Deadline) -> Result<Option<Exit>, JoinError> {
        if !self.is_ours() {
            return Err(JoinError::NotOurs { pid: self.id() });
        }
        Ok(self.child_mut().wait(deadline)?)
    }

    /// Returns `false` in a forked child of the process that started it.
    fn is_ours(&self) -> bool {
        self.parent == process::me()
    }

    /// Returns the process id.
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let process = Process::spawn(std::process::id, ())?;
    /// let id = process.id();
    /// assert_eq!(process.join()?, id);
    /// # Ok(())
    /// # }
    /// ```
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// Returns the name of the process.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the process is still running.
    pub fn is_alive(&self) -> bool {
        matches!(self.child().has_ended(Deadline::NOW), Ok(false))
    }

    /// Kills the process (SIGKILL). Returns `false` when it had already ended.
    ///
    /// # Errors
    /// Returns an error when the system does not allow this process to send the signal.
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    /// use std::time::Duration;
    ///
    /// fn sleep() {
    ///     std::thread::sleep(Duration::from_secs(60));
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let process = Process::spawn(sleep, ())?;
    /// assert!(process.kill()?);
    /// assert_eq!(process.join().unwrap_err().signal(), Some(9));
    /// # Ok(())
    /// # }
    /// ```
    pub fn kill(&self) -> Result<bool, Error> {
        self.signal(9)
    }

    /// Terminates the process (SIGTERM). Returns `false` when it had already ended.
    ///
    /// # Errors
    /// The same as for [`kill`](Process::kill).
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// fn wait() {
    ///     loop {
    ///         std::thread::park();
    ///     }
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let process = Process::spawn(wait, ())?;
    /// assert!(process.is_alive());
    /// assert!(process.terminate()?);
    /// assert_eq!(process.join().unwrap_err().signal(), Some(15));
    /// # Ok(())
    /// # }
    /// ```
    pub fn terminate(&self) -> Result<bool, Error> {
        self.signal(15)
    }

    /// Sends the signal with this number to the process. Returns `false` when it had already ended.
    ///
    /// # Errors
    /// Returns an error when there is no such signal, or when the system does not allow this process to
    /// send it.
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// fn wait() {
    ///     loop {
    ///         std::thread::park();
    ///     }
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let process = Process::spawn(wait, ())?;
    /// assert!(process.signal(10)?); // SIGUSR1 ends a process that does not handle it
    /// assert_eq!(process.join().unwrap_err().signal(), Some(10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn signal(&self, number: i32) -> Result<bool, Error> {
        Ok(self.child().signal(number)?)
    }

    pub(crate) fn exit_source(&self) -> Source<'_> {
        Source::Exit(self.child().as_fd(), self.child().proc_id())
    }

    pub(crate) fn proc_id(&self) -> ProcId {
        self.child().proc_id()
    }

    fn child(&self) -> &child::Child {
        self.child.as_ref().expect("the child exists until drop")
    }

    fn child_mut(&mut self) -> &mut child::Child {
        self.child.as_mut().expect("the child exists until drop")
    }
}

impl<R, C> AsFd for Process<R, C> {
    /// Returns the sentinel, a descriptor that becomes readable when the process ends.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child().as_fd()
    }
}

impl<R, C> AsRawFd for Process<R, C> {
    fn as_raw_fd(&self) -> RawFd {
        self.child().as_raw_fd()
    }
}

impl<R, C> fmt::Debug for Process<R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("id", &self.id())
            .field("exit", &self.child().exit())
            .finish()
    }
}

impl<R, C> Drop for Process<R, C> {
    fn drop(&mut self) {
        let is_ours = self.is_ours();
        let Some(mut child) = self.child.take().filter(|_| is_ours) else {
            return;
        };
        if self.kill_on_drop {
            let _ = child.signal(9);
            let _ = child.wait(Deadline::NEVER);
        } else if !matches!(child.wait(Deadline::NOW), Ok(Some(_))) {
            unjoined().push(child);
        }
    }
}

/// Processes dropped while they ran, kept so that they do not stay zombies for long.
pub(super) fn unjoined() -> std::sync::MutexGuard<'static, Vec<child::Child>> {
    static UNJOINED: Mutex<Vec<child::Child>> = Mutex::new(Vec::new());
    UNJOINED.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn reap_unjoined() {
    unjoined().retain_mut(|child| !matches!(child.wait(Deadline::NOW), Ok(Some(_))));
}
