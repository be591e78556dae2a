//! Processes that must not outlive their parent.
//!
//! The parent holds the writing end of a pipe that nobody writes to. The child asks the kernel to
//! send it SIGKILL when something happens on the reading end, and the only thing that can happen
//! is that the parent is gone, or has become another program. Unlike `PR_SET_PDEATHSIG` this follows
//! the process, not the thread that started the child, and it may be asked for on behalf of a process
//! that is not the parent, but the parent's server.
//!
//! Where the kernel has no signals for pipes, nothing ties a process to its parent: one whose parent is killed goes on,
//! as with the standard library.
//!
//! One pipe serves all children. A child that was forked closes its copy of the writing end before
//! `fork` returns, or it would keep its siblings alive.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Signal, getpid, kill_process};

use crate::arena::fork::fork_guard;
use crate::error::{Error, Result};
use crate::sys::known_fd::{KnownFd, out_of_reach};

/// `F_SETSIG` of asm-generic/fcntl.h, which libc does not name everywhere.
const F_SETSIG: libc::c_int = 10;

/// The lines that this process has to do with.
struct Lines {
    /// What its children hang on to.
    own: Option<Line>,
    /// The reading end of its parent's, if it was forked from it.
    parents: Option<KnownFd>,
    /// What it hangs on to itself.
    held: Option<KnownFd>,
}

/// Known: the numbers may have become another file's, when the program closed all it had.
struct Line {
    read: KnownFd,
    write: KnownFd,
}

impl Line {
    fn is_whole(&self) -> bool {
        self.read.get().is_some() && self.write.get().is_some()
    }
}

static LINES: Mutex<Lines> = Mutex::new(Lines {
    own: None,
    parents: None,
    held: None,
});

fn lines() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    fn own(&mut self) -> Result<&Line> {
        if !self.own.as_ref().is_some_and(Line::is_whole) {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
                .map_err(|errno| Error::os("make a pipe", errno))?;
            // A child that became another user opens it by its path. Who may look at a process's
            // descriptors does, and can do no more with this one than find out when it is cut. (gVisor refuses;
            // `tie` then does without the path.)
            let _ = rustix::fs::fchmod(&read, Mode::RUSR | Mode::RGRP | Mode::ROTH);
            self.own = Some(Line {
                read: KnownFd::new(out_of_reach(read)?)?,
                write: KnownFd::new(out_of_reach(write)?)?,
            });
        }
        self.own.as_ref().ok_or(Error::BadHandle)
    }
}

/// Sees to it that a child about to be forked finds a line to [hang on to](hang_on_to_parent).
///
/// # Errors
/// When there are no descriptors left.
pub fn prepare() -> Result<()> {
    let _no_fork = fork_guard();
    lines().own().map(drop)
}

/// A reading end of this process's line, to pass to a child that is to [`hang_on`].
///
/// # Errors
/// When there are no descriptors left.
pub fn reading_end() -> Result<OwnedFd> {
    let _no_fork = fork_guard();
    let mut lines = lines();
    rustix::io::fcntl_dupfd_cloexec(lines.own()?.read.checked()?, 3)
        .map_err(|errno| Error::os("duplicate a descriptor", errno))
}

/// From here on this process dies when the one dies whose line this is the [reading end](reading_end) of.
/// The descriptor stays the caller's, to be closed.
///
/// # Errors
/// When there are no descriptors left, or this is not one.
pub fn hang_on(inherited: RawFd) -> Result<()> {
    let _no_fork = fork_guard();
    hang_on_guarded(inherited)
}

/// As [`hang_on`], for who holds the [`fork_guard`] already: to ask for it twice can wait for ever.
pub(crate) fn hang_on_guarded(inherited: RawFd) -> Result<()> {
    let held = tie(inherited)?;
    lines().held = held;
    Ok(())
}

/// As [`hang_on`], in a child that was forked by a process that was [prepared](prepare) for it.
///
/// # Errors
/// As [`hang_on`].
pub fn hang_on_to_parent() -> Result<()> {
    let _no_fork = fork_guard();
    let mut lines = lines();
    if let Some(inherited) = lines.parents.take() {
        lines.held = tie(inherited.checked()?.as_raw_fd())?;
    }
    Ok(())
}

/// In a forked child: what was its parent's own is its parent's, and what that held is nothing to it.
pub(crate) fn after_fork() {
    let mut lines = lines();
    lines.parents = lines.own.take().map(|line| line.read);
    lines.held = None;
}

/// Ties this process to a line; what has to stay open for that.
fn tie(inherited: RawFd) -> Result<Option<KnownFd>> {
    let failed = |errno| Error::os("tie the lifeline", errno);
    if !is_open(inherited) {
        return Err(failed(Errno::BADF));
    }
    // The owner of the signals belongs to the open file description, which the siblings share:
    // opening the pipe again gives one of our own.
    let path = format!("/proc/self/fd/{inherited}");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let own = rustix::fs::open(path, flags, Mode::empty());
    let asked = own.and_then(|read| {
        set_owner_and_signal(&read)?;
        rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK | OFlags::ASYNC)?;
        Ok(read)
    });
    match asked {
        Ok(read) => {
            die_if_cut(read.as_fd());
            KnownFd::new(read).map(Some)
        }
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(failed(errno)),
        Err(Errno::NOENT) => {
            // Without /proc the thread that forked this process has to do for the whole parent.
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
            // SAFETY: it is open (checked), and the caller's for as long as this call.
            die_if_cut(unsafe { BorrowedFd::borrow_raw(inherited) });
            Ok(None)
        }
        // A kernel that knows no signals of pipes, or a sandbox that refuses to ask for them. Not the signal at the
        // end of a thread instead: of a living process, the thread that started this one may end at any time.
        Err(_) => Ok(None),
    }
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: the command touches no memory, and a number that is no descriptor is an error of it.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

fn set_owner_and_signal(read: &OwnedFd) -> Result<(), Errno> {
    let me = getpid().as_raw_nonzero().get();
    let fd = read.as_raw_fd();
    // SAFETY: both commands take an int and touch no memory; the descriptor is open.
    let done = unsafe {
        libc::fcntl(fd, libc::F_SETOWN, me) == 0 && libc::fcntl(fd, F_SETSIG, libc::SIGKILL) == 0
    };
    if done {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

/// The parent may have gone before the signal was asked for.
fn die_if_cut(read: BorrowedFd<'_>) {
    let mut watched = [PollFd::from_borrowed_fd(read, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let looked = rustix::event::poll(&mut watched, Some(&at_once));
    if looked.is_ok() && watched[0].revents().contains(PollFlags::HUP) {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
