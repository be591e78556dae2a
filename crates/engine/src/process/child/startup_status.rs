//! How a forked child tells its parent which step failed.
//!
//! ```text
//! step u8 | errno i32, or 0 | a message in words, when there is no errno
//! ```
//!
//! A message is written in one piece, into a pipe that closes when the child's program begins. A child that does not
//! change its program sends [`Step::Done`].
//!
//! A process that another thread forks meanwhile closes its copy of the write end before `fork` returns. Otherwise
//! the parent would also wait for the end of that process.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::error::{Error, Result};
use crate::process::child::launch::duplicate;
use crate::process_table::identity::fork_guard;

const HEADER: usize = 5;
/// Less than a pipe accepts in one piece.
const MAX_MESSAGE: usize = 512;

/// What a child does before its program or function begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    Entry,
    Descriptors,
    Groups,
    Group,
    User,
    Directory,
    Hook,
    Lifeline,
    Program,
    Done,
}

impl Step {
    const ALL: [Step; 10] = [
        Step::Entry,
        Step::Descriptors,
        Step::Groups,
        Step::Group,
        Step::User,
        Step::Directory,
        Step::Hook,
        Step::Lifeline,
        Step::Program,
        Step::Done,
    ];

    fn name(self) -> &'static str {
        match self {
            Step::Entry => "register a forked process in the shared memory",
            Step::Descriptors => "pass descriptors to a process",
            Step::Groups => "set the supplementary groups of a process",
            Step::Group => "set the group of a process",
            Step::User => "set the user of a process",
            Step::Directory => "set the directory of a process",
            Step::Hook => "run the pre-exec hook of a process",
            Step::Lifeline => "bind the lifeline of a process",
            Step::Program | Step::Done => "start a process",
        }
    }
}

/// A failed step, and why it failed. Made without allocating.
pub(crate) struct Failed {
    bytes: [u8; MAX_MESSAGE],
    len: usize,
}

impl Failed {
    pub(crate) fn with_errno(step: Step, errno: i32) -> Failed {
        let mut bytes = [0; MAX_MESSAGE];
        bytes[0] = step as u8;
        bytes[1..HEADER].copy_from_slice(&errno.to_le_bytes());
        Failed { bytes, len: HEADER }
    }

    /// The last error of the C library.
    pub(crate) fn last_os_error(step: Step) -> Failed {
        let errno = std::io::Error::last_os_error().raw_os_error();
        Failed::with_errno(step, errno.unwrap_or(libc::EINVAL))
    }

    pub(crate) fn from_io_error(step: Step, error: &std::io::Error) -> Failed {
        match error.raw_os_error() {
            Some(errno) => Failed::with_errno(step, errno),
            None => Failed::with_message(step, error),
        }
    }

    pub(crate) fn with_message(step: Step, message: impl std::fmt::Display) -> Failed {
        let mut failed = Failed::with_errno(step, 0);
        let mut room = &mut failed.bytes[HEADER..];
        // Truncated if it does not fit.
        let _ = write!(room, "{message}");
        failed.len = MAX_MESSAGE - room.len();
        failed
    }
}

/// The parent's end and the child's end.
pub(crate) fn pipe() -> Result<(Reader, Writer)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|errno| Error::os("make a pipe", errno))?;
    // The numbers of the standard streams are about to be replaced in the child.
    Ok((
        Reader(duplicate(read.as_raw_fd())?),
        Writer(duplicate(write.as_raw_fd())?),
    ))
}

/// The child's end.
pub(crate) struct Writer(OwnedFd);

impl Writer {
    pub(crate) fn send_done(&self) {
        self.send(&Failed::with_errno(Step::Done, 0));
    }

    /// Sends without reporting errors: a parent that cannot be told sees how the child ended.
    pub(crate) fn send(&self, failed: &Failed) {
        while rustix::io::write(&self.0, &failed.bytes[..failed.len]) == Err(Errno::INTR) {}
    }
}

/// The write end for a child that becomes another program; the parent has it for a moment.
pub(crate) struct UntilExec(Option<Writer>);

/// All of these; a forked child has copies, which it must close.
static UNTIL_EXEC: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

fn until_exec() -> MutexGuard<'static, Vec<RawFd>> {
    UNTIL_EXEC.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`pipe`], for a child that becomes another program.
pub(crate) fn pipe_until_exec() -> Result<(Reader, UntilExec)> {
    let _no_fork = fork_guard();
    let (reader, writer) = pipe()?;
    until_exec().push(writer.0.as_raw_fd());
    Ok((reader, UntilExec(Some(writer))))
}

