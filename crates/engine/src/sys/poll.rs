//! Sleeping on descriptors.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
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

/// Descriptors to look at together, without waiting.
#[derive(Debug, Default)]
pub struct PollSet {
    records: Vec<libc::pollfd>,
}

impl PollSet {
    /// An empty set.
    pub const fn new() -> PollSet {
        PollSet {
            records: Vec::new(),
        }
    }

    /// Adds a descriptor.
    pub fn add(&mut self, fd: RawFd) {
        self.records.push(libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
    }

    /// Removes a descriptor, if it was added.
    pub fn remove(&mut self, fd: RawFd) {
        if let Some(place) = self.records.iter().position(|record| record.fd == fd) {
            self.records.swap_remove(place);
        }
    }

    /// How many descriptors were added.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no descriptor was added.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether one of them is readable, or is closed, or the system refuses to say.
    pub fn has_ready(&mut self) -> bool {
        let count = self.records.len() as libc::nfds_t;
        // SAFETY: the records are the vector's own, and the kernel writes to no more than `count` of them. It checks each
        // number; to poll a descriptor of somebody else's does nothing to it.
        unsafe { libc::poll(self.records.as_mut_ptr(), count, 0) != 0 }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn a_set_is_ready_when_one_descriptor_is_readable_or_closed() {
        let (mut write, read) = std::os::unix::net::UnixStream::pair().unwrap();
        let (quiet, _end) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut set = PollSet::new();
        assert!(!set.has_ready() && set.is_empty());
        set.add(read.as_raw_fd());
        set.add(quiet.as_raw_fd());
        assert!(!set.has_ready());
        write.write_all(b".").unwrap();
        assert!(set.has_ready());
        set.remove(read.as_raw_fd());
        assert!(!set.has_ready() && set.len() == 1);
        drop(quiet);
        assert!(set.has_ready());
    }
}
