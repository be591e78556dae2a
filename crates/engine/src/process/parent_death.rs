//! Processes that must not outlive their parent.
//!
//! The parent holds the write end of a pipe, the *lifeline*, to which nobody writes. The child asks the kernel for a
//! signal when something happens on the read end. The only thing that can happen is that the last write end is
//! closed. Then the child checks whether it is still needed, and kills itself if not:
//!
//! ```text
//! the parent is gone, or became another program     the child ends
//! a process that was forked from it goes on         the child lives on: daemons are made this way
//! the parent closed all its descriptors             the child lives on
//! ```
//!
//! A process that is forked from the parent, and is no child of this package, keeps its copy of the write end, and is
//! registered as a successor (`process_table/successors.rs`). A child of this package gives up both before it does
//! anything else; otherwise it would keep its siblings alive.
//!
//! Unlike `PR_SET_PDEATHSIG` this follows the process, not the thread that started the child. It can also be set up
//! for a process that is not the parent, but the parent's server. A child whose lifeline was cut while it was needed
//! uses `PR_SET_PDEATHSIG` instead, and checks again at each such signal.
//!
//! Where the kernel has no signals for pipes, nothing binds a process to its parent: if the parent is killed, the
//! child goes on, as with the standard library. So does a process that blocks all signals in all its threads.

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

use crate::arena::home_if_any;
use crate::error::{Error, Result};
use crate::process::ProcId;
use crate::process_table::identity::fork_guard;
use crate::process_table::successors::Need;
use crate::sys::known_fd::{FileId, KnownFd, move_to_high_number};

/// `F_SETSIG` of asm-generic/fcntl.h, which libc does not name everywhere.
const F_SETSIG: c_int = 10;

/// How often, and at which interval, to check for a successor that is being forked.
const SUCCESSOR_CHECKS: u32 = 200;
const SUCCESSOR_CHECK_INTERVAL: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

/// The process that this one is bound to; zero if it cannot be found.
static BOUND_TO: AtomicU32 = AtomicU32::new(0);
/// Whether this process's lifeline was cut while it was needed: every later check finds it cut, and the signal for
/// the parent's end is to be requested once.
static CUT: AtomicU32 = AtomicU32::new(0);

/// The lifelines that concern this process.
struct Links {
    /// The one that its children are bound to.
    own: Option<Link>,
    /// The read end of its parent's, if it was forked from the parent.
    parents: Option<KnownFd>,
    /// The write ends of the processes that it succeeds.
    succeeded: Vec<KnownFd>,
    /// The one that it is bound to itself.
    bound_to: Option<KnownFd>,
}

/// The ends of one lifeline. Each is a [`KnownFd`]: the program may have closed all its descriptors, and the numbers
/// may name other files by now.
struct Link {
    read: KnownFd,
    write: KnownFd,
}

impl Link {
    fn is_whole(&self) -> bool {
        self.read.get().is_some() && self.write.get().is_some()
    }
}

static LINKS: Mutex<Links> = Mutex::new(Links {
    own: None,
    parents: None,
    succeeded: Vec::new(),
    bound_to: None,
});

fn links() -> MutexGuard<'static, Links> {
    LINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Links {
    fn stop_succeeding(&mut self) {
        // Before the write ends are closed: a process that finds its lifeline cut looks for successors.
        if let Some(arena) = home_if_any() {
            arena.clear_successor_of();
        }
        self.succeeded.clear();
    }

    fn own(&mut self) -> Result<&Link> {
        if !self.own.as_ref().is_some_and(Link::is_whole) {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
                .map_err(|errno| Error::os("make a pipe", errno))?;
            // A child that became another user opens it by its path. So can anybody who may see the process's
            // descriptors, but all they can learn from it is when it is cut. (gVisor refuses; `bind` then does
            // without the path.)
            let _ = rustix::fs::fchmod(&read, Mode::RUSR | Mode::RGRP | Mode::ROTH);
            if let Some((arena, file)) = home_if_any().zip(FileId::of(read.as_raw_fd())) {
                arena.set_lifeline(file.inode());
            }
            self.own = Some(Link {
                read: KnownFd::new(move_to_high_number(read)?)?,
                write: KnownFd::new(move_to_high_number(write)?)?,
            });
        }
        self.own.as_ref().ok_or(Error::BadHandle)
    }
}

/// Makes sure that a child about to be forked finds a lifeline to [bind itself to](die_with_parent).
///
/// # Errors
/// When there are no descriptors left.
pub fn prepare() -> Result<()> {
    let _no_fork = fork_guard();
    links().own().map(drop)
}

/// A read end of this process's lifeline, to pass to a child that is to [`die_with`] this process.
///
/// # Errors
/// When there are no descriptors left.
pub fn reading_end() -> Result<OwnedFd> {
    let _no_fork = fork_guard();
    let mut links = links();
    rustix::io::fcntl_dupfd_cloexec(links.own()?.read.checked()?, 3)
        .map_err(|errno| Error::os("duplicate a descriptor", errno))
}

/// Makes this process die with the one whose lifeline this is the [read end](reading_end) of. The descriptor still
/// belongs to the caller, who closes it.
///
/// # Errors
/// When there are no descriptors left, or this is not one.
pub fn die_with(inherited: RawFd) -> Result<()> {
    let _no_fork = fork_guard();
    die_with_guarded(inherited)
}

