//! The thread that returns idle memory (`trim.rs`), and moves pages out of the file that only one process still uses
//! (`objects/cow_collapse.rs`).
//!
//! It ends before every fork, so that no fork runs beside it, and is started again when more is freed. After a fork
//! that made much memory copy-on-write it is started again shortly.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::arena::owner::ProcId;
use crate::arena::upcalls::upcalls;
use crate::arena::{Arena, home_if_any};
use crate::memory::trim::{INTERVAL, Which};
use crate::sys::thread;

/// How soon after a fork the thread first checks whether the child is gone, and the longest time between two checks.
const SOON: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(60);

/// The process whose thread runs; a forked child has no such thread. Zero for none.
static RUNS_IN: AtomicU32 = AtomicU32::new(0);
/// What the thread is asked to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Scan when the interval is over.
    Wait,
    /// Scan at once: a process is gone that the thread may have waited for.
    Scan,
    /// Scan at once, and return all that is too much.
    ScanAll,
    End,
}

/// Fewer bytes are not worth a thread.
const MIN_UNSHARED: u64 = 1 << 20;
/// Roughly how many bytes of the file only this process will use once the children of its forks are gone.
static TO_COLLAPSE: AtomicU64 = AtomicU64::new(0);

/// Adds bytes that became copy-on-write by a fork.
pub(crate) fn add_to_collapse(bytes: u64) {
    TO_COLLAPSE.fetch_add(bytes, Ordering::Relaxed);
}

/// Sets how many bytes are left to collapse.
pub(crate) fn set_to_collapse(bytes: u64) {
    TO_COLLAPSE.store(bytes, Ordering::Relaxed);
}

/// Whether there are enough bytes to be worth waiting for the other holders' end.
pub(crate) fn is_waiting() -> bool {
    TO_COLLAPSE.load(Ordering::Relaxed) >= MIN_UNSHARED
}

static REQUEST: Mutex<Request> = Mutex::new(Request::Wait);
static REQUESTED: Condvar = Condvar::new();
static TRIMMER: Mutex<Trimmer> = Mutex::new(Trimmer(None));

/// The trimmer thread, and the process it belongs to: a raw `clone` copies this value but not the thread.
pub(crate) struct Trimmer(Option<(ProcId, JoinHandle<()>)>);

impl Trimmer {
    /// False if no thread could be started.
    fn start(&mut self, arena: &Arena) -> bool {
        *crate::sys::thread::lock(&REQUEST) = Request::Wait;
        let me = arena.me();
        RUNS_IN.store(me.as_u32(), Ordering::Relaxed);
        let started = thread::spawn_without_signals("procession-trim", trim_until_done).ok();
        self.0 = started.map(|thread| (me, thread));
        if self.0.is_none() {
            RUNS_IN.store(0, Ordering::Relaxed);
        }
        self.0.is_some()
    }

    fn end(&mut self) {
        let Some((owner, thread)) = self.0.take() else {
            return;
        };
        if crate::process_table::identity::current() != Some(owner) {
            // The thread belongs to another process: joining it would never end.
            std::mem::forget(thread);
            return;
        }
        *crate::sys::thread::lock(&REQUEST) = Request::End;
        REQUESTED.notify_all();
        // It does not panic, and if it did it has ended as well.
        let _ = thread.join();
        // The next free checks whether the thread is needed again.
        crate::memory::trim::check_at_next_free();
        if let Some(arena) = home_if_any() {
            arena.make_scan_due();
        }
    }
}

/// Whether the thread runs in this process.
pub(crate) fn runs_in(arena: &Arena) -> bool {
    RUNS_IN.load(Ordering::Relaxed) == arena.me().as_u32()
}

/// Starts the thread unless it runs; false if there is none.
///
/// Only tries for the lock: its holder forks, or starts the thread. Waiting here could deadlock: see [`stop`].
pub(crate) fn start(arena: &Arena) -> bool {
    TRIMMER.try_lock().is_ok_and(|mut trimmer| {
        // Another thread may have started it: only the one that `stop` knows may exist.
        runs_in(arena) || trimmer.start(arena)
    })
}

/// Whether the thread has been told to end.
pub(crate) fn must_stop() -> bool {
    *crate::sys::thread::lock(&REQUEST) == Request::End
}