impl UntilExec {
    pub(crate) fn send(&self, failed: &Failed) {
        if let Some(writer) = &self.0 {
            writer.send(failed);
        }
    }
}

impl Drop for UntilExec {
    fn drop(&mut self) {
        let _no_fork = fork_guard();
        if let Some(writer) = self.0.take() {
            until_exec().retain(|&number| number != writer.0.as_raw_fd());
        }
    }
}

/// Runs in a forked child: closes the ends of pipes between its siblings and their parent.
pub(crate) fn after_fork() {
    for number in std::mem::take(&mut *until_exec()) {
        // SAFETY: it is open, since it is listed, and its owner is in a thread that this process does not have.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}

/// The parent's end.
pub(crate) struct Reader(OwnedFd);

impl Reader {
    /// Waits until the child has taken every step, or ended. An error if a step failed.
    pub(crate) fn wait(self, child: impl AsFd) -> Result<()> {
        let ended = child.as_fd();
        loop {
            let mut watched = [
                PollFd::new(&self.0, PollFlags::IN),
                PollFd::from_borrowed_fd(ended, PollFlags::IN),
            ];
            match rustix::event::poll(&mut watched, None) {
                // Whatever a child sent before it ended is in the pipe.
                Ok(_) if !watched[0].revents().is_empty() => return self.read(),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(Error::os("wait for a child", errno)),
            }
        }
    }

    fn read(&self) -> Result<()> {
        let mut bytes = [0; MAX_MESSAGE];
        let len = loop {
            match rustix::io::read(&self.0, &mut bytes) {
                Ok(len) => break len,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os("read the startup status of a child", errno)),
            }
        };
        let Some((head, message)) = bytes[..len].split_first_chunk::<HEADER>() else {
            return Ok(());
        };
        let [step, errno @ ..] = *head;
        let step = Step::ALL.into_iter().find(|known| *known as u8 == step);
        match step {
            None | Some(Step::Done) => Ok(()),
            Some(step) => Err(Error::Os {
                what: step.name(),
                source: match i32::from_le_bytes(errno) {
                    0 => std::io::Error::other(String::from_utf8_lossy(message).into_owned()),
                    errno => std::io::Error::from_raw_os_error(errno),
                },
            }),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn result_of(failed: &Failed) -> Result<()> {
        let (reader, writer) = pipe().unwrap();
        writer.send(failed);
        reader.read()
    }

    #[test]
    fn what_a_child_says_arrives() {
        for step in Step::ALL {
            let arrived = result_of(&Failed::with_errno(step, libc::EPERM));
            match arrived {
                Ok(()) => assert_eq!(step, Step::Done),
                Err(Error::Os { what, source }) => {
                    assert_eq!(what, step.name());
                    assert_eq!(source.raw_os_error(), Some(libc::EPERM));
                }
                Err(other) => panic!("{other}"),
            }
        }
        let arrived = result_of(&Failed::with_message(Step::Hook, "no \u{e9}tude")).unwrap_err();
        assert!(arrived.to_string().ends_with("no \u{e9}tude"), "{arrived}");
        let long = "x".repeat(10_000);
        let arrived = result_of(&Failed::with_message(Step::Hook, &long)).unwrap_err();
        assert!(arrived.to_string().ends_with("xxx"), "{arrived}");
    }

    #[test]
    fn a_pipe_that_is_closed_without_a_word_is_success() {
        let (reader, writer) = pipe().unwrap();
        drop(writer);
        reader.read().unwrap();
    }
    #[test]
    fn a_process_that_is_forked_meanwhile_does_not_keep_the_pipe_open() {
        crate::process::ensure().unwrap();
        let (reader, writer) = pipe_until_exec().unwrap();
        let (go, go_sender) = rustix::pipe::pipe().unwrap();
        // SAFETY: the child closes a descriptor, waits and ends.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(go_sender);
            let _ = rustix::io::read(&go, &mut [0]);
            // SAFETY: a call without preconditions.
            unsafe { libc::_exit(0) }
        }
        drop(writer);
        reader.read().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let wait = |options| rustix::process::waitpid(Some(pid), options).unwrap();
        let still_there = wait(rustix::process::WaitOptions::NOHANG).is_none();
        drop(go_sender);
        let ended = still_there.then(|| wait(rustix::process::WaitOptions::empty()));
        assert!(still_there && ended.is_some());
        if let Some(proc_id) = crate::process::forked_child() {
            crate::process::reap(proc_id);
        }
    }
}
