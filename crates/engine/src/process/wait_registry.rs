//! What the threads of each process wait for, so that somebody can find out why nothing goes on.
//!
//! A thread writes a record into its process's slot before it sleeps, and takes it out when its call is over: between
//! the naps of a [`Call`], and while a handler of a signal runs in it, the record stays and says when the call began to
//! wait. Records are there to be shown: nothing depends on them, and of more threads than there is room for some leave
//! none.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::deadline::{Deadline, monotonic_ns};
use crate::failpoint;
use crate::memory::block::BlockId;
use crate::memory::owner::ProcId;
use crate::memory::{Arena, home_if_any};
use crate::sys::futex::{self, Slept};
use crate::sys::robust_mutex;

/// The threads of a process that can leave records at a time.
pub(crate) const MAX_RECORDS: usize = 6;

/// What is waited for at an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum WaitReason {
    /// That a lock is free.
    Lock = 1,
    /// That a semaphore has units.
    Units = 2,
    /// That an event is set.
    Event = 3,
    /// That a condition is notified.
    Notification = 4,
    /// That the other parties of a barrier come.
    Parties = 5,
    /// That a message comes.
    Message = 6,
    /// That a queue or pipe has room.
    Room = 7,
    /// That all messages are reported done.
    Finished = 8,
    /// A pool's worker: that there is a task.
    Task = 9,
}

impl WaitReason {
    fn from_bits(bits: u64) -> Option<WaitReason> {
        use WaitReason::*;
        let all = [
            Lock,
            Units,
            Event,
            Notification,
            Parties,
            Message,
            Room,
            Finished,
            Task,
        ];
        all.get((bits as usize).wrapping_sub(1)).copied()
    }
}

/// One thread's wait, as its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitRecord {
    pub(crate) what: WaitReason,
    pub(crate) block: BlockId,
    pub(crate) since: Duration,
}

/// The unit of the time in a record; 28 bits of it are ten months.
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
        what: WaitReason::from_bits(word >> 32 & 15)?,
        block: BlockId::new(word as u32)?,
        since: Duration::from_nanos((tenths().wrapping_sub(word >> 36) & TIME_MASK) * TENTH_NS),
    })
}

/// What is known of the call that a thread is in.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    since: Option<u64>,
    /// Where its record is, in the slot of which process.
    record: Option<(&'static AtomicU64, ProcId)>,
    /// After a nap in which nothing happened: the deaths of which was told by then.
    idle: Option<u32>,
}

thread_local! {
    static CALL: Cell<Option<Waiting>> = const { Cell::new(None) };
}

/// One call of a program, however often it sleeps: what it waits for is noted from its first sleep to its end.
#[derive(Debug)]
pub struct Call {
    /// What the thread was in before; `None` when this is a part of that.
    before: Option<Option<Waiting>>,
    _of_this_thread: PhantomData<*const ()>,
}

impl Call {
    /// Begins a call: of the program, or of a handler that runs in the midst of another.
    pub fn begin() -> Call {
        Call {
            before: Some(CALL.replace(Some(Waiting::default()))),
            _of_this_thread: PhantomData,
        }
    }

    /// Goes on with the call that the thread is in, or begins one.
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
            // In a child that was forked meanwhile it is the parent's.
            && crate::process::fork::current() == Some(of)
        {
            place.store(0, Ordering::Relaxed);
        }
    }
}

/// Says what the call that the thread is in waits for.
fn record(what: WaitReason, word_of_it: &AtomicU32) {
    let (Some(mut call), Some(arena)) = (CALL.get(), home_if_any()) else {
        return;
    };
    let Some(block) = arena.block_at(word_of_it.as_ptr().addr()) else {
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

/// Sleeps while `word` holds `expected`, with a record of what for: until a wake, `deadline`, a death or the end of a nap.
pub(crate) fn wait(what: WaitReason, word: &AtomicU32, expected: u32, deadline: Deadline) -> Slept {
    wait_known_by(what, word, &[(word, expected)], deadline)
}

/// As [`wait`], on several words: the first one is the object's.
pub(crate) fn wait_any(what: WaitReason, words: &[(&AtomicU32, u32)], deadline: Deadline) -> Slept {
    match words {
        [(known_by, _), ..] => wait_known_by(what, known_by, words, deadline),
        [] => Slept::Stirred,
    }
}

/// As [`wait`], on words of which none may lie in the object's own block, as `known_by` does.
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

/// Whether nothing happened in the last nap of the call that the thread is in.
pub(crate) fn is_idle() -> bool {
    CALL.get().is_some_and(|call| call.idle.is_some())
}

/// Sleeps until a wake, `deadline` or the end of a nap. Of a death that one of `words` tells of, it tells those that
/// sleep long: the kernel, which wakes one sleeper, may have woken this one.
pub(crate) fn nap(words: &[(&AtomicU32, u32)], deadline: Deadline) -> Slept {
    let slept = futex::wait_any(words, deadline);
    let died = |(word, seen): &(&AtomicU32, u32)| {
        robust_mutex::tells_of_death(word.load(Ordering::Acquire))
            && !robust_mutex::tells_of_death(*seen)
    };
    if words.iter().any(died)
        && let Some(arena) = home_if_any()
    {
        arena.tell_of_the_dead();
    }
    slept
}

/// The first sleep of a call in which nothing happens is a nap, the next ones are long sleeps. After one in which
/// something happens it is a nap again, since those who have to do with several processes do with one that something
/// happens to.
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

/// A sleep of another kind, with a record of what for; `word` is one of the object's.
pub(crate) fn noting<T>(what: WaitReason, word: &AtomicU32, sleep: impl FnOnce() -> T) -> T {
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

    /// The records of a slot's last occupant are nobody's.
    pub(crate) fn clear_waits(&self, owner: ProcId) {
        for record in &self.entry(owner).waits {
            record.store(0, Ordering::Relaxed);
        }
    }
}
