//! The order in which tasks are offered, and how workers sleep when there are none.
//!
//! The ring of tickets is a *hint*: it says in which order records are worth trying. The claim itself
//! is the swap in the record ([`record::claim`]), so a worker that dies anywhere in here leaves
//! nothing behind but a head that the next one moves on. Nothing is ever taken out of the ring and
//! then lost, which is why tasks do not travel in a queue.
//!
//! The bell is an event count: a worker announces itself, looks once more and sleeps; a submitter publishes, then looks
//! whether somebody sleeps. Both sides have a sequentially consistent fence in between, as what is published here is
//! not itself so ordered: one of them sees the other.

use super::record;
use crate::sync::eventcount::EventCount;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::fence;
#[cfg(not(loom))]
use std::sync::atomic::fence;

/// Where the words of a board lie: in shared memory, or in a model's.
pub(super) trait Words {
    /// Records, and tickets in the ring: a power of two, below 2^32.
    fn capacity(&self) -> u32;
    fn state(&self, number: u32) -> &AtomicU64;
    /// The ticket at a position: record number in the low half, generation in the high half.
    fn ticket(&self, position: u64) -> &AtomicU64;
    /// The first position that may still hold a task to claim. Moved on by whoever finds it done.
    fn head(&self) -> &AtomicU64;
    /// One past the last ticket. Written by the submitting process only.
    fn tail(&self) -> &AtomicU64;
    fn bell(&self) -> &EventCount;
}

/// A record at one of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ticket {
    pub(super) number: u32,
    pub(super) generation: u32,
}

impl Ticket {
    pub(super) fn to_word(self) -> u64 {
        u64::from(self.number) | u64::from(self.generation) << 32
    }

    pub(super) fn from_word(word: u64) -> Ticket {
        Ticket {
            number: word as u32,
            generation: (word >> 32) as u32,
        }
    }
}

/// Whether there is room for one more ticket. What is there stays until the next [`offer`]: only the submitting process
/// fills the ring, one thread at a time.
#[inline]
pub(super) fn has_room(words: &impl Words) -> bool {
    let tail = words.tail().load(Ordering::Relaxed);
    let is_full = |head: u64| tail.wrapping_sub(head) >= u64::from(words.capacity());
    if is_full(words.head().load(Ordering::Acquire)) {
        skip_done(words, tail);
        return !is_full(words.head().load(Ordering::Acquire));
    }
    true
}

/// Offers a record that is QUEUED. False when the ring is full.
pub(super) fn offer(words: &impl Words, ticket: Ticket) -> bool {
    let has_room = has_room(words);
    if has_room {
        put(words, ticket);
    }
    has_room
}

/// Offers a record that is QUEUED, where [`has_room`] was asked before.
#[inline]
pub(super) fn put(words: &impl Words, ticket: Ticket) {
    let tail = words.tail().load(Ordering::Relaxed);
    words
        .ticket(tail)
        .store(ticket.to_word(), Ordering::Relaxed);
    // Pairs with the load of `tail` in `take`: who sees the new tail sees the ticket.
    words.tail().store(tail.wrapping_add(1), Ordering::Release);
}

/// Moves the head over tickets whose records nobody can claim any more.
fn skip_done(words: &impl Words, tail: u64) {
    loop {
        let head = words.head().load(Ordering::Acquire);
        if head == tail
            || is_open(
                words,
                Ticket::from_word(words.ticket(head).load(Ordering::Acquire)),
            )
        {
            return;
        }
        advance(words, head);
    }
}

fn is_open(words: &impl Words, ticket: Ticket) -> bool {
    let state = record::load(words.state(ticket.number % words.capacity()));
    state.stage() == record::Stage::Queued && state.generation() == ticket.generation
}

fn advance(words: &impl Words, head: u64) {
    let next = head.wrapping_add(1);
    // Failing means that somebody else moved it on.
    let _ = words
        .head()
        .compare_exchange(head, next, Ordering::AcqRel, Ordering::Relaxed);
}

/// Claims the first task that is open. `claimed` is told between the claim and the head's move.
pub(super) fn take(words: &impl Words, me: u32, claimed: impl Fn()) -> Option<Ticket> {
    loop {
        let head = words.head().load(Ordering::Acquire);
        if head >= words.tail().load(Ordering::Acquire) {
            return None;
        }
        // The head may be old and the ticket from a later lap: then a later task is claimed, once.
        let mut ticket = Ticket::from_word(words.ticket(head).load(Ordering::Acquire));
        ticket.number %= words.capacity();
        let mine = record::claim(words.state(ticket.number), ticket.generation, me);
        if mine {
            claimed();
        }
        advance(words, head);
        if mine {
            return Some(ticket);
        }
    }
}

/// Whether it is worth trying to take a task.
pub(super) fn are_there(words: &impl Words) -> bool {
    words.head().load(Ordering::Relaxed) < words.tail().load(Ordering::Relaxed)
}

/// Says that the caller is going to sleep; the value to sleep on. The caller looks once more first.
pub(super) fn announce_sleep(words: &impl Words) -> u32 {
    let seen = words.bell().announce();
    fence(Ordering::SeqCst);
    seen
}

/// Wakes workers if any may sleep. `wake` is the system call, and says how many woke.
pub(super) fn ring(words: &impl Words, wake: impl FnOnce(&AtomicU32) -> usize) {
    fence(Ordering::SeqCst);
    if words.bell().is_awaited() {
        words.bell().call(wake);
    }
}
