//! Children made by a fork, which either exec this program anew or go on as they are.
//!
//! **Exec.** `posix_spawn` supports no users, groups or hooks, so [`exec`] does by hand what `posix_spawn` does
//! inside. There are three ways to fork:
//!
//! * A `vfork`-like clone shares its memory with the parent. A hook would write into it, and `setuid` of the C
//!   library would change the parent's threads.
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
//!
//! **Going on.** [`Fork`] is a plain `fork`: the handlers reserve the entry, and the child claims it before `fork`
//! returns. The child never returns into the caller's code, and runs neither destructors nor exit handlers of its
//! parent.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::process;
use crate::process::child::Child;
use crate::process::child::launch::{Image, copy_stdio, path};
use crate::process::child::pre_exec::Setup;
use crate::process::child::startup_status;
use crate::process::child::startup_status::{Failed, Step};
use crate::process::fork::without_handlers;
use crate::process::{Reservation, parent_death};

/// Exit code of a child that failed at a step. Only visible to tools that list processes meanwhile.
const NOT_STARTED: i32 = 127;
/// Exit code of a child whose panic was not caught, the same as in Rust's runtime.
const PANICKED: i32 = 101;

/// Starts an image in the entry `slot`. The child first applies `setup` to itself.
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
            image.program.as_ptr(),
            image.args.as_ptr().cast(),
            image.env.as_ptr().cast(),
        )
    };
    Failed::last_os_error(Step::Program)
}

