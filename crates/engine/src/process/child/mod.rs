//! Child processes: programs, mostly this executable, or [forks](Launch::fork) of this process.
//!
//! A program gets the arena's descriptor, a reserved entry and a tag from its parent, all named by its handshake
//! (`handshake.rs`). The function that it runs is given as an index into a table
//! that the linker made (`entry.rs`), so no number is ever transmuted into a code address. Parent and child
//! run the same file: `/proc/self/exe` is the same inode even after an upgrade replaced the file. So both have the
//! same table, and the table's fingerprint travels with the request to prove it. A child that runs another file gets
//! the name of its function from the layers above.
//!
//! Invariants kept here:
//!
//! * A started child has a pidfd before anybody learns of it, and nothing is done by bare PID.
//! * The entry of a child is reaped exactly when its exit status was collected.
//! * A descriptor passed to a child has one owner in it, and is close-on-exec again there.

mod entry;
mod fork;
mod fork_exec;
mod function;
mod handshake;
mod launch;
mod posix_spawn;
mod pre_exec;
mod startup_status;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::process;
use crate::process::ProcId;
use crate::sys::known_fd::KnownFd;

pub use entry::{
    Entry, EntryAdapter, EntryId, NotPlain, announce_test, entry, entry_of, fingerprint, test_entry,
};
pub use fork::ForkSafe;
pub use function::{Function, TaskFunction, WithState};
pub use handshake::{
    Handshake, Offer, answer, answer_variable, close_inherited, inherited, is_child,
};
pub use launch::{Executable, Launch, Program};
pub use pre_exec::{PreExec, Setup};
pub(crate) use startup_status::after_fork;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited by itself with this code.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The number of the signal.
        number: i32,
        /// Whether it left a core file.
        core: bool,
    },
    /// Its status was collected elsewhere, or `SIGCHLD` is ignored.
    Unknown,
}

/// A started child process.
///
/// Dropping it neither stops the child nor waits for it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: KnownFd,
    proc_id: ProcId,
    exit: Option<Exit>,
}

impl Child {
    fn started(pid: Pid, proc_id: ProcId) -> Result<Child> {
        match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Child {
                pid,
                pidfd: KnownFd::new(pidfd)?,
                proc_id,
                exit: None,
            }),
            Err(errno) => {
                // Not reaped yet, so the PID still belongs to it.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                process::reap_collected(proc_id);
                Err(Error::MissingCall {
                    call: "pidfd_open",
                    errno: errno.raw_os_error(),
                })
            }
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The child's entry in the process table.
    pub fn proc_id(&self) -> ProcId {
        self.proc_id
    }

    /// How it ended, if that is known already.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Calls `then` with its pidfd, or with a new one if the program closed that: the PID of a child stays its own
    /// until its status is collected. `None` if it was collected elsewhere.
    fn with_pidfd<T>(&self, then: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<Option<T>> {
        if let Some(pidfd) = self.pidfd.get() {
            return Ok(Some(then(pidfd)));
        }
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match rustix::process::waitid(WaitId::Pid(self.pid), look) {
            Ok(_) => {}
            Err(Errno::CHILD) => return Ok(None),
            Err(errno) => return Err(Error::os("check a child", errno)),
        }
        let pidfd = rustix::process::pidfd_open(self.pid, rustix::process::PidfdFlags::empty());
        let pidfd = pidfd.map_err(|errno| Error::os("check a child", errno))?;
        Ok(Some(then(pidfd.as_fd())))
    }

    /// Waits until the child has ended, collects its status and releases everything it owned. `None` when the
    /// deadline passed first.
    pub fn wait(&mut self, deadline: Deadline) -> Result<Option<Exit>> {
        if self.exit.is_some() {
            return Ok(self.exit);
        }
        if !self.has_ended(deadline)? {
            return Ok(None);
        }
        let take = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let taken = self
            .with_pidfd(|pidfd| rustix::process::waitid(WaitId::PidFd(pidfd), take))?
            .unwrap_or(Err(Errno::CHILD));
        let exit = match taken {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (_, Some(number)) => Exit::Signal {
                    number,
                    core: status.dumped(),
                },
                _ => Exit::Unknown,
            },
            Ok(None) => return Ok(None),
            Err(Errno::CHILD) => Exit::Unknown,
            Err(errno) => return Err(Error::os("collect the status of a child", errno)),
        };
        self.exit = Some(exit);
        process::reap_collected(self.proc_id);
        Ok(self.exit)
    }

    /// Sends a signal. `false` if the child had already ended.
    pub fn signal(&self, number: i32) -> Result<bool> {
        let signal = Signal::from_named_raw(number)
            .ok_or_else(|| Error::Invalid(format!("there is no signal {number}")))?;
        if self.exit.is_some() {
            return Ok(false);
        }
        let sent = self.with_pidfd(|pidfd| rustix::process::pidfd_send_signal(pidfd, signal))?;
        match sent.unwrap_or(Err(Errno::SRCH)) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(Error::os("send a signal to a child", errno)),
        }
    }

    /// Whether it ended before the deadline. Leaves its status to be collected.
    pub fn has_ended(&self, deadline: Deadline) -> Result<bool> {
        if self.exit.is_some() {
            return Ok(true);
        }
        loop {
            let left = deadline.remaining().map(|left| Timespec {
                tv_sec: left.as_secs() as _,
                tv_nsec: left.subsec_nanos() as _,
            });
            let watched = self.with_pidfd(|pidfd| {
                let mut watched = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
                rustix::event::poll(&mut watched, left.as_ref())
            })?;
            match watched.unwrap_or(Ok(1)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os("wait for a child", errno)),
            }
        }
    }
}

impl AsFd for Child {
    /// Readable once the child has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.assumed()
    }
}

impl AsRawFd for Child {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.number()
    }
}
