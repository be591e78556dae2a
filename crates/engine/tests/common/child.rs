//! Forked children that are always reaped, and whose end is waited for without reaping them.

use super::words::say;
use procession_engine::ProcId;
use procession_engine::process::{self, ExitState};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a process came to its end, or to a halt.
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
    /// Forks; the child runs `body`, leaves in order and exits with 0, or with 101 if `body`
    /// panicked, in which case the message is in the stage's last words.
    pub fn fork(body: impl FnOnce()) -> Child {
        // SAFETY: a stage has one thread, so the child may do whatever its parent could.
        Child::made_by(|| unsafe { libc::fork() }, body)
    }

    /// As [`Child::fork`], of a `clone` that no handler hears of.
    pub fn clone_unheard(body: impl FnOnce()) -> Child {
        // SAFETY: as above.
        let clone =
            || unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t };
        Child::made_by(clone, body)
    }

    fn made_by(fork: impl FnOnce() -> libc::pid_t, body: impl FnOnce()) -> Child {
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
            // Killed before it sits, it is known by its number.
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

    /// Where it sits in the arena, if there was one when it was forked.
    pub fn slot(&self) -> Option<ProcId> {
        self.slot
    }

    /// Waits until it has ended, and leaves it a zombie.
    pub fn ended(&self) -> End {
        self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
    }

    /// Waits until it is stopped or has ended, and leaves it so.
    pub fn ended_or_stopped(&self) -> End {
        self.wait(WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT)
    }

    /// Waits for its end and reaps it.
    pub fn reap(&self) -> End {
        let end = self.wait(WaitIdOptions::EXITED);
        self.reaped.set(true);
        end
    }

    /// Reaps it and reaps it: what a parent that joins does.
    pub fn join(&self) -> (End, Option<ExitState>) {
        let end = self.reap();
        (end, self.slot.map(process::reap))
    }

    /// Joins it and insists that it came to a good end.
    #[track_caller]
    pub fn succeed(&self) {
        let (end, _) = self.join();
        assert_eq!(
            end,
            End::Exited(0),
            "the child ended badly; its last words tell why"
        );
    }

    /// SIGKILL; it is not reaped.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// SIGSTOP, and waits until it has stopped.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        self.ended_or_stopped();
    }

    /// Lets a stopped child go on. The report of its stop is consumed first, so that a later
    /// wait does not see it again.
    pub fn go_on(&self) {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let _ = waitid(WaitId::Pid(self.pid), options);
        self.signal(Signal::CONT);
    }

    /// Whether it has ended; it is not reaped.
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    /// SIGUSR1 again and again until it has ended: the first might come before it sleeps.
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

/// A runner that is interrupted must not leave its stages behind.
pub(super) fn die_with_parent() {
    if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        say("PR_SET_PDEATHSIG is refused here");
    }
}

/// Ends this process without running anything.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Lets this process be interrupted by SIGUSR1, and do nothing else about it.
pub fn hear_signals() {
    extern "C" fn hear(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = hear;
    // SAFETY: an all-zero sigaction is a valid value of that plain C struct.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the handler has the right signature and does nothing; without SA_RESTART calls return.
    unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
}

/// Replaces this program by one that does nothing.
pub fn exec_true() -> ! {
    let path = c"/bin/true".as_ptr();
    // SAFETY: C strings, and an argument list that ends with null.
    unsafe { libc::execv(path, [path, std::ptr::null()].as_ptr()) };
    exit_now(127)
}

/// Replaces this program by one that goes on until it is killed.
pub fn exec_sleep() -> ! {
    let (path, seconds) = (c"/bin/sleep".as_ptr(), c"1000".as_ptr());
    // SAFETY: C strings, and an argument list that ends with null.
    unsafe { libc::execv(path, [path, seconds, std::ptr::null()].as_ptr()) };
    exit_now(127)
}

/// SIGKILLs this process.
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
