//! Sleeping on descriptors.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use rustix::event::{self, PollFd, PollFlags};
use rustix::io::Errno;

use crate::sys::futex::Slept;
use crate::sys::signals;

/// Longer than any program runs, in seconds.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// Sleeps until `fd` is readable or its other end is closed, at most for `time`. The caller checks afterwards.
pub(crate) fn wait(fd: BorrowedFd<'_>, time: Option<Duration>) -> Slept {
    let time = time.unwrap_or(FOR_EVER);
    let (seconds, nanos) = (time.as_secs() as i64, i64::from(time.subsec_nanos()));
    if signals::is_attentive() {
        return attentive_wait(fd, (seconds, nanos));
    }
    let timeout = rustix::time::Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    match event::poll(&mut fds, Some(&timeout)) {
        Err(Errno::INTR) => Slept::Interrupted,
        _ => Slept::Stirred,
    }
}

fn attentive_wait(fd: BorrowedFd<'_>, time: (i64, i64)) -> Slept {
    let mut fds = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let no_mask = ptr::null::<libc::sigset_t>();
    let slept = signals::sleep(None, time, |until| {
        // SAFETY: one descriptor's record, which outlives the call, and a time that the kernel may also write to. (Not
        // the C library's function: that one reads the time before the call.)
        unsafe { libc::syscall(libc::SYS_ppoll, &raw mut fds, 1, until, no_mask, 8) }
    });
    match slept {
        None => Slept::Interrupted,
        Some(-1) if std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {
            Slept::Interrupted
        }
        Some(_) => Slept::Stirred,
    }
}