/// As [`die_with`], for a caller that already holds the [`fork_guard`]: taking it twice can deadlock.
pub(crate) fn die_with_guarded(inherited: RawFd) -> Result<()> {
    let held = bind(inherited)?;
    links().bound_to = held;
    Ok(())
}

/// As [`die_with`], in a child forked by a process that was [prepared](prepare) for it.
///
/// # Errors
/// As [`die_with`].
pub fn die_with_parent() -> Result<()> {
    let _no_fork = fork_guard();
    let mut links = links();
    links.stop_succeeding();
    if let Some(inherited) = links.parents.take() {
        links.bound_to = bind(inherited.checked()?.as_raw_fd())?;
    }
    Ok(())
}

/// Makes a child that was forked for a purpose of its own no successor of its parent, nor of the processes that its
/// parent succeeds.
pub fn outlive_parents() {
    let _no_fork = fork_guard();
    links().stop_succeeding();
}

/// Runs in a forked child: the lifelines that were its parent's own stay the parent's, and the one that the parent
/// was bound to does not concern the child.
pub(crate) fn after_fork() {
    let mut links = links();
    links.parents = None;
    if let Some(link) = links.own.take() {
        links.parents = Some(link.read);
        links.succeeded.push(link.write);
    }
    links.bound_to = None;
    BOUND_TO.store(0, Ordering::SeqCst);
    CUT.store(0, Ordering::SeqCst);
}

/// Binds this process to a lifeline. Returns the descriptor that has to stay open for that.
fn bind(inherited: RawFd) -> Result<Option<KnownFd>> {
    let failed = |errno| Error::os("bind the lifeline", errno);
    if !is_open(inherited) {
        return Err(failed(Errno::BADF));
    }
    let link = FileId::of(inherited).map_or(0, FileId::inode);
    let holder = home_if_any().and_then(|arena| arena.lifeline_owner(link));
    BOUND_TO.store(holder.map_or(0, ProcId::as_u32), Ordering::SeqCst);
    let Some(signal) = cut_signal() else {
        return Err(failed(Errno::BUSY));
    };
    // The signal's owner is a property of the open file description, which the siblings share. Opening the pipe again
    // gives a description of our own.
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
            check_if_cut(read.as_fd());
            KnownFd::new(read).map(Some)
        }
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(failed(errno)),
        Err(Errno::NOENT) => {
            // Without /proc, the thread that forked this process has to stand for the whole parent.
            request_parent_death_signal(signal);
            // SAFETY: it is open (checked), and belongs to the caller for the whole call.
            check_if_cut(unsafe { BorrowedFd::borrow_raw(inherited) });
            Ok(None)
        }
        // The kernel has no signals for pipes, or a sandbox refuses them. The signal at the end of a thread is no
        // substitute here: the thread that started this process may end at any time while its process lives on.
        Err(_) => Ok(None),
    }
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: the command touches no memory, and returns an error for a number that is not open.
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

/// Checks whether the lifeline was cut before the signal was requested.
fn check_if_cut(read: BorrowedFd<'_>) {
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

/// A signal that the program makes no use of, with our handler installed. The same one at each call.
fn cut_signal() -> Option<c_int> {
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
            // SAFETY: zeroed, with flags that fit the handler; the handler does only what signal handlers may do.
            unsafe {
                let action = action.assume_init_mut();
                action.sa_sigaction = ours;
                action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
                libc::sigaction(*signal, action, std::ptr::null_mut()) == 0
            }
        })
}

extern "C" fn on_cut(_: c_int) {
    // SAFETY: `errno` of this thread, which the handler restores.
    unsafe {
        let errno = *libc::__errno_location();
        end_unless_needed();
        *libc::__errno_location() = errno;
    }
}

/// Ends this process, unless the one that it is bound to, or a successor of it, still needs it.
///
/// Runs in a signal handler: it uses atomics and system calls alone.
fn end_unless_needed() {
    let need = || {
        let holder = ProcId::from_u32(BOUND_TO.load(Ordering::SeqCst));
        let bound = holder.zip(home_if_any());
        bound.map_or(Need::Never, |(holder, arena)| arena.need_of(holder))
    };
    if need() == Need::Now && CUT.swap(1, Ordering::SeqCst) == 0 {
        // The lifeline reports nothing more. The kernel's parent, whose end the signal reports, may be another
        // process than the one that this process is bound to.
        if let Some(signal) = cut_signal() {
            request_parent_death_signal(signal);
        }
    }
    // A process that was killed while it forked leaves an entry that nobody claims.
    for _ in 0..SUCCESSOR_CHECKS {
        if need() != Need::Soon {
            break;
        }
        // SAFETY: the time is valid, and nothing is written back.
        unsafe { libc::nanosleep(&SUCCESSOR_CHECK_INTERVAL, std::ptr::null_mut()) };
    }
    if need() != Need::Now {
        // SAFETY: calls without preconditions.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

/// Requests the signal at the end of the thread that started this process.
fn request_parent_death_signal(signal: c_int) {
    // SAFETY: a call that touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}
