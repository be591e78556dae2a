//! Putting a message into a chain.
//!
//! The message is whole before a slot is claimed: what can fail or take long is behind it then. A large
//! message lies in a block; the block's owner becomes the slot before the slot becomes READY, so that
//! at every instant one word says whose the block is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::chain::{At, CLOSED, done_in};
use super::repair;
use super::slot::{Phase, View};
use super::strip::{BODY, Slot, Strip};
use super::tally::Step;
use crate::arena::block::BlockId;
use crate::arena::envelope;
use crate::arena::open::Held;
use crate::arena::owner::Owner;
use crate::deadline::Deadline;
use crate::error::{Error, PutError, Result};
use crate::kill;
use crate::sync::spin::Spin;
use crate::sys::futex::{self, Slept};

/// A claimed slot.
struct Claimed<'a> {
    strip: Strip<'a>,
    slot: &'a Slot,
    index: u32,
}

/// A large message's block, freed unless a slot took it over.
struct Parcel<'a> {
    at: At<'a>,
    block: BlockId,
}

impl Drop for Parcel<'_> {
    fn drop(&mut self) {
        self.at.arena.free(self.block, self.at.arena.mine());
    }
}

/// How to wait for room, and what to do once there is.
pub(super) struct Wait<'w> {
    pub(super) deadline: Deadline,
    pub(super) spin: &'w Spin,
    /// Asked at least every `nap` whether waiting became hopeless.
    pub(super) hopeless: &'w dyn Fn() -> bool,
    pub(super) nap: Duration,
    /// Done when a slot is claimed, before the message is there.
    pub(super) claimed: &'w dyn Fn(),
}

impl<'a> At<'a> {
    /// Puts the message made of `parts`, which keeps `objects` alive, waiting for room until `deadline`.
    pub(super) fn put(
        &self,
        parts: &[&[u8]],
        objects: &[Held],
        deadline: Deadline,
        spin: &Spin,
    ) -> Result<(), PutError> {
        let wait = Wait {
            deadline,
            spin,
            hopeless: &|| false,
            nap: futex::NAP,
            claimed: &|| (),
        };
        self.put_waiting(parts, objects, &wait)
    }

    /// As [`At::put`].
    pub(super) fn put_waiting(
        &self,
        parts: &[&[u8]],
        objects: &[Held],
        wait: &Wait<'_>,
    ) -> Result<(), PutError> {
        if self.has(CLOSED) {
            return Err(PutError::Closed);
        }
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        let length = match objects {
            [] => bytes,
            _ => envelope::offset(objects.len()) + bytes,
        };
        let parcel = match length > BODY || !objects.is_empty() {
            true => Some(self.wrap(parts, objects, length)?),
            false => None,
        };
        let large = parcel.as_ref().map_or(0, |_| length as u64);
        let claimed = self.claim_waiting(large, wait)?;
        kill::point("queue.claimed");
        (wait.claimed)();
        self.fill(&claimed, parts, length, parcel)?;
        self.chain.items.notify(1);
        Ok(())
    }

