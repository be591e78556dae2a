//! Named steps at which a test can kill the process.
//!
//! Without the feature `kill-points` a failpoint compiles to nothing.

#[cfg(not(feature = "kill-points"))]
#[inline(always)]
pub(crate) fn hit(_name: &'static str) {}

#[cfg(feature = "kill-points")]
pub(crate) use armed::hit;
#[cfg(feature = "kill-points")]
pub(crate) use armed::longest_sleep;
#[cfg(feature = "kill-points")]
pub use armed::{Action, arm, disarm, names, sleep_at_most, visited};

#[cfg(feature = "kill-points")]
mod armed {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    /// What happens at an armed point.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Action {
        /// SIGKILL.
        Kill,
        /// SIGSTOP; goes on after SIGCONT.
        Stop,
        /// The process executes another program.
        Exec,
        /// `_exit(0)`, with no mark of an orderly exit.
        Exit,
    }

    /// The longest sleep of a sleeper that is told of deaths, in milliseconds. The initial value is so long that it
    /// never ends in a test.
    static LONGEST_SLEEP: AtomicU64 = AtomicU64::new(86_400_000);

    /// Sets the longest sleep of those that are told of deaths.
    pub fn sleep_at_most(longest: Duration) {
        LONGEST_SLEEP.store(longest.as_millis() as u64, Ordering::SeqCst);
    }

    pub(crate) fn longest_sleep() -> Duration {
        Duration::from_millis(LONGEST_SLEEP.load(Ordering::SeqCst))
    }

    struct Armed {
        name: &'static str,
        left: u32,
        action: Action,
    }

    static ARMED: Mutex<Option<Armed>> = Mutex::new(None);
    static ANY: AtomicBool = AtomicBool::new(false);
    static RECORD: AtomicBool = AtomicBool::new(true);
    static SEEN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

    /// Does `action` at the `nth` visit (from 1) of the failpoint `name` by this process.
    pub fn arm(name: &'static str, nth: u32, action: Action) {
        *ARMED.lock().unwrap() = Some(Armed {
            name,
            left: nth,
            action,
        });
        RECORD.store(false, Ordering::Relaxed);
        ANY.store(true, Ordering::Release);
    }

    /// Disarms the failpoint.
    pub fn disarm() {
        ANY.store(false, Ordering::Release);
        RECORD.store(true, Ordering::Relaxed);
    }

    /// The names of all failpoints.
    pub fn names() -> &'static [&'static str] {
        super::NAMES
    }

    /// The failpoints that this process has passed.
    pub fn visited() -> Vec<&'static str> {
        SEEN.lock().unwrap().clone()
    }

    pub(crate) fn hit(name: &'static str) {
        debug_assert!(super::NAMES.contains(&name), "{name} is not listed");
        if ANY.load(Ordering::Acquire) {
            act(name);
        } else if RECORD.load(Ordering::Relaxed)
            && let Ok(mut seen) = SEEN.try_lock()
            && !seen.contains(&name)
        {
            seen.push(name);
        }
    }

    #[cold]
    fn act(name: &'static str) {
        let mut armed = ARMED.lock().unwrap();
        let Some(plan) = armed.as_mut().filter(|plan| plan.name == name) else {
            return;
        };
        plan.left -= 1;
        if plan.left > 0 {
            return;
        }
        let action = plan.action;
        ANY.store(false, Ordering::Release);
        drop(armed);
        // SAFETY: plain system calls; the path is a C string and the argument list ends with null.
        unsafe {
            match action {
                Action::Kill => drop(libc::kill(libc::getpid(), libc::SIGKILL)),
                Action::Stop => drop(libc::kill(libc::getpid(), libc::SIGSTOP)),
                Action::Exit => libc::_exit(0),
                Action::Exec => {
                    let path = c"/bin/true".as_ptr();
                    libc::execv(path, [path, std::ptr::null()].as_ptr());
                    libc::_exit(127)
                }
            }
        }
    }
}

/// All failpoints, in the order of their names: the place, and the step.
#[cfg(feature = "kill-points")]
const NAMES: &[&str] = &[
    "arena.bump",
    "arena.claimed",
    "arena.emptied",
    "arena.freed",
    "arena.freeing",
    "arena.grow",
    "arena.grown",
    "arena.listing",
    "arena.popped",
    "arena.releasing",
    "arena.taken",
    "attachments.emptied",
    "attachments.indexed",
    "attachments.listed",
    "attachments.made",
    "attachments.replaced",
    "attachments.taken",
    "barrier.announced",
    "barrier.arrived",
    "barrier.broken",
    "barrier.opened",
    "barrier.reset",
    "cells.closed",
    "cells.cut",
    "cells.emptied",
    "cells.opened",
    "chunk_list.begun",
    "chunk_list.dismantling",
    "chunk_list.frozen",
    "chunk_list.inherited",
    "chunk_list.leading_over",
    "chunk_list.linked",
    "chunk_list.made",
    "chunk_list.moved",
    "chunk_list.prepared",
    "chunk_list.retiring",
    "condition.chosen",
    "condition.claimed",
    "condition.given_up",
    "condition.moved",
    "condition.notified",
    "cow_buffer.adopting",
    "death_watch.announced",
    "death_watch.asleep",
    "death_watch.found",
    "event.announced",
    "event.set",
    "lock.announced",
    "lock.found_dead",
    "lock.freed",
    "lock.taken",
    "object.dropped",
    "object.dying",
    "object.emptied",
    "object.filled",
    "object.held",
    "object.linked",
    "object.part",
    "object.part_taken",
    "object.shared",
    "ownership_log.linked",
    "ownership_log.page_made",
    "ownership_log.page_taken",
    "ownership_log.taken_off",
    "ownership_log.written",
    "pipe.empty",
    "pipe.notified",
    "pipe.notifying",
    "pipe.silencing",
    "pool.claimed",
    "pool.done",
    "pool.finished",
    "pool.head_moved",
    "pool.result_sent",
    "pool.running",
    "private_mapping.copied",
    "process.claimed",
    "process.held",
    "process.leaving",
    "process.live",
    "process.reaping",
    "process.releasing",
    "process.reserved",
    "process.swept",
    "process.taken_over",
    "process.taking_over",
    "queue.block_named",
    "queue.block_owned",
    "queue.block_passed",
    "queue.block_taken",
    "queue.claimed",
    "queue.copied",
    "queue.empty",
    "queue.full",
    "queue.handed",
    "queue.notified",
    "queue.notifying",
    "queue.readiness_made",
    "queue.readiness_named",
    "queue.readiness_opened",
    "queue.readiness_sought",
    "queue.ready",
    "queue.received",
    "queue.stepped_over",
    "queue.taken",
    "queue.task_done",
    "queue.written",
    "recovery.taken",
    "repair.found",
    "repair.settled",
    "rwlock.entering",
    "rwlock.finished",
    "rwlock.passing",
    "rwlock.reading",
    "rwlock.writing",
    "semaphore.announced",
    "semaphore.given",
    "semaphore.taken",
    "skipped.named",
    "skipped.settled",
    "store.cleared",
    "store.entered",
    "store.forgotten",
    "store.log_begun",
    "store.logged",
    "store.popped",
    "store.pushed",
    "store.replaced",
    "store.unlocked",
    "sync.called",
    "tasks.begun",
    "tasks.ended",
    "wait.ended",
];
