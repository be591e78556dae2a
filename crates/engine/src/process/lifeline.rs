//! Processes that must not outlive their parent.
//!
//! The parent holds the writing end of a pipe that nobody writes to. The child asks the kernel for a signal when
//! something happens on the reading end, and the only thing that can happen is that nobody holds the writing end any
//! more. Then the child looks whether it is needed still, and kills itself if not:
//!
//! ```text
//! the parent is gone, or another program            the end
//! a program that was forked from it goes on         not the end: daemons are made so
//! it closed all its descriptors                     not the end
//! ```
//!
//! What is forked from the parent, and no child of this package, keeps its copy of the writing end, and is in the books
//! as an heir (`arena/heirs.rs`). A child of this package gives both up before it does anything, or it would keep
//! its siblings alive.
//!
//! Unlike `PR_SET_PDEATHSIG` this follows the process, not the thread that started the child, and it may be asked for
//! on behalf of a process that is not the parent, but the parent's server. A child whose line was cut while it was
//! needed has that signal instead, and looks again at each.
//!
//! Where the kernel has no signals for pipes, nothing ties a process to its parent: one whose parent is killed goes on,
//! as with the standard library. So does one that blocks all signals in all its threads.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::getpid;

use crate::arena::fork::fork_guard;
use crate::arena::heirs::Need;
use crate::arena::home_if_any;
use crate::error::{Error, Result};
use crate::process::OwnerId;
use crate::sys::known_fd::{FileId, KnownFd, out_of_reach};

/// `F_SETSIG` of asm-generic/fcntl.h, which libc does not name everywhere.
const F_SETSIG: c_int = 10;

/// So often an heir that is being forked is waited for, and so long.
const LOOKS: u32 = 200;
const A_MOMENT: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

/// The process that this one is tied to; zero for one that cannot be found.
static TIED_TO: AtomicU32 = AtomicU32::new(0);
/// Whether this process's line was cut while it was needed: every later look finds it cut, and the parent's end is to be
/// asked for once.
static CUT: AtomicU32 = AtomicU32::new(0);

/// The lines that this process has to do with.
struct Lines {
    /// What its children hang on to.
    own: Option<Line>,
    /// The reading end of its parent's, if it was forked from it.
    parents: Option<KnownFd>,
    /// The writing ends of those whose heir it is.
    kept: Vec<KnownFd>,
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
    kept: Vec::new(),
    held: None,
});

