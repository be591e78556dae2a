//! The order in which tasks are offered, and how workers sleep when there are none.
//!
//! The ring is a *hint*: it says in which order records are worth trying. The claim itself is the swap in the record
//! ([`record::claim`]). A worker that dies anywhere in here leaves nothing behind but a head that the next worker moves
//! on. Nothing is ever taken out of the ring and then lost; this is why tasks are not messages of a queue.
//!
//! Workers sleep on the doorbell, an [event count](EventCount). The words that are published here are not sequentially
//! consistent themselves, so both sides use its functions with a fence.

use super::record;
use crate::eventcount::EventCount;
use crate::sys::atomic::{AtomicU64, Ordering};

/// Where the words of a task queue lie: in shared memory, or in a loom model.
pub(crate) trait RingMemory {
    /// The number of records, and of slots in the ring: a power of two, below 2^32.
    fn capacity(&self) -> u32;
    /// The state word of a record; `number` is below the capacity.
    fn state(&self, number: u32) -> &AtomicU64;
    /// The ring slot at a position: record number in the low half, generation in the high half.
    fn ring_slot(&self, position: u64) -> &AtomicU64;
    /// The first position that may still hold a claimable task. Any process that finds that task done moves it on.
    fn head(&self) -> &AtomicU64;
    /// One past the last ring slot. Only the submitting process writes it.
    fn tail(&self) -> &AtomicU64;
    fn doorbell(&self) -> &EventCount;
}

/// One generation of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RingSlot {
    pub(crate) number: u32,
    pub(crate) generation: u32,
}

impl RingSlot {
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.number) | u64::from(self.generation) << 32
    }

    pub(crate) fn from_word(word: u64) -> RingSlot {
        RingSlot {
            number: word as u32,
            generation: (word >> 32) as u32,
        }
    }
}

/// Whether the ring has room for one more slot. The answer stays true until the next [`offer`]: only the submitting
/// process fills the ring, one thread at a time.
#[inline]
pub(crate) fn has_room(words: &impl RingMemory) -> bool {
    let tail = words.tail().load(Ordering::Relaxed);
    let is_full = |head: u64| tail.wrapping_sub(head) >= u64::from(words.capacity());
    if is_full(words.head().load(Ordering::Acquire)) {
        skip_done(words, tail);
        return !is_full(words.head().load(Ordering::Acquire));
    }
    true
}

/// Offers a record that is QUEUED. False if the ring is full.
pub(crate) fn offer(words: &impl RingMemory, ring_slot: RingSlot) -> bool {
    let has_room = has_room(words);
    if has_room {
        put(words, ring_slot);
    }
    has_room
}

/// Offers a record that is QUEUED, after [`has_room`] returned true.
#[inline]
pub(crate) fn put(words: &impl RingMemory, ring_slot: RingSlot) {
    let tail = words.tail().load(Ordering::Relaxed);
    words
        .ring_slot(tail)
        .store(ring_slot.to_word(), Ordering::Relaxed);
    // Pairs with the load of `tail` in `take`: a worker that sees the new tail sees the ring slot.
    words.tail().store(tail.wrapping_add(1), Ordering::Release);
}

/// Moves the head past ring slots whose records can no longer be claimed.
fn skip_done(words: &impl RingMemory, tail: u64) {
    loop {
        let head = words.head().load(Ordering::Acquire);
        if head == tail
            || is_queued(
                words,
                RingSlot::from_word(words.ring_slot(head).load(Ordering::Acquire)),
            )
        {
            return;
        }
        advance(words, head);
    }
}

fn is_queued(words: &impl RingMemory, ring_slot: RingSlot) -> bool {
    let state = record::load(words.state(ring_slot.number % words.capacity()));
    state.stage() == record::Stage::Queued && state.generation() == ring_slot.generation
}

fn advance(words: &impl RingMemory, head: u64) {
    let next = head.wrapping_add(1);
    // On failure another process has moved it on.
    let _ = words
        .head()
        .compare_exchange(head, next, Ordering::AcqRel, Ordering::Relaxed);
}

/// Claims the first claimable task. Calls `claimed` between the claim and the head's move.
pub(crate) fn take(words: &impl RingMemory, me: u32, claimed: impl Fn()) -> Option<RingSlot> {
    loop {
        let head = words.head().load(Ordering::Acquire);
        if head >= words.tail().load(Ordering::Acquire) {
            return None;
        }
        // The head may be old and the ring slot from a later lap: then a later task is claimed early, once.
        let mut ring_slot = RingSlot::from_word(words.ring_slot(head).load(Ordering::Acquire));
        ring_slot.number %= words.capacity();
        let mine = record::claim(words.state(ring_slot.number), ring_slot.generation, me);
        if mine {
            claimed();
        }
        advance(words, head);
        if mine {
            return Some(ring_slot);
        }
    }
}

/// Whether it is worth trying to take a task.
pub(crate) fn has_tasks(words: &impl RingMemory) -> bool {
    words.head().load(Ordering::Relaxed) < words.tail().load(Ordering::Relaxed)
}
