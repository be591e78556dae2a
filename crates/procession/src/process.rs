//! Functions that run in a process of their own.

mod builder;
mod serve;

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use procession_engine::process::child::{self, Exit};
use procession_engine::{Deadline, channel};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Function;
use crate::call::{self, Failure};
use crate::error::{Error, JoinError, within};

pub use builder::{Builder, Stdio};
#[cfg(feature = "python")]
pub(crate) use builder::{put_on, reserve};
#[cfg(feature = "python")]
pub(crate) use serve::bear_name;
pub use serve::name;
pub(crate) use serve::serve;

/// A function running in a process of its own.
///
/// The process is a fresh run of this program that enters at [`init`](crate::init): it shares no
/// memory with this one but what it is given as arguments. Arguments and result travel by serde.
///
/// Dropping a `Process` neither stops it nor waits for it, unless
/// [`kill_on_drop`](Builder::kill_on_drop) was asked for. A process outlives the one that started
/// it unless it is a [`daemon`](Builder::daemon).
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
    child: Option<child::Child>,
    line: channel::Queue,
    name: String,
    taken: bool,
    kill_on_drop: bool,
    _result: PhantomData<fn() -> R>,
}

/// The first byte of what goes over the line between a process and its parent.
mod tag {
    pub(super) const ORDER: u8 = 0;
    pub(super) const ANSWER: u8 = 1;
    /// Followed by the panic, where panics abort.
    pub(super) const ABORTED: u8 = 2;
    /// Followed by the reason, as text.
    pub(super) const REFUSED: u8 = 3;
}

impl Process<()> {
    /// Sets up a process before it is started.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<R: DeserializeOwned> Process<R> {
    /// Starts a process that calls `function`.
    ///
    /// `args` is the argument of a function of one argument, a tuple of them for several, and
    /// `()` for none.
    ///
    /// # Errors
    /// When this program did not call [`init`](crate::init), when `function` is a closure, when
    /// the arguments cannot be serialised, or when the system has no room for a process.
    pub fn spawn<F, Args, Shape>(function: F, args: Args) -> Result<Process<R>, Error>
    where
        F: Function<Args, Shape, Output = R>,
        R: Serialize,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        Builder::default().spawn(function, args)
    }

    /// Waits for the process to end, and returns what its function returned.
    ///
    /// # Errors
    /// When the function panicked, or the process ended before the function returned.
    pub fn join(mut self) -> Result<R, JoinError> {
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

    pub(crate) fn join_until(&mut self, deadline: Deadline) -> Result<Option<R>, JoinError> {
        let Some(exit) = self.child_mut().wait(deadline)? else {
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
        while let Ok(message) = self.line.get(Deadline::NOW) {
            let Some((tag, mut bytes)) = message.bytes().split_first() else {
                continue;
            };
            match *tag {
                tag::ANSWER => {
                    return match call::next_result(&mut bytes) {
                        Ok(Ok(result)) => Ok(result),
                        Ok(Err(Failure::Panicked(panic))) => Err(JoinError::Panicked(panic)),
                        Ok(Err(Failure::Undelivered(reason))) => Err(undelivered(reason)),
                        Err(error) => Err(undelivered(error.to_string())),
                    };
                }
                tag::ABORTED => {
                    let panic = crate::codec::decode(bytes);
                    return Err(
                        panic.map_or_else(|e| undelivered(e.to_string()), JoinError::Panicked)
                    );
                }
                tag::REFUSED => {
                    return Err(undelivered(String::from_utf8_lossy(bytes).into_owned()));
                }
                // The process ended before it took its order.
                _ => {}
            }
        }
        Err(JoinError::of_exit(pid, exit))
    }
}

impl<R> Process<R> {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        matches!(self.child().has_ended(Deadline::NOW), Ok(false))
    }

    /// Ends it at once (SIGKILL). `false` when it had ended before.
    ///
    /// # Errors
    /// When the system does not let this process send it a signal.
    pub fn kill(&self) -> Result<bool, Error> {
        self.signal(9)
    }

    /// Asks it to end (SIGTERM). `false` when it had ended before.
    ///
    /// # Errors
    /// As for [`kill`](Process::kill).
    pub fn terminate(&self) -> Result<bool, Error> {
        self.signal(15)
    }

    /// Sends it the signal with this number. `false` when it had ended before.
    ///
    /// # Errors
    /// When there is no such signal; and as for [`kill`](Process::kill).
    pub fn signal(&self, number: i32) -> Result<bool, Error> {
        Ok(self.child().signal(number)?)
    }

    /// Waits for its end; `None` when the deadline passed first.
    #[cfg(feature = "python")]
    pub(crate) fn ended(&mut self, deadline: Deadline) -> Result<Option<Exit>, JoinError> {
        Ok(self.child_mut().wait(deadline)?)
    }

    /// What came over its line.
    #[cfg(feature = "python")]
    pub(crate) fn next_message(&self) -> Option<channel::Message> {
        self.line.get(Deadline::NOW).ok()
    }

    pub(crate) fn seat(&self) -> procession_engine::OwnerId {
        self.child().seat()
    }

    fn child(&self) -> &child::Child {
        self.child.as_ref().expect("the child is there until drop")
    }

    fn child_mut(&mut self) -> &mut child::Child {
        self.child.as_mut().expect("the child is there until drop")
    }
}

impl<R> AsFd for Process<R> {
    /// The sentinel: a descriptor that becomes readable when the process ends.
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
        let Some(mut child) = self.child.take() else {
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

/// Processes that were dropped while they ran, kept so that none stays a zombie for long.
fn unjoined() -> std::sync::MutexGuard<'static, Vec<child::Child>> {
    static UNJOINED: Mutex<Vec<child::Child>> = Mutex::new(Vec::new());
    UNJOINED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reap_unjoined() {
    unjoined().retain_mut(|child| !matches!(child.wait(Deadline::NOW), Ok(Some(_))));
}
