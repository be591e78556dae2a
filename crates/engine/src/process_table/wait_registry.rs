//! What the threads of each process wait for, so that a diagnosis can show why nothing proceeds.
//!
//! A thread writes a record into its process's entry before it sleeps, and removes it when its call ends. Between the
//! naps of a [`Call`], and while a signal handler runs in it, the record stays and says when the call began to wait.
//! Records are for display only: nothing depends on them, and threads beyond the number of records leave none.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::arena::cell::BlockId;
use crate::arena::owner::ProcId;
use crate::arena::{Arena, home_if_any};
use crate::deadline::{Deadline, monotonic_ns};
use crate::failpoint;
use crate::numbered::numbered_enum;
use crate::sys::futex::{self, Slept};
use crate::sys::robust_mutex;

numbered_enum! {
    /// What a thread waits for at an object.
    pub enum WaitReason: u64 {
        /// A lock to become free.
        Lock = 1,
        /// A semaphore to have units.
        Units = 2,
        /// An event to be set.
        Event = 3,
        /// A condition to be notified.
        Notification = 4,
        /// The other parties of a barrier to arrive.
        Parties = 5,
        /// A message to arrive.
        Message = 6,
        /// A queue or pipe to have room.
        Room = 7,
        /// All messages to be reported done.
        Finished = 8,
        /// A task for a pool's worker.
        Task = 9,
    }
}

/// One thread's wait, decoded from its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitRecord {
    pub(crate) what: WaitReason,
    pub(crate) block: BlockId,
    pub(crate) since: Duration,
}

/// The time unit of a record; 28 bits of it are ten months.
const TENTH_NS: u64 = 100_000_000;
const TIME_MASK: u64 = (1 << 28) - 1;

fn tenths() -> u64 {
    (monotonic_ns() / TENTH_NS) & TIME_MASK
}

fn word(what: WaitReason, block: BlockId, since: u64) -> u64 {
    since << 36 | (what as u64) << 32 | u64::from(block.0)
}

fn read(word: u64) -> Option<WaitRecord> {
    Some(WaitRecord {
        what: WaitReason::from_number(word >> 32 & 15)?,
        block: BlockId::new(word as u32)?,
        since: Duration::from_nanos((tenths().wrapping_sub(word >> 36) & TIME_MASK) * TENTH_NS),
    })
}

/// The state of the call that a thread is in.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    since: Option<u64>,
    /// Where its record is, and the process whose entry holds it.
    record: Option<(&'static AtomicU64, ProcId)>,
    /// Set after a nap in which nothing happened: the count of deaths announced by then.
    idle: Option<u32>,
}

thread_local! {
    static CALL: Cell<Option<Waiting>> = const { Cell::new(None) };
}

/// One call of a program, however often it sleeps. Its wait is recorded from its first sleep to its end.
#[derive(Debug)]
pub struct Call {
    /// The call that the thread was in before; `None` when this is a part of that call.
    before: Option<Option<Waiting>>,
    _of_this_thread: PhantomData<*const ()>,
}

impl Call {
    /// Begins a call: of the program, or of a signal handler that runs within another call.
    pub fn begin() -> Call {
        Call {
            before: Some(CALL.replace(Some(Waiting::default()))),
            _of_this_thread: PhantomData,
        }
    }

