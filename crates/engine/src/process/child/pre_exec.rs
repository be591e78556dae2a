//! What a forked child does to itself before its program or function begins.
//!
//! It has one thread, and may have been forked while other threads held locks. So all it does here is make system
//! calls on memory that was prepared before. Nothing is allocated, and nothing waits for a lock.

#![expect(
    clippy::result_large_err,
    reason = "the message of an error cannot be put on the heap here"
)]

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::process::child::startup_status::{Failed, Step};

/// A child's credentials, and what it does before its program begins.
#[derive(Debug, Default)]
pub struct Setup {
    /// Its supplementary groups; `None` for those of this process.
    pub groups: Option<Vec<u32>>,
    /// Its group; `None` for that of this process.
    pub gid: Option<u32>,
    /// Its user; `None` for that of this process.
    pub uid: Option<u32>,
    /// Called last, in this order.
    pub hooks: Vec<PreExec>,
}

impl Setup {
    pub(crate) fn is_empty(&self) -> bool {
        let Setup {
            groups,
            gid,
            uid,
            hooks,
        } = self;
        groups.is_none() && gid.is_none() && uid.is_none() && hooks.is_empty()
    }

    /// Takes every step, in the order of `std::process::Command`.
    pub(crate) fn take_steps(
        &mut self,
        passes: &[(RawFd, RawFd)],
        cwd: Option<&CStr>,
    ) -> Result<(), Failed> {
        for &(fd, number) in passes {
            pass(fd, number)?;
        }
        self.apply_credentials()?;
        if let Some(cwd) = cwd {
            // SAFETY: a C string.
            check(Step::Directory, unsafe { libc::chdir(cwd.as_ptr()) })?;
        }
        for PreExec(hook) in &mut self.hooks {
            match catch_unwind(AssertUnwindSafe(hook)) {
                Ok(done) => done.map_err(|error| Failed::from_io_error(Step::Hook, &error))?,
                Err(payload) => {
                    // Its drop must not run here.
                    std::mem::forget(payload);
                    return Err(Failed::with_message(Step::Hook, "it panicked"));
                }
            }
        }
        Ok(())
    }

    fn apply_credentials(&self) -> Result<(), Failed> {
        if let Some(groups) = &self.groups {
            set_groups(groups)?;
        }
        if let Some(gid) = self.gid {
            // SAFETY: a call without preconditions; the child has no other threads to be changed with it.
            check(Step::Group, unsafe { libc::setgid(gid) })?;
        }
        if let Some(uid) = self.uid {
            // SAFETY: calls without preconditions.
            if self.groups.is_none() && unsafe { libc::getuid() } == 0 {
                // A process that ceases to be root does not keep root's groups.
                set_groups(&[])?;
            }
            // SAFETY: as for the group.
            check(Step::User, unsafe { libc::setuid(uid) })?;
        }
        Ok(())
    }
}

/// Gives the child `fd` under `number`, open across exec even if both are the same.
fn pass(fd: RawFd, number: RawFd) -> Result<(), Failed> {
    // SAFETY: neither call touches memory, and both return an error for a number that is not open.
    let done = unsafe {
        match fd == number {
            true => libc::fcntl(fd, libc::F_SETFD, 0),
            false => libc::dup2(fd, number),
        }
    };
    check(Step::Descriptors, done)
}

fn set_groups(groups: &[u32]) -> Result<(), Failed> {
    // SAFETY: the pointer leads to this many groups.
    let done = unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) };
    check(Step::Groups, done)
}

fn check(step: Step, returned: libc::c_int) -> Result<(), Failed> {
    match returned {
        -1 => Err(Failed::last_os_error(step)),
        _ => Ok(()),
    }
}

/// A closure that a process runs after it was forked and before its program begins.
///
/// For settings that have no method of their own: a limit, a session, a namespace, a priority.
pub struct PreExec(Box<dyn FnMut() -> io::Result<()> + Send + Sync>);

impl PreExec {
    /// Wraps a closure. If it returns an error or panics, starting the process fails with that error.
    ///
    /// # Safety
    /// The closure runs in a forked child of a process that may have other threads, like a hook of
    /// `std::os::unix::process::CommandExt::pre_exec`. Of those threads, only the one that starts the process exists
    /// in the child, and locks that the others held stay locked for ever. So the closure must
    ///
    /// * make only system calls that are safe in a signal handler ([signal-safety(7)]), on memory that was prepared
    ///   before. If it allocates, reads the environment, takes a lock or panics, it may hang or worse;
    /// * use nothing of this crate: the child has no entry in the process table before its program begins;
    /// * leave open the descriptors that it finds: the child reaches its parent through some of them.
    ///
    /// What it changes in memory is changed in the child only, and is gone when the program begins.
    ///
    /// [signal-safety(7)]: https://man7.org/linux/man-pages/man7/signal-safety.7.html
    pub unsafe fn new(hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> PreExec {
        PreExec(Box::new(hook))
    }
}

impl fmt::Debug for PreExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreExec(..)")
    }
}
