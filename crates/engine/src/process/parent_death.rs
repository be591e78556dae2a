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
//! as an successor (`arena/successors.rs`). A child of this package gives both up before it does anything, or it would keep
//! its siblings alive.
//!
//! Unlike `PR_SET_PDEATHSIG` this follows the process, not the thread that started the child, and it may be asked for
//! on behalf of a process that is not the parent, but the parent's server. A child whose link was cut while it was
//! needed has that signal instead, and looks again at each.
//!
//! Where the kernel has no signals for pipes, nothing binds a process to its parent: one whose parent is killed goes on,
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

use crate::error::{Error, Result};
use crate::memory::home_if_any;
use crate::process::ProcId;
use crate::process::fork::fork_guard;
use crate::process::successors::Need;
use crate::sys::known_fd::{FileId, KnownFd, move_to_high_number};

/// `F_SETSIG` of asm-generic/fcntl.h, which libc does not name everywhere.
const F_SETSIG: c_int = 10;

/// So often an successor that is being forked is waited for, and so long.
const LOOKS: u32 = 200;
const A_MOMENT: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

/// The process that this one is bound to; zero for one that cannot be found.
static BOUND_TO: AtomicU32 = AtomicU32::new(0);
/// Whether this process's link was cut while it was needed: every later look finds it cut, and the parent's end is to be
/// asked for once.
static CUT: AtomicU32 = AtomicU32::new(0);

/// The links that this process has to do with.
struct Links {
    /// What its children hang on to.
    own: Option<Link>,
    /// The reading end of its parent's, if it was forked from it.
    parents: Option<KnownFd>,
    /// The writing ends of those whose successor it is.
    kept: Vec<KnownFd>,
    /// What it hangs on to itself.
    held: Option<KnownFd>,
}

/// Known: the numbers may have become another file's, when the program closed all it had.
struct Link {
    read: KnownFd,
    write: KnownFd,
}

impl Link {
    fn is_whole(&self) -> bool {
        self.read.get().is_some() && self.write.get().is_some()
    }
}

static LINES: Mutex<Links> = Mutex::new(Links {
    own: None,
    parents: None,
    kept: Vec::new(),
    held: None,
});

fn links() -> MutexGuard<'static, Links> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Links {
    fn let_go(&mut self) {
        // Before the writing ends: whoever finds one cut looks for successors.
        if let Some(arena) = home_if_any() {
            arena.be_no_successor();
        }
        self.kept.clear();
    }

    fn own(&mut self) -> Result<&Link> {
        if !self.own.as_ref().is_some_and(Link::is_whole) {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
                .map_err(|errno| Error::os("make a pipe", errno))?;
            // A child that became another user opens it by its path. Who may look at a process's
            // descriptors does, and can do no more with this one than find out when it is cut. (gVisor refuses;
            // `bind` then does without the path.)
            let _ = rustix::fs::fchmod(&read, Mode::RUSR | Mode::RGRP | Mode::ROTH);
            if let Some((arena, file)) = home_if_any().zip(FileId::of(read.as_raw_fd())) {
                arena.note_line(file.inode());
            }
            self.own = Some(Link {
                read: KnownFd::new(move_to_high_number(read)?)?,
                write: KnownFd::new(move_to_high_number(write)?)?,
            });
        }
        self.own.as_ref().ok_or(Error::BadHandle)
    }
}

/// Sees to it that a child about to be forked finds a link to [hang on to](die_with_parent).
///
/// # Errors
/// When there are no descriptors left.
pub fn prepare() -> Result<()> {
    let _no_fork = fork_guard();
    links().own().map(drop)
}

/// A reading end of this process's link, to pass to a child that is to [`die_with`].
///
/// # Errors
/// When there are no descriptors left.
pub fn reading_end() -> Result<OwnedFd> {
    let _no_fork = fork_guard();
    let mut links = links();
    rustix::io::fcntl_dupfd_cloexec(links.own()?.read.checked()?, 3)
        .map_err(|errno| Error::os("duplicate a descriptor", errno))
}

/// From here on this process dies when the one dies whose link this is the [reading end](reading_end) of.
/// The descriptor stays the caller's, to be closed.
///
/// # Errors
/// When there are no descriptors left, or this is not one.
pub fn die_with(inherited: RawFd) -> Result<()> {
    let _no_fork = fork_guard();
    hang_on_guarded(inherited)
}

/// As [`die_with`], for who holds the [`fork_guard`] already: to ask for it twice can wait for ever.
pub(crate) fn hang_on_guarded(inherited: RawFd) -> Result<()> {
    let held = bind(inherited)?;
    links().held = held;
    Ok(())
}

/// As [`die_with`], in a child that was forked by a process that was [prepared](prepare) for it.
///
/// # Errors
/// As [`die_with`].
pub fn die_with_parent() -> Result<()> {
    let _no_fork = fork_guard();
    let mut links = links();
    links.let_go();
    if let Some(inherited) = links.parents.take() {
        links.held = bind(inherited.checked()?.as_raw_fd())?;
    }
    Ok(())
}

/// In a child that was forked for a purpose of its own: it is no successor of its parent's, nor of those its parent is of.
pub fn outlive_parents() {
    let _no_fork = fork_guard();
    links().let_go();
}

/// In a forked child: what was its parent's own is its parent's, and what that held is nothing to it.
pub(crate) fn after_fork() {
    let mut links = links();
    links.parents = None;
    if let Some(link) = links.own.take() {
        links.parents = Some(link.read);
        links.kept.push(link.write);
    }
    links.held = None;
    BOUND_TO.store(0, Ordering::SeqCst);
    CUT.store(0, Ordering::SeqCst);
}

/// Binds this process to a link; what has to stay open for that.
fn bind(inherited: RawFd) -> Result<Option<KnownFd>> {
    let failed = |errno| Error::os("bind the lifeline", errno);
    if !is_open(inherited) {
        return Err(failed(Errno::BADF));
    }
    let link = FileId::of(inherited).map_or(0, FileId::inode);
    let holder = home_if_any().and_then(|arena| arena.holder_of_line(link));
    BOUND_TO.store(holder.map_or(0, ProcId::as_u32), Ordering::SeqCst);
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

/// The link may have been cut before the signal was asked for.
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

/// Ends this process unless the one that it is bound to, or an successor of it, needs it still.
///
/// In a handler: atomics and system calls alone.
fn end_unless_needed() {
    let need = || {
        let holder = ProcId::from_u32(BOUND_TO.load(Ordering::SeqCst));
        let bound = holder.zip(home_if_any());
        bound.map_or(Need::Never, |(holder, arena)| arena.need_of(holder))
    };
    if need() == Need::Now && CUT.swap(1, Ordering::SeqCst) == 0 {
        // The link tells nothing any more. That may be the parent of another process, whose end tells nothing either.
        if let Some(signal) = signal_of_cuts() {
            hear_of_parent(signal);
        }
    }
    // Who was killed while it forked leaves a slot that nobody takes.
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
