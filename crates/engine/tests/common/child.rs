//! Forked children that are always reaped. Their end can be awaited without reaping them.

use super::failure_log::log_line;
use procession_engine::ProcId;
use procession_engine::process::{self, ExitState};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a process ended or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `exit(code)`.
    Exited(i32),
    /// Ended by that signal.
    Killed(i32),
    /// Not ended, but stopped by that signal.
    Stopped(i32),
}

/// A child of this process. Dropping it kills and reaps it.
pub struct Child {
    pid: Pid,
    slot: Option<ProcId>,
    reaped: Cell<bool>,
}

impl Child {
    /// Forks. The child runs `body`, leaves the tree and exits with 0. If `body` panicked it exits with 101, and the
    /// message is in the sandbox's failure log.
    pub fn fork(body: impl FnOnce()) -> Child {
        // SAFETY: a sandbox has one thread, so the child may do whatever its parent could.
        Child::start(|| unsafe { libc::fork() }, body)
    }

    /// As [`Child::fork`], by a `clone` system call, for which no fork handler runs.
    pub fn clone_without_handlers(body: impl FnOnce()) -> Child {
        // SAFETY: as above.
        let clone =
            || unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t };
        Child::start(clone, body)
    }

    fn start(fork: impl FnOnce() -> libc::pid_t, body: impl FnOnce()) -> Child {
        let pid = fork();
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            die_with_parent();
            let code = match catch_unwind(AssertUnwindSafe(body)) {
                Ok(()) => {
                    process::leave();
                    0
                }
                Err(_) => 101,
            };
            exit_now(code);
        }
        let slot = process::forked_child();
        if let Some(slot) = slot {
            // If it is killed before it claims its entry, it is known by its process id.
            process::note_pid(slot, pid.unsigned_abs());
        }
        Child {
            pid: Pid::from_raw(pid).expect("a child's pid is positive"),
            slot,
            reaped: Cell::new(false),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its entry in the process table, if there was an arena when it was forked.
    pub fn proc_id(&self) -> Option<ProcId> {
        self.slot
    }

    /// Waits until it has ended, and leaves it a zombie.
    pub fn ended(&self) -> End {
        self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
    }

    /// Waits until it has stopped or ended, and leaves it so.
    pub fn ended_or_stopped(&self) -> End {
        self.wait(WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT)
    }

    /// Waits for its end and reaps it.
    pub fn reap(&self) -> End {
        let end = self.wait(WaitIdOptions::EXITED);
        self.reaped.set(true);
        end
    }

    /// Reaps it in the kernel and in the engine, as a parent that joins does.
    pub fn join(&self) -> (End, Option<ExitState>) {
        let end = self.reap();
        (end, self.slot.map(process::reap))
    }

    /// Joins it and fails unless it ended well.
    #[track_caller]
    pub fn succeed(&self) {
        let (end, _) = self.join();
        assert_eq!(
            end,
            End::Exited(0),
            "the child ended badly; the failure log says why"
        );
    }

    /// Sends SIGKILL; does not reap it.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends SIGSTOP, and waits until it has stopped.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        self.ended_or_stopped();
    }

    /// Resumes a stopped child. Consumes the report of its stop first, so that a later wait does not see it again.
    pub fn resume(&self) {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let _ = waitid(WaitId::Pid(self.pid), options);
        self.signal(Signal::CONT);
    }

    /// Whether it has ended; does not reap it.
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    /// Sends SIGUSR1 again and again until it has ended: the first one might come before it sleeps.
    pub fn signal_until_ended(&self) {
        while !self.has_ended() {
            self.signal(Signal::USR1);
            std::thread::yield_now();
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("a child that was not reaped can be signalled");
    }

    fn wait(&self, options: WaitIdOptions) -> End {
        loop {
            match waitid(WaitId::Pid(self.pid), options) {
                Ok(Some(status)) => {
                    return if let Some(code) = status.exit_status() {
                        End::Exited(code)
                    } else if let Some(signal) = status.terminating_signal() {
                        End::Killed(signal)
                    } else {
                        End::Stopped(status.stopping_signal().unwrap_or(0))
                    };
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => continue,
                Err(error) => panic!("waitid({:?}): {error}", self.pid),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped.get() {
            let _ = kill_process(self.pid, Signal::KILL);
            self.reap();
        }
    }
}

/// If the test runner is interrupted, its sandboxes must end too.
pub(super) fn die_with_parent() {
    if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        log_line("PR_SET_PDEATHSIG is refused here");
    }
}

/// Ends this process without running any exit handler.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Makes SIGUSR1 interrupt this process, and do nothing else.
pub fn handle_sigusr1() {
    extern "C" fn ignore(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = ignore;
    // SAFETY: an all-zero sigaction is a valid value of that plain C struct.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the handler has the right signature and does nothing; without SA_RESTART calls return.
    unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
}

/// Replaces this program by one that exits at once.
pub fn exec_true() -> ! {
    let path = c"/bin/true".as_ptr();
    // SAFETY: C strings, and an argument list that ends with null.
    unsafe { libc::execv(path, [path, std::ptr::null()].as_ptr()) };
    exit_now(127)
}

/// Replaces this program by one that runs until it is killed.
pub fn exec_sleep() -> ! {
    let (path, seconds) = (c"/bin/sleep".as_ptr(), c"1000".as_ptr());
    // SAFETY: C strings, and an argument list that ends with null.
    unsafe { libc::execv(path, [path, seconds, std::ptr::null()].as_ptr()) };
    exit_now(127)
}

/// Kills this process with SIGKILL.
pub fn die() -> ! {
    let _ = kill_process(rustix::process::getpid(), Signal::KILL);
    exit_now(1)
}

/// Waits for and reaps the children that dead children left to this subreaper.
pub fn reap_orphans() {
    while !matches!(
        waitid(WaitId::All, WaitIdOptions::EXITED),
        Err(rustix::io::Errno::CHILD)
    ) {}
}
