//! Functions that run in processes of their own.

mod builder;
mod fork;
#[cfg(feature = "async")]
mod futures;
pub(crate) mod init;
mod serve;
mod spawn_macro;
mod stdio;

use std::fmt;
use std::io::{PipeReader, PipeWriter};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procession_engine::process::child::{self, Exit, ForkSafe};
use procession_engine::select::Source;
use procession_engine::{Deadline, ProcId, channel, process};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, JoinError, within};
use crate::transfer::call::{self, Failure};
use crate::transfer::function::Function;

pub use builder::Builder;
#[cfg(feature = "python")]
pub(crate) use builder::{put_message, reserve};
pub use serve::name;
#[cfg(feature = "python")]
pub(crate) use serve::set_process_name;
pub(crate) use serve::{Respond, serve};
pub use stdio::Stdio;

/// A function running in another process.
///
/// The process is a fresh run of this program that enters at [`init`](crate::init()). It shares no memory with
/// this one except the shared objects in its arguments. Arguments and result are carried by serde.
///
/// A process started with [`Process::fork`] is a copy of this one and runs a closure.
///
/// Dropping a `Process` does not stop it and does not wait for it, unless
/// [`kill_on_drop`](Builder::kill_on_drop) is set. The process continues, its result is discarded, and it is
/// reaped when a later process is started. A leaked `Process` (`std::mem::forget`) continues as well, is never
/// killed, and stays a zombie until this process ends. A process outlives its parent unless it is a
/// [`daemon`](Builder::daemon).
///
/// # Examples
/// ```
/// use procession::Process;
///
/// fn divide(a: i64, b: i64) -> i64 {
///     a / b
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     assert_eq!(Process::spawn(divide, (6, 3))?.join()?, 2);
///
///     // A panic comes back as an error.
///     let error = Process::spawn(divide, (1, 0))?.join().unwrap_err();
///     assert!(error.to_string().contains("attempt to divide by zero"));
///     Ok(())
/// }
/// ```
pub struct Process<R> {
    /// Its standard input, if it was [piped](Stdio::piped). [`join`](Process::join) and
    /// [`wait`](Process::wait) close it first, so that a process reading to the end sees the end.
    pub stdin: Option<PipeWriter>,
    /// Its standard output, if it was [piped](Stdio::piped).
    pub stdout: Option<PipeReader>,
    /// Its standard error, if it was [piped](Stdio::piped).
    pub stderr: Option<PipeReader>,
    child: Option<child::Child>,
    /// The process that started it.
    parent: ProcId,
    control: Arc<channel::Queue>,
    name: String,
    taken: bool,
    kill_on_drop: bool,
    _result: PhantomData<fn() -> R>,
}

/// The first byte of a message on the control queue between a process and its parent.
mod tag {
    pub(super) const REQUEST: u8 = 0;
    pub(super) const RESPONSE: u8 = 1;
    /// Followed by the panic, where panics abort.
    pub(super) const ABORTED: u8 = 2;
    /// Followed by the reason, as text.
    pub(super) const REFUSED: u8 = 3;
}

impl Process<()> {
    /// Returns a builder with the default settings.
    pub fn builder() -> Builder {
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
        Builder::default().spawn(function, args)
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
        Builder::default().fork(closure)
    }

    /// Waits for the process to end, and returns what its function returned.
    ///
    /// # Errors
    /// Returns an error when the function panicked, or when the process ended before the function returned.
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
        let undelivered = |reason: String| JoinError::Undelivered { pid, reason };
        while let Ok(message) = self.control.get(Deadline::NOW) {
            let Some((tag, mut bytes)) = message.bytes().split_first() else {
                continue;
            };
            match *tag {
                tag::RESPONSE => {
                    return match call::next_result(&mut bytes) {
                        Ok(Ok(result)) => Ok(result),
                        Ok(Err(Failure::Panicked(panic))) => Err(JoinError::Panicked(panic)),
                        Ok(Err(Failure::Undelivered(reason))) => Err(undelivered(reason)),
                        Err(error) => Err(undelivered(error.to_string())),
                    };
                }
                tag::ABORTED => {
                    let panic = crate::transfer::codec::decode(bytes);
                    return Err(
                        panic.map_or_else(|e| undelivered(e.to_string()), JoinError::Panicked)
                    );
                }
                tag::REFUSED => {
                    return Err(undelivered(String::from_utf8_lossy(bytes).into_owned()));
                }
                // The process ended before it received its request.
                _ => {}
            }
        }
        Err(JoinError::of_exit(pid, exit))
    }
}

impl<R> Process<R> {
    fn started(
        child: child::Child,
        control: Arc<channel::Queue>,
        name: String,
        ends: stdio::Ends,
        kill_on_drop: bool,
    ) -> Process<R> {
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
            _result: PhantomData,
        }
    }

    /// Waits for the process to end, and returns its exit status. The result can be joined afterwards.
    ///
    /// The exit code is 0 when the function returned and 101 when it panicked.
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
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, JoinError> {
        self.status(within(timeout))
    }

    /// Returns the exit status if the process has ended, and `None` while it runs.
    ///
    /// # Errors
    /// The same as for [`wait`](Process::wait).
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

    /// Returns the next message on its control queue.
    #[cfg(feature = "python")]
    pub(crate) fn next_message(&self) -> Option<channel::Message> {
        self.control.get(Deadline::NOW).ok()
    }

    pub(crate) fn ended(&mut self, deadline: Deadline) -> Result<Option<Exit>, JoinError> {
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
    pub fn terminate(&self) -> Result<bool, Error> {
        self.signal(15)
    }

    /// Sends the signal with this number to the process. Returns `false` when it had already ended.
    ///
    /// # Errors
    /// Returns an error when there is no such signal, or when the system does not allow this process to
    /// send it.
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

impl<R> AsFd for Process<R> {
    /// Returns the sentinel, a descriptor that becomes readable when the process ends.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child().as_fd()
    }
}

impl<R> AsRawFd for Process<R> {
    fn as_raw_fd(&self) -> RawFd {
        self.child().as_raw_fd()
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("id", &self.id())
            .field("exit", &self.child().exit())
            .finish()
    }
}

impl<R> Drop for Process<R> {
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
fn unjoined() -> std::sync::MutexGuard<'static, Vec<child::Child>> {
    static UNJOINED: Mutex<Vec<child::Child>> = Mutex::new(Vec::new());
    UNJOINED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reap_unjoined() {
    unjoined().retain_mut(|child| !matches!(child.wait(Deadline::NOW), Ok(Some(_))));
}
