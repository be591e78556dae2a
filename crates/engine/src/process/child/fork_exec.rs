//! Programs that start after a fork and steps of our own.
//!
//! `posix_spawn` supports no users, groups or hooks, so [`exec`] does by hand what `posix_spawn` does inside. There are
//! three ways to fork:
//!
//! * A `vfork`-like clone shares its memory with the parent. A hook would write into it, and `setuid` of the C library
//!   would change the parent's threads.
//! * `_Fork`, or a raw `clone`, leaves the C library's own locks as other threads held them, and also its list of
//!   threads, to which `setuid` sends signals. Hooks that allocate, as many do, would hang now and then.
//! * `fork` of the C library repairs all that, and calls the registered fork handlers. Our handlers would reserve an
//!   entry, which the child would claim and then leave by exec, and would make the child a holder of everything that
//!   the parent holds. They skip this fork ([`without_handlers`]), so there is nothing to undo: the child is in the
//!   entry that it was started for, or in none.
//!
//! The engine's locks may be held by threads that the child does not have. That does no harm, because the child does
//! nothing with the engine before its new image begins. Signals are blocked until the child has none of the parent's
//! handlers any more: they would run in a process they do not expect.

use std::mem::MaybeUninit;

use rustix::process::Pid;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::process::Reservation;
use crate::process::child::Child;
use crate::process::child::launch::Image;
use crate::process::child::pre_exec::Setup;
use crate::process::child::startup_status;
use crate::process::child::startup_status::{Failed, Step};
use crate::process::fork::without_handlers;

/// Exit code of a child that failed at a step. Only visible to tools that list processes meanwhile.
pub(crate) const NOT_STARTED: i32 = 127;

/// Starts an image in the reserved entry. The child first applies `setup` to itself.
pub(crate) fn exec(image: &Image, mut setup: Setup, reservation: Reservation) -> Result<Child> {
    let (reader, writer) = startup_status::pipe_until_exec()?;
    let signals = BlockedSignals::all();
    // SAFETY: the child makes system calls on memory that was prepared before, runs hooks whose authors vouched for
    // them, and ends or becomes another program.
    let pid = without_handlers(|| unsafe { libc::fork() });
    if pid == 0 {
        let failed = become_image(image, &mut setup);
        writer.send(&failed);
        exit_now(NOT_STARTED)
    }
    let forked = checked_pid(pid);
    drop((signals, writer));
    let pid = forked?;
    reservation.note_pid(pid.as_raw_nonzero().get().unsigned_abs());
    let child = Child::started(pid, reservation.keep())?;
    await_startup(child, |child| reader.wait(child))
}

fn become_image(image: &Image, setup: &mut Setup) -> Failed {
    BlockedSignals::reset_for_new_program();
    if let Err(failed) = setup.take_steps(&image.passes, image.cwd.as_deref()) {
        return failed;
    }
    // SAFETY: the path is a C string, and both arrays are null-terminated and of C strings.
    unsafe {
        libc::execve(
            image.path.as_ptr(),
            image.args.as_ptr().cast(),
            image.env.as_ptr().cast(),
        )
    };
    Failed::last_os_error(Step::Program)
}

/// Waits until the child has taken its steps, and returns it. A child that failed is reaped.
pub(crate) fn await_startup(
    mut child: Child,
    wait: impl FnOnce(&Child) -> Result<()>,
) -> Result<Child> {
    match wait(&child) {
        Ok(()) => Ok(child),
        Err(error) => {
            // A child that became another user may not be ours to kill; it ends by itself.
            let _ = child.signal(libc::SIGKILL);
            let _ = child.wait(Deadline::NEVER);
            Err(error)
        }
    }
}

pub(crate) fn checked_pid(pid: libc::pid_t) -> Result<Pid> {
    let pid = if pid > 0 { Pid::from_raw(pid) } else { None };
    pid.ok_or_else(|| Error::Os {
        what: "fork a process",
        source: std::io::Error::last_os_error(),
    })
}

/// Ends this process without running anything.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: a call without preconditions.
    unsafe { libc::_exit(code) }
}

/// Blocks all signals to this thread while it exists.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn all() -> BlockedSignals {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the first call fills the one set and the second the other.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            BlockedSignals(before.assume_init())
        }
    }

    /// Sets the signals as `posix_spawn` does for a new program: no handlers, nothing blocked, and the default action
    /// for SIGPIPE.
    fn reset_for_new_program() {
        for signal in 1..=libc::SIGRTMAX() {
            let mut action = MaybeUninit::<libc::sigaction>::uninit();
            // SAFETY: the call fills the place when it returns 0. For a signal that the C library keeps for itself it
            // returns an error.
            let known =
                unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0 };
            // SAFETY: filled, if known.
            let is_ignored = known && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN;
            if known && (signal == libc::SIGPIPE || !is_ignored) {
                // SAFETY: setting the default touches no memory of ours.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
        }
        let mut none = MaybeUninit::uninit();
        // SAFETY: the first call fills the set.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set that was in force before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}