    fn wrap(&self, parts: &[&[u8]], objects: &[Held], length: usize) -> Result<Parcel<'a>> {
        let block = self.arena.alloc(length as u64)?;
        let parcel = Parcel { at: *self, block };
        kill::point("queue.block_taken");
        let mut start = self.arena.payload(block)?;
        if !objects.is_empty() {
            self.arena.seal(block, objects)?;
            // SAFETY: `length` counts the list.
            start = unsafe { start.add(envelope::offset(objects.len())) };
        }
        // SAFETY: a block of at least `length` bytes that is this process's alone.
        unsafe { copy_parts(parts, start.as_ptr()) };
        Ok(parcel)
    }

    /// Writes the message into the slot and makes it READY.
    fn fill(
        &self,
        claimed: &Claimed<'a>,
        parts: &[&[u8]],
        length: usize,
        parcel: Option<Parcel<'a>>,
    ) -> Result<(), PutError> {
        let Claimed { strip, slot, index } = *claimed;
        slot.length.store(length as u64, Ordering::Relaxed);
        match parcel {
            None => {
                slot.block.store(0, Ordering::Relaxed);
                slot.write(parts);
            }
            Some(parcel) => {
                slot.block.store(parcel.block.0, Ordering::Release);
                kill::point("queue.block_named");
                let owner = slot_owner(&strip, index);
                let cell = self.arena.cell(parcel.block)?;
                cell.owner.pass(self.arena.mine(), owner);
                kill::point("queue.block_passed");
                // The block is the slot's: dropping the parcel finds another owner.
            }
        }
        kill::point("queue.written");
        let me = self.arena.me();
        if !slot
            .word
            .pass(strip.inc(), Phase::Claimed(me), Phase::Ready)
        {
            // Others took this process for dead. Nothing was put.
            return Err(Error::SeatGone.into());
        }
        kill::point("queue.ready");
        Ok(())
    }

    fn claim_waiting(&self, large: u64, wait: &Wait<'_>) -> Result<Claimed<'a>, PutError> {
        if let Some(claimed) = self.claim(large)? {
            return Ok(claimed);
        }
        if wait.deadline == Deadline::NOW {
            return Err(PutError::Full);
        }
        if let Some(claimed) = wait.spin.until(|| self.claim(large).transpose()) {
            return Ok(claimed?);
        }
        let waited = self.wait_for_room(large, wait);
        self.chain.space.woke(|| true);
        waited
    }

    fn wait_for_room(&self, large: u64, wait: &Wait<'_>) -> Result<Claimed<'a>, PutError> {
        loop {
            let key = self.chain.space.announce();
            if let Some(claimed) = self.claim(large)? {
                return Ok(claimed);
            }
            if self.has(CLOSED) || (wait.hopeless)() {
                return Err(PutError::Closed);
            }
            if wait.deadline.is_past() {
                return Err(PutError::Full);
            }
            kill::point("queue.full");
            let until = wait.deadline.min(Deadline::after(wait.nap));
            if futex::wait(self.chain.space.word(), key, until) == Slept::Interrupted {
                return Err(PutError::Interrupted);
            }
        }
    }

    /// Claims the first empty slot; `None` when there is no room.
    fn claim(&self, large: u64) -> Result<Option<Claimed<'a>>> {
        let me = self.arena.me();
        loop {
            let strip = self.tail()?;
            let mut index = strip.header.claimed.get(&strip);
            while index < strip.count {
                let slot = strip.slot(index);
                let seen = slot.word.look();
                match seen.view(strip.inc()) {
                    View::In(_) => index += 1,
                    View::Stale => break,
                    View::Empty => {
                        if !self.has_room(&strip, index, large)? {
                            return Ok(None);
                        }
                        if slot.word.claim(seen, strip.inc(), me).is_ok() {
                            strip.header.claimed.set(&strip, index + 1);
                            return Ok(Some(Claimed { strip, slot, index }));
                        }
                    }
                }
            }
            if index >= strip.count {
                self.extend(&strip)?;
            }
        }
    }

    /// Whether a message may be put at this place. Once true of an empty place, it stays true: messages
    /// before it only become fewer.
    fn has_room(&self, strip: &Strip<'a>, index: u32, large: u64) -> Result<bool> {
        let limit = self.chain.limit.load(Ordering::Relaxed);
        let bytes = self.chain.byte_limit.load(Ordering::Relaxed);
        if limit == 0 && (bytes == 0 || large == 0) {
            return Ok(true);
        }
        let position = strip.base() + u64::from(index);
        let Some(head) = self.head()? else {
            return Ok(true);
        };
        let first = head.base() + u64::from(done_in(&head));
        if !head.is_current() {
            return self.has_room(strip, index, large);
        }
        let outstanding = position.saturating_sub(first);
        if outstanding == 0 {
            return Ok(true);
        }
        // The exact count is only taken where the cheap one, which is never too low, says no.
        if limit > 0 && outstanding >= limit && self.count(position, |_| 1)? >= limit {
            return Ok(false);
        }
        if bytes > 0 && large > 0 {
            let there = self.count(position, |slot| slot.length.load(Ordering::Relaxed))?;
            return Ok(there == 0 || there + large <= bytes);
        }
        Ok(true)
    }

    /// Sums `weight` over all messages before `end` that were not received yet.
    pub(super) fn count(&self, end: u64, weight: impl Fn(&Slot) -> u64) -> Result<u64> {
        self.walk(self.head()?, |strip, index, sum| {
            if strip.base() + u64::from(index) >= end {
                return Step::Done;
            }
            *sum += match repair::look(self, strip, index) {
                View::In(phase) if phase.is_over() => 0,
                View::In(Phase::Claimed(_)) => 1,
                View::In(_) => weight(strip.slot(index)),
                View::Empty => return Step::Done,
                View::Stale => return Step::Again,
            };
            Step::NextSlot
        })
    }
}

/// The owner that a large message's block has while it waits in a slot.
pub(super) fn slot_owner(strip: &Strip<'_>, index: u32) -> Owner {
    Owner::Slot {
        strip: strip.link.block().map_or(0, |block| block.0),
        index,
        inc: strip.inc(),
    }
}

/// Copies the parts one behind the other.
///
/// # Safety
/// `to` must be valid for writing as many bytes as the parts have together, and not overlap them.
unsafe fn copy_parts(parts: &[&[u8]], to: *mut u8) {
    let mut to = to;
    for part in parts {
        // SAFETY: the caller's promise; the parts are slices of this process's.
        unsafe {
            std::ptr::copy_nonoverlapping(part.as_ptr(), to, part.len());
            to = to.add(part.len());
        }
    }
}