/// Makes the thread scan at once, unless it has been told to end.
pub(crate) fn ask_for(what: Request) {
    let mut request = crate::sys::thread::lock(&REQUEST);
    if matches!(*request, Request::Wait | Request::Scan) {
        *request = what;
        REQUESTED.notify_all();
    }
}

fn trim_until_done() {
    let Some(arena) = home_if_any() else { return };
    // Children that do little have ended by then.
    let mut wait = match is_waiting() {
        true => SOON,
        false => INTERVAL,
    };
    loop {
        let request = crate::sys::thread::lock(&REQUEST);
        let waited =
            REQUESTED.wait_timeout_while(request, wait, |request| *request == Request::Wait);
        let mut request = waited.unwrap_or_else(|e| e.into_inner()).0;
        let asked = *request;
        let which = match asked {
            Request::Wait | Request::Scan => Which::Idle,
            Request::ScanAll => Which::Free,
            Request::End => break,
        };
        *request = Request::Wait;
        drop(request);
        (upcalls().collapse_unshared)(arena, must_stop);
        let found_idle = arena.scan(which);
        if !found_idle && !is_waiting() {
            break;
        }
        wait = match found_idle || asked != Request::Wait {
            true => INTERVAL,
            false => (wait * 2).min(LONGEST),
        };
    }
    RUNS_IN.store(0, Ordering::Relaxed);
}

/// How a program wants the thread started that a fork ended: shortly afterwards, since its runtime looks at the threads
/// when a fork returns.
static START_SOON: OnceLock<StartSoon> = OnceLock::new();

/// Calls the function it is given a moment later.
pub(crate) type StartSoon = fn(fn());

/// See [`process::start_threads_by`](crate::process::start_threads_by).
pub(crate) fn start_threads_by(start_soon: StartSoon) {
    let _first = START_SOON.set(start_soon);
}

/// Starts the thread again after a fork that made much memory copy-on-write.
pub(crate) fn start_after_fork() {
    if is_waiting() {
        match START_SOON.get() {
            Some(start_soon) => start_soon(start_if_waiting),
            None => start_if_waiting(),
        }
    }
}

fn start_if_waiting() {
    if let Some(arena) = home_if_any()
        && crate::process_table::identity::current().is_some()
        && is_waiting()
    {
        arena.start_trimmer_if_due();
    }
}

/// Ends the thread before a fork. No other thread is started while the guard exists.
///
/// Must be called without holding a lock of the engine. A thread that holds one only tries for this lock.
pub(crate) fn stop() -> MutexGuard<'static, Trimmer> {
    let mut trimmer = crate::sys::thread::lock(&TRIMMER);
    trimmer.end();
    trimmer
}

/// Ends the thread before this process ends, and lets no other start.
///
/// Other processes free what a process owned as soon as its first thread is gone. A thread that is in the kernel at
/// that time, returning pages, would continue to do so.
pub(crate) fn stop_for_good(arena: &Arena) {
    let _trimmer = stop();
    arena.report_freed();
    RUNS_IN.store(arena.me().as_u32(), Ordering::Relaxed);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use rustix::process::{Pid, WaitOptions, waitpid};

    #[test]
    #[cfg_attr(miri, ignore = "forks")]
    fn a_child_of_a_raw_clone_does_not_wait_for_its_parents_thread() {
        let arena = crate::process_table::home().expect("an arena");
        let mut trimmer = stop();
        trimmer.start(arena);
        // SAFETY: a fork that no handler hears of; the child makes system calls and ends.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if pid == 0 {
            // SAFETY: calls without preconditions; the alarm ends a child that would wait for ever.
            unsafe { libc::alarm(10) };
            trimmer.end();
            // SAFETY: as above.
            unsafe { libc::_exit(7) }
        }
        let ended = waitpid(Pid::from_raw(pid as libc::pid_t), WaitOptions::empty());
        let (_, status) = ended.expect("a child").expect("its end");
        assert_eq!(status.exit_status(), Some(7));
        trimmer.end();
    }

    #[test]
    #[cfg_attr(miri, ignore = "threads")]
    fn a_process_that_leaves_releases_no_pages_afterwards() {
        let arena = crate::process_table::home().expect("an arena");
        stop().start(arena);
        stop_for_good(arena);
        let trimmer = crate::sys::thread::lock(&TRIMMER);
        assert!(trimmer.0.is_none());
        RUNS_IN.store(0, Ordering::Relaxed);
    }
}
