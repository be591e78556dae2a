//! A child that must not outlive its parent.
//!
//! The parent holds the writing end of a pipe that nobody writes to. The child asks the kernel to
//! send it SIGKILL when something happens on the reading end, and the only thing that can happen
//! is that the parent is gone. Unlike `PR_SET_PDEATHSIG` this follows the process, not the thread
//! that started the child.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, getpid};

use crate::error::{Error, Result};

/// `F_SETSIG` of asm-generic/fcntl.h, which libc does not name everywhere.
const F_SETSIG: libc::c_int = 10;

/// A reading end of this process's lifeline, to pass to a child.
pub(super) fn reading_end() -> Result<OwnedFd> {
    struct Line {
        of: Pid,
        read: OwnedFd,
        _write: OwnedFd,
    }
    static LINE: Mutex<Option<Line>> = Mutex::new(None);

    let _no_fork = crate::arena::fork::fork_guard();

    let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    // A forked process needs a line of its own: the one it inherited ends with its parent too.
    let line = match &mut *line {
        Some(line) if line.of == getpid() => line,
        stale => {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
                .map_err(|errno| Error::os("make a pipe", errno))?;
            stale.insert(Line {
                of: getpid(),
                read,
                _write: write,
            })
        }
    };
    rustix::io::fcntl_dupfd_cloexec(&line.read, 3)
        .map_err(|errno| Error::os("duplicate a descriptor", errno))
}

/// From here on this process dies when the one that holds the writing end does.
pub(super) fn hang_on(inherited: OwnedFd) -> Result<()> {
    static HELD: OnceLock<OwnedFd> = OnceLock::new();

    // The owner of the signals belongs to the open file description, which the siblings share:
    // opening the pipe again gives one of our own.
    let path = format!("/proc/self/fd/{}", inherited.as_raw_fd());
    let read = rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::os("open the lifeline through /proc", errno))?;
    set_owner_and_signal(&read).map_err(|errno| Error::os("tie the lifeline", errno))?;
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK | OFlags::ASYNC)
        .map_err(|errno| Error::os("tie the lifeline", errno))?;
    if is_cut(&read) {
        // The parent went before the signal was asked for.
        let _ = rustix::process::kill_process(getpid(), Signal::KILL);
    }
    let _ = HELD.set(read);
    Ok(())
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

fn is_cut(read: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(read, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut watched, Some(&at_once)).is_ok()
        && watched[0].revents().contains(PollFlags::HUP)
}