/// Waits until the child has taken its steps, and returns it. A child that failed is reaped.
fn await_startup(mut child: Child, wait: impl FnOnce(&Child) -> Result<()>) -> Result<Child> {
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

fn checked_pid(pid: libc::pid_t) -> Result<Pid> {
    let pid = if pid > 0 { Pid::from_raw(pid) } else { None };
    pid.ok_or_else(|| Error::Os {
        what: "fork a process",
        source: std::io::Error::last_os_error(),
    })
}

/// A closure that may run in a forked child.
#[derive(Debug)]
pub struct ForkSafe<F>(F);

impl<F> ForkSafe<F> {
    /// Wraps a closure.
    ///
    /// # Safety
    /// The closure runs in a copy of this process that has one thread, the one that forked. If this process has other
    /// threads, the closure must not depend on them. Neither may anything that it calls, or that it drops:
    ///
    /// * What another thread was changing stays half changed, and a lock that it held stays locked for ever. That
    ///   applies to locks of std and of libraries, including C libraries. Locks of this crate are shared with the
    ///   parent: one that the parent holds is held by the parent. In the child, its guard releases nothing and writes
    ///   nothing. The guard of a `Mutex` or `RwLock` shows a copy there, and that of a `Value` or `Array` panics when
    ///   it is used.
    /// * It may allocate, if the C library's allocator can do so after a fork. Those of glibc and musl can; an
    ///   allocator of the program's own may not.
    /// * It does not use anything that a thread of the parent serves: a pool of this crate and its tasks, an async
    ///   runtime, a thread pool, a channel whose other end such a thread has.
    /// * It does not use a resource that exists once and is now in two processes, unless that is intended: a file's
    ///   position, a connection to a server, memory that was mapped shared, the state of a random number generator.
    /// * `std::io::stdin` may be locked for ever, if another thread was reading. Standard output and error are not:
    ///   forking waits for their locks. Panicking may hang, if another thread was taking a backtrace.
    ///
    /// Beyond that, only what holds for any closure has to be considered:
    ///
    /// * The parent's values that the closure did not capture are never dropped in the child, and its exit handlers
    ///   and the destructors of its thread locals do not run there.
    /// * What the closure captured is in both processes. The parent drops its own copy once the child is started.
    /// * Every descriptor is open in the child too: the other side of a pipe or socket sees its end once both
    ///   processes have closed it.
    pub unsafe fn new(closure: F) -> ForkSafe<F> {
        ForkSafe(closure)
    }
}

/// Describes a child that is to be forked and to go on as it is.
#[derive(Debug, Default)]
pub struct Fork {
    /// Its working directory; `None` for this process's.
    pub cwd: Option<PathBuf>,
    /// Its credentials, and what it does first.
    pub setup: Setup,
    /// Its standard input, output and error; `None` for those of this process.
    pub stdio: [Option<OwnedFd>; 3],
    /// Whether it dies when this process does.
    pub tied: bool,
}

impl Fork {
    /// Forks a child that runs `main` on `closure` and exits with the code that `main` returns.
    ///
    /// `first` runs in the child before everything else, its hooks included. This is the place to release locks that
    /// were taken so that the child finds itself their holder. The parent drops both `first` and `main` as soon as
    /// the child exists. The requirements on a [`ForkSafe`] closure apply to both.
    ///
    /// The parent gets its own copy of `closure` back, to be dropped when the child has an owner, because the drop
    /// may panic.
    ///
    /// # Errors
    /// When the system lacks resources, when the process table or the shared memory is full, or when the system does
    /// not allow what `setup` asks for: the error names the step that failed.
    pub fn start<F>(
        mut self,
        closure: ForkSafe<F>,
        first: impl FnOnce(),
        main: impl FnOnce(F) -> i32,
    ) -> Result<(Child, ForkSafe<F>)> {
        process::ensure()?;
        if self.tied {
            parent_death::prepare()?;
        }
        let stdio = copy_stdio(&self.stdio)?;
        let cwd = self.cwd.take().map(path).transpose()?;
        let passes: Vec<_> = stdio
            .iter()
            .map(|(fd, number)| (fd.as_raw_fd(), *number))
            .collect();
        let (reader, writer) = startup_status::pipe()?;
        // SAFETY: the child runs a closure whose author vouched for it, and code that follows the same rules, and
        // ends without returning.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            run_and_exit(move || {
                first();
                drop(reader);
                if let Err(failed) = self.begin(&passes, cwd.as_deref()) {
                    writer.send(&failed);
                    // Only the parent drops what the closure captured.
                    exit_now(NOT_STARTED);
                }
                drop((self, stdio));
                writer.send_done();
                drop(writer);
                main(closure.0)
            })
        }
        let forked = checked_pid(pid);
        drop((first, main, writer));
        let child = match forked {
            Ok(pid) => adopt_forked(pid)?,
            Err(error) => {
                // The handlers reserved it before the fork failed.
                if let Some(proc_id) = process::forked_child() {
                    process::release_entry(proc_id);
                }
                return Err(error);
            }
        };
        let child = await_startup(child, |child| reader.wait(child))?;
        Ok((child, closure))
    }

    #[expect(
        clippy::result_large_err,
        reason = "nothing is allocated before the steps are taken"
    )]
    fn begin(&mut self, passes: &[(RawFd, RawFd)], cwd: Option<&CStr>) -> Result<(), Failed> {
        process::check_fork().map_err(|error| Failed::with_message(Step::Slot, error))?;
        self.setup.take_steps(passes, cwd)?;
        if self.tied {
            let tied = parent_death::die_with_parent();
            tied.map_err(|error| Failed::with_message(Step::Lifeline, error))?;
        } else {
            parent_death::outlive_parents();
        }
        Ok(())
    }
}

/// Returns the child that was just forked, in the entry that the handlers gave it, as a holder of everything that
/// this process holds.
fn adopt_forked(pid: Pid) -> Result<Child> {
    let proc_id = process::forked_child();
    if let Some(proc_id) = proc_id {
        process::note_pid(proc_id, pid.as_raw_nonzero().get().unsigned_abs());
    }
    match (process::check_fork(), proc_id) {
        (Ok(()), Some(proc_id)) => Child::started(pid, proc_id),
        (checked, proc_id) => {
            // The child noticed too, and ends.
            while let Err(Errno::INTR) = waitpid(Some(pid), WaitOptions::empty()) {}
            if let Some(proc_id) = proc_id {
                process::reap_collected(proc_id);
            }
            Err(checked.err().unwrap_or(Error::SeatGone))
        }
    }
}

/// Runs the main function of a forked child. Whatever happens, control never leaves this function.
fn run_and_exit(main: impl FnOnce() -> i32) -> ! {
    let code = catch_unwind(AssertUnwindSafe(main)).unwrap_or_else(|payload| {
        // Its drop may panic.
        std::mem::forget(payload);
        PANICKED
    });
    exit_now(code)
}

/// Ends this process without running anything.
fn exit_now(code: i32) -> ! {
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