fn lines() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    fn let_go(&mut self) {
        // Before the writing ends: whoever finds one cut looks for heirs.
        if let Some(arena) = home_if_any() {
            arena.be_no_heir();
        }
        self.kept.clear();
    }

    fn own(&mut self) -> Result<&Line> {
        if !self.own.as_ref().is_some_and(Line::is_whole) {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
                .map_err(|errno| Error::os("make a pipe", errno))?;
            // A child that became another user opens it by its path. Who may look at a process's
            // descriptors does, and can do no more with this one than find out when it is cut. (gVisor refuses;
            // `tie` then does without the path.)
            let _ = rustix::fs::fchmod(&read, Mode::RUSR | Mode::RGRP | Mode::ROTH);
            if let Some((arena, file)) = home_if_any().zip(FileId::of(read.as_raw_fd())) {
                arena.note_line(file.inode());
            }
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
    lines.let_go();
    if let Some(inherited) = lines.parents.take() {
        lines.held = tie(inherited.checked()?.as_raw_fd())?;
    }
    Ok(())
}

/// In a child that was forked for a purpose of its own: it is no heir of its parent's, nor of those its parent is of.
pub fn let_go_of_parents() {
    let _no_fork = fork_guard();
    lines().let_go();
}

/// In a forked child: what was its parent's own is its parent's, and what that held is nothing to it.
pub(crate) fn after_fork() {
    let mut lines = lines();
    lines.parents = None;
    if let Some(line) = lines.own.take() {
        lines.parents = Some(line.read);
        lines.kept.push(line.write);
    }
    lines.held = None;
    TIED_TO.store(0, Ordering::SeqCst);
    CUT.store(0, Ordering::SeqCst);
}

/// Ties this process to a line; what has to stay open for that.
fn tie(inherited: RawFd) -> Result<Option<KnownFd>> {
    let failed = |errno| Error::os("tie the lifeline", errno);
    if !is_open(inherited) {
        return Err(failed(Errno::BADF));
    }
    let line = FileId::of(inherited).map_or(0, FileId::inode);
    let holder = home_if_any().and_then(|arena| arena.holder_of_line(line));
    TIED_TO.store(holder.map_or(0, OwnerId::as_u32), Ordering::SeqCst);
    let Some(signal) = signal_of_cuts() else {
        return Err(failed(Errno::BUSY));
    };
    // The owner of the signals belongs to the open file description, which the siblings share:
    // opening the pipe again gives one of our own.
    let path = format!("/proc/self/fd/{inherited}");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let own = rustix::fs::open(path, flags, Mode::empty());
    let asked = own.and_then(|read| {
        set_owner_and_signal(&read, signal)?;
        rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK | OFlags::ASYNC)?;
        Ok(read)
    });
    match asked {
        Ok(read) => {
            look_if_cut(read.as_fd());
            KnownFd::new(read).map(Some)
        }
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(failed(errno)),
        Err(Errno::NOENT) => {
            // Without /proc the thread that forked this process has to do for the whole parent.
            hear_of_parent(signal);
            // SAFETY: it is open (checked), and the caller's for as long as this call.
            look_if_cut(unsafe { BorrowedFd::borrow_raw(inherited) });
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

fn set_owner_and_signal(read: &OwnedFd, signal: c_int) -> Result<(), Errno> {
    let me = getpid().as_raw_nonzero().get();
    let fd = read.as_raw_fd();
    // SAFETY: both commands take an int and touch no memory; the descriptor is open.
    let done = unsafe {
        libc::fcntl(fd, libc::F_SETOWN, me) == 0 && libc::fcntl(fd, F_SETSIG, signal) == 0
    };
    if done {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

/// The line may have been cut before the signal was asked for.
fn look_if_cut(read: BorrowedFd<'_>) {
    let mut watched = [PollFd::from_borrowed_fd(read, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let looked = rustix::event::poll(&mut watched, Some(&at_once));
    if looked.is_ok() && watched[0].revents().contains(PollFlags::HUP) {
        end_unless_needed();
    }
}

/// The signal that tells of cuts, with its handler: one that the program makes no use of. The same at each call.
fn signal_of_cuts() -> Option<c_int> {
    let ours = on_cut as extern "C" fn(c_int) as usize;
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    (libc::SIGRTMIN()..=libc::SIGRTMAX() - 11)
        .rev()
        .find(|signal| {
            // SAFETY: it only reads, into memory that is large enough and valid when zeroed.
            let handler = unsafe {
                libc::sigaction(*signal, std::ptr::null(), action.as_mut_ptr());
                action.assume_init_ref().sa_sigaction
            };
            if handler == ours {
                return true;
            }
            if handler != libc::SIG_DFL {
                return false;
            }
            // SAFETY: zeroed, with the handler's kind in the flags; the handler keeps to what handlers may do.
            unsafe {
                let action = action.assume_init_mut();
                action.sa_sigaction = ours;
                action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
                libc::sigaction(*signal, action, std::ptr::null_mut()) == 0
            }
        })
}

extern "C" fn on_cut(_: c_int) {
    // SAFETY: `errno` of this thread, of which a handler leaves no trace.
    unsafe {
        let errno = *libc::__errno_location();
        end_unless_needed();
        *libc::__errno_location() = errno;
    }
}

/// Ends this process unless the one that it is tied to, or an heir of it, needs it still.
///
/// In a handler: atomics and system calls alone.
fn end_unless_needed() {
    let need = || {
        let holder = OwnerId::from_u32(TIED_TO.load(Ordering::SeqCst));
        let tied = holder.zip(home_if_any());
        tied.map_or(Need::Never, |(holder, arena)| arena.need_of(holder))
    };
    if need() == Need::Now && CUT.swap(1, Ordering::SeqCst) == 0 {
        // The line tells nothing any more. That may be the parent of another process, whose end tells nothing either.
        if let Some(signal) = signal_of_cuts() {
            hear_of_parent(signal);
        }
    }
    // Who was killed while it forked leaves a seat that nobody takes.
    for _ in 0..LOOKS {
        if need() != Need::Soon {
            break;
        }
        // SAFETY: the time is valid, and nothing is written back.
        unsafe { libc::nanosleep(&A_MOMENT, std::ptr::null_mut()) };
    }
    if need() != Need::Now {
        // SAFETY: calls without preconditions.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

/// Asks for the signal when the thread ends that started this process.
fn hear_of_parent(signal: c_int) {
    // SAFETY: a call that touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}
