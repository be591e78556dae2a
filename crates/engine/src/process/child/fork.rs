//! Children that are copies of this process and run a closure.
//!
//! The fork is a plain one: the handlers reserve the entry, and the child claims it before `fork` returns. The child
//! never returns into the caller's code, and runs neither destructors nor exit handlers of its parent.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::error::{Error, Result};
use crate::process;
use crate::process::child::Child;
use crate::process::child::fork_exec::{NOT_STARTED, await_startup, checked_pid, exit_now};
use crate::process::child::launch::{Launch, c_path, copy_stdio};
use crate::process::child::startup_status;
use crate::process::child::startup_status::{Failed, Step};
use crate::process::parent_death;

/// Exit code of a child whose panic was not caught, the same as in Rust's runtime.
const PANICKED: i32 = 101;

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

impl Launch {
    /// Forks a child that runs `main` on `closure` and exits with the code that `main` returns.
    ///
    /// `first` runs in the child before everything else, its hooks included. This is the place to release locks that
    /// were taken so that the child finds itself their holder. The parent drops both `first` and `main` as soon as
    /// the child exists. The requirements on a [`ForkSafe`] closure apply to both.
    ///
    /// With `die_with_parent` the child dies when this process does.
    ///
    /// The parent gets its own copy of `closure` back, to be dropped when the child has an owner, because the drop
    /// may panic.
    ///
    /// # Errors
    /// When the system lacks resources, when the process table or the shared memory is full, or when the system does
    /// not allow what `setup` asks for: the error names the step that failed.
    pub fn fork<F>(
        mut self,
        closure: ForkSafe<F>,
        die_with_parent: bool,
        first: impl FnOnce(),
        main: impl FnOnce(F) -> i32,
    ) -> Result<(Child, ForkSafe<F>)> {
        process::ensure()?;
        if die_with_parent {
            parent_death::prepare()?;
        }
        let stdio = copy_stdio(&self.stdio)?;
        let cwd = self.cwd.take().map(c_path).transpose()?;
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
                if let Err(failed) = self.begin(&passes, cwd.as_deref(), die_with_parent) {
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
    fn begin(
        &mut self,
        passes: &[(RawFd, RawFd)],
        cwd: Option<&CStr>,
        die_with_parent: bool,
    ) -> Result<(), Failed> {
        process::check_fork().map_err(|error| Failed::with_message(Step::Entry, error))?;
        self.setup.take_steps(passes, cwd)?;
        if die_with_parent {
            let bound = parent_death::die_with_parent();
            bound.map_err(|error| Failed::with_message(Step::Lifeline, error))?;
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
