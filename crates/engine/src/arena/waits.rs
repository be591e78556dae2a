//! What the threads of each process wait for, so that somebody can find out why nothing goes on.
//!
//! A thread writes a note into its process's seat before it sleeps, and takes it out afterwards. Notes are
//! there to be shown: nothing depends on them, and of more threads than there is room for some leave none.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::block::BlockId;
use super::owner::OwnerId;
use super::{Arena, home_if_any};
use crate::deadline::{Deadline, monotonic_ns};
use crate::sys::futex::{self, Slept};

/// The threads of a process that can leave notes at a time.
pub(super) const NOTES: usize = 6;

/// What is waited for at an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum What {
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

impl What {
    fn from_bits(bits: u64) -> Option<What> {
        use What::*;
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

/// One thread's wait, as its note says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) what: What,
    pub(crate) block: BlockId,
    pub(crate) since: Duration,
}

/// The unit of the time in a note; 28 bits of it are ten months.
const TENTH_NS: u64 = 100_000_000;
const TIME_MASK: u64 = (1 << 28) - 1;

fn word(what: What, block: BlockId) -> u64 {
    let now = (monotonic_ns() / TENTH_NS) & TIME_MASK;
    now << 36 | (what as u64) << 32 | u64::from(block.0)
}

fn read(word: u64) -> Option<Wait> {
    let now = (monotonic_ns() / TENTH_NS) & TIME_MASK;
    Some(Wait {
        what: What::from_bits(word >> 32 & 15)?,
        block: BlockId::new(word as u32)?,
        since: Duration::from_nanos((now.wrapping_sub(word >> 36) & TIME_MASK) * TENTH_NS),
    })
}

/// A note while its wait lasts.
struct Note(&'static AtomicU64);

impl Note {
    fn leave(what: What, word_of_it: &AtomicU32) -> Option<Note> {
        let arena = home_if_any()?;
        let block = arena.block_at(word_of_it.as_ptr().addr())?;
        let note = word(what, block);
        let notes = &arena.seat(arena.me()).waits;
        let place = notes.iter().find(|place| {
            place
                .compare_exchange(0, note, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        })?;
        Some(Note(place))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// [`futex::wait`], with a note of what for.
pub(crate) fn wait(what: What, word: &AtomicU32, expected: u32, deadline: Deadline) -> Slept {
    let _note = Note::leave(what, word);
    futex::wait(word, expected, deadline)
}

/// [`futex::wait_any`], with a note of what for: the first word is the object's.
pub(crate) fn wait_any(what: What, words: &[(&AtomicU32, u32)], deadline: Deadline) -> Slept {
    let _note = words.first().and_then(|(word, _)| Note::leave(what, word));
    futex::wait_any(words, deadline)
}

/// A sleep of another kind, with a note of what for; `word` is one of the object's.
pub(crate) fn noting<T>(what: What, word: &AtomicU32, sleep: impl FnOnce() -> T) -> T {
    let _note = Note::leave(what, word);
    sleep()
}

impl Arena {
    /// What the threads of a process wait for.
    pub(crate) fn waits_of(&self, owner: OwnerId) -> Vec<Wait> {
        let notes = &self.seat(owner).waits;
        notes
            .iter()
            .filter_map(|note| read(note.load(Ordering::Relaxed)))
            .collect()
    }

    /// The notes of a seat's last occupant are nobody's.
    pub(super) fn clear_waits(&self, owner: OwnerId) {
        for note in &self.seat(owner).waits {
            note.store(0, Ordering::Relaxed);
        }
    }
}