    /// Continues the call that the thread is in, or begins one.
    pub(crate) fn join() -> Call {
        match CALL.get() {
            None => Call::begin(),
            Some(_) => Call {
                before: None,
                _of_this_thread: PhantomData,
            },
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Some(before) = self.before else { return };
        if let Some(Waiting {
            record: Some((place, of)),
            ..
        }) = CALL.replace(before)
            // In a child that was forked meanwhile, the record belongs to the parent.
            && crate::process_table::identity::current() == Some(of)
        {
            place.store(0, Ordering::Relaxed);
        }
    }
}

/// Records what the thread's call waits for.
fn record(what: WaitReason, object_word: &AtomicU32) {
    let (Some(mut call), Some(arena)) = (CALL.get(), home_if_any()) else {
        return;
    };
    let Some(block) = arena.block_at(object_word.as_ptr().addr()) else {
        return;
    };
    let me = arena.me();
    let since = *call.since.get_or_insert_with(tenths);
    let text = word(what, block, since);
    match call.record {
        Some((place, of)) if of == me => place.store(text, Ordering::Relaxed),
        _ => {
            let free = arena.entry(me).waits.iter().find(|place| {
                place
                    .compare_exchange(0, text, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            });
            call.record = free.map(|place| (place, me));
        }
    }
    CALL.set(Some(call));
}

/// Sleeps while `word` holds `expected`, and records why: until a wake, `deadline`, a death or the end of a nap.
pub(crate) fn wait(what: WaitReason, word: &AtomicU32, expected: u32, deadline: Deadline) -> Slept {
    wait_known_by(what, word, &[(word, expected)], deadline)
}

/// As [`wait`], on several words; the first one belongs to the object.
pub(crate) fn wait_any(what: WaitReason, words: &[(&AtomicU32, u32)], deadline: Deadline) -> Slept {
    match words {
        [(known_by, _), ..] => wait_known_by(what, known_by, words, deadline),
        [] => Slept::Stirred,
    }
}

/// As [`wait`], on words outside the object's block; `known_by` lies inside it.
pub(crate) fn wait_known_by(
    what: WaitReason,
    known_by: &AtomicU32,
    words: &[(&AtomicU32, u32)],
    deadline: Deadline,
) -> Slept {
    let _call = Call::join();
    record(what, known_by);
    sleep(words, deadline)
}

/// Whether nothing happened in the last nap of the thread's call.
pub(crate) fn is_idle() -> bool {
    CALL.get().is_some_and(|call| call.idle.is_some())
}

/// Sleeps until a wake, `deadline` or the end of a nap. If one of `words` reports a death, it announces it to the
/// long sleepers: the kernel wakes one sleeper, and that may have been this one.
pub(crate) fn nap(words: &[(&AtomicU32, u32)], deadline: Deadline) -> Slept {
    let slept = futex::wait_any(words, deadline);
    let died = |(word, seen): &(&AtomicU32, u32)| {
        robust_mutex::tells_of_death(word.load(Ordering::Acquire))
            && !robust_mutex::tells_of_death(*seen)
    };
    if words.iter().any(died)
        && let Some(arena) = home_if_any()
    {
        arena.announce_deaths();
    }
    slept
}

/// Sleeps: a nap at first, then long sleeps, for as long as nothing happens. After a sleep in which something
/// happened, the next is a nap again: a thread that deals with several processes usually deals with one that
/// something happens to.
pub(crate) fn sleep(words: &[(&AtomicU32, u32)], deadline: Deadline) -> Slept {
    let (Some(mut call), Some(arena)) = (CALL.get(), home_if_any()) else {
        return nap(words, deadline);
    };
    let slept = match call.idle {
        Some(noted) => arena.sleep_long(words, noted, deadline),
        None => nap(words, deadline),
    };
    failpoint::hit("wait.ended");
    let idle = (slept == Slept::Idle).then(|| arena.note_deaths());
    if idle != call.idle {
        call = CALL.get().unwrap_or_default();
        call.idle = idle;
        CALL.set(Some(call));
    }
    slept
}

/// Runs a sleep of another kind with a record of its reason; `word` is one of the object's.
pub(crate) fn with_record<T>(what: WaitReason, word: &AtomicU32, sleep: impl FnOnce() -> T) -> T {
    let _call = Call::join();
    record(what, word);
    sleep()
}

impl Arena {
    /// What the threads of a process wait for.
    pub(crate) fn waits_of(&self, owner: ProcId) -> Vec<WaitRecord> {
        let records = &self.entry(owner).waits;
        records
            .iter()
            .filter_map(|record| read(record.load(Ordering::Relaxed)))
            .collect()
    }

    /// Clears the records of the entry's last occupant.
    pub(crate) fn clear_waits(&self, owner: ProcId) {
        for record in &self.entry(owner).waits {
            record.store(0, Ordering::Relaxed);
        }
    }
}
