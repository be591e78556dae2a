//! Puts a message into a chunk list.
//!
//! The message is complete before a slot is claimed, so everything that can fail or take long is
//! done by then. A large message lies in a block. The slot becomes the block's owner before the
//! slot becomes READY, so at every instant one word says who owns the block.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::arena::owner::Owner;
use crate::channel::chunk_list::chunk::{BODY, Chunk, Slot, WIDE_BODY};
use crate::channel::chunk_list::slot::{Phase, View};
use crate::channel::chunk_list::{CLOSED, ListCursor, finished_prefix};
use crate::channel::message::message_buf::MessageBuf;
use crate::deadline::Deadline;
use crate::error::{Error, PutError, Result};
use crate::failpoint;
use crate::objects::object_ref::ObjectRef;
use crate::process_table::wait_registry;
use crate::process_table::wait_registry::WaitReason;
use crate::retries::Retries;
use crate::sync::spin::Spin;
use crate::sys::futex::Slept;

/// A claimed slot.
struct Reserved<'a> {
    chunk: Chunk<'a>,
    slot: &'a Slot,
    index: u32,
}

/// The result of claiming a slot.
enum Claim<'a> {
    Done(Reserved<'a>),
    /// There is no room.
    Full,
    /// The message does not fit into the slots of this chunk.
    TooNarrow,
}

impl<'a> Claim<'a> {
    /// What to do next, if there was room: go on with the slot, or come back with a block.
    fn made(self) -> Option<Option<Reserved<'a>>> {
        match self {
            Claim::Done(claimed) => Some(Some(claimed)),
            Claim::TooNarrow => Some(None),
            Claim::Full => None,
        }
    }
}

/// Where a message lies, and its size in bytes.
#[derive(Clone, Copy)]
enum Size {
    InSlot(usize),
    InBlock(u64),
}

impl Size {
    fn of_block(self) -> u64 {
        match self {
            Size::InSlot(_) => 0,
            Size::InBlock(bytes) => bytes,
        }
    }
}

/// What one handle knows about sending into a chunk list. Private to this process.
#[derive(Debug, Default)]
pub(super) struct Sending {
    spin: Spin,
    /// All messages before this position were received. The true position may be further on.
    first: AtomicU64,
}

/// How to wait for room, and what to do once there is some.
pub(super) struct Wait<'w> {
    pub(super) deadline: Deadline,
    pub(super) sending: &'w Sending,
    /// Asked whether waiting is hopeless. If nobody wakes the sender in that case, it is asked at
    /// least every `nap`.
    pub(super) hopeless: &'w dyn Fn() -> bool,
    pub(super) nap: Option<Duration>,
    /// Called when a slot is claimed, before the message is there.
    pub(super) on_claimed: &'w dyn Fn(),
}

impl<'a> ListCursor<'a> {
    /// Puts the message made of `parts`, which keeps `objects` alive. Waits for room.
    #[inline]
    pub(super) fn put(
        &self,
        parts: &[&[u8]],
        objects: &[ObjectRef],
        wait: &Wait<'_>,
    ) -> Result<(), PutError> {
        if self.has(CLOSED) {
            return Err(PutError::Closed);
        }
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length <= WIDE_BODY && objects.is_empty() {
            if length > BODY {
                self.count_medium();
            }
            if let Some(claimed) = self.claim_waiting(Size::InSlot(length), wait)? {
                failpoint::hit("queue.claimed");
                (wait.on_claimed)();
                let Reserved { chunk, slot, index } = claimed;
                slot.length.store(length as u64, Ordering::Relaxed);
                slot.block.store(0, Ordering::Relaxed);
                chunk.write(index, parts);
                return self.publish(&claimed);
            }
        }
        self.put_buf(&mut Some(MessageBuf::from_parts(parts, objects)?), wait)
    }

    /// Puts a message that was written already. Takes the buffer if the message is put.
    pub(super) fn put_buf(
        &self,
        buf: &mut Option<MessageBuf>,
        wait: &Wait<'_>,
    ) -> Result<(), PutError> {
        if self.has(CLOSED) {
            return Err(PutError::Closed);
        }
        let Some(written) = buf else {
            return Err(Error::Invalid("the message buffer was sent already".into()).into());
        };
        let size = written.size()?;
        let claimed = self.claim_waiting(Size::InBlock(size), wait)?;
        let claimed = claimed.expect("the number of a block fits into every slot");
        failpoint::hit("queue.claimed");
        (wait.on_claimed)();
        let Reserved { chunk, slot, index } = claimed;
        if self.chain.byte_limit.load(Ordering::Relaxed) > 0 {
            chunk.header.large.add(&chunk, size);
        }
        slot.length.store(size, Ordering::Relaxed);
        slot.block.store(written.block.0, Ordering::Release);
        failpoint::hit("queue.block_named");
        let owner = slot_owner(&chunk, index);
        let cell = self.arena.cell(written.block)?;
        cell.owner.pass(self.arena.mine(), owner);
        failpoint::hit("queue.block_passed");
        if let Some(sent) = buf.take() {
            sent.disarm();
        }
        self.publish(&claimed)
    }

    /// Counts a message of a size for wide slots. If one in several is of that size, the next chunk
    /// is a wide one.
    fn count_medium(&self) {
        let medium = &self.chain.medium;
        let count = medium.load(Ordering::Relaxed);
        medium.store(count.wrapping_add(1), Ordering::Relaxed);
    }

    /// Makes a written slot READY.
    #[inline]
    fn publish(&self, claimed: &Reserved<'a>) -> Result<(), PutError> {
        let Reserved { chunk, slot, .. } = claimed;
        failpoint::hit("queue.written");
        let me = self.arena.me();
        if !slot
            .word
            .pass(chunk.inc(), Phase::Reserved(me), Phase::Ready)
        {
            // Others took this process for dead. Nothing was put.
            return Err(Error::SeatGone.into());
        }
        failpoint::hit("queue.ready");
        self.chain.items.notify(1);
        Ok(())
    }

    /// Claims a slot as soon as there is room. Returns `None` if the slots are too narrow for the
    /// message.
    #[inline(always)]
    fn claim_waiting(&self, size: Size, wait: &Wait<'_>) -> Result<Option<Reserved<'a>>, PutError> {
        match self.claim(size, &wait.sending.first)? {
            Claim::Done(claimed) => Ok(Some(claimed)),
            Claim::TooNarrow => Ok(None),
            Claim::Full if wait.deadline == Deadline::NOW => Err(PutError::Full),
            Claim::Full => self.claim_when_there_is_room(size, wait),
        }
    }

    #[inline(never)]
    fn claim_when_there_is_room(
        &self,
        size: Size,
        wait: &Wait<'_>,
    ) -> Result<Option<Reserved<'a>>, PutError> {
        let claim = || self.claim_again(size, wait);
        if let Some(claim) = wait.sending.spin.until(|| claim().transpose()) {
            return Ok(claim?);
        }
        let waited = self.wait_for_room(size, wait);
        self.chain.space.woke(|| true);
        waited
    }

    /// Claims a slot again; `None` if there is no room.
    #[inline(never)]
    fn claim_again(&self, size: Size, wait: &Wait<'_>) -> Result<Option<Option<Reserved<'a>>>> {
        Ok(self.claim(size, &wait.sending.first)?.made())
    }

    // A separate function, because otherwise the path of a message that has room would not be
    // inlined.
    #[inline(never)]
    fn wait_for_room(&self, size: Size, wait: &Wait<'_>) -> Result<Option<Reserved<'a>>, PutError> {
        let _call = wait_registry::Call::join();
        loop {
            let key = self.chain.space.announce();
            if let Some(claim) = self.claim_again(size, wait)? {
                return Ok(claim);
            }
            if self.has(CLOSED) || (wait.hopeless)() {
                return Err(PutError::Closed);
            }
            if wait.deadline.is_past() {
                return Err(PutError::Full);
            }
            failpoint::hit("queue.full");
            let nap = wait.nap.map_or(Deadline::NEVER, Deadline::after);
            let until = wait.deadline.min(nap);
            if wait_registry::wait(WaitReason::Room, self.chain.space.word(), key, until)
                == Slept::Interrupted
            {
                return Err(PutError::Interrupted);
            }
        }
    }

    /// Claims the first empty slot. Always inlined, because what it returns is large.
    #[inline(always)]
    fn claim(&self, size: Size, received: &AtomicU64) -> Result<Claim<'a>> {
        let me = self.arena.me();
        let mut retries = Retries::default();
        loop {
            let chunk = self.tail()?;
            let mut index = chunk.header.claimed.get(&chunk);
            while index < chunk.count {
                if matches!(size, Size::InSlot(length) if length > chunk.body_size()) {
                    return Ok(Claim::TooNarrow);
                }
                let slot = chunk.slot(index);
                let seen = slot.word.look();
                match seen.view(chunk.inc()) {
                    View::In(_) => index += 1,
                    View::Stale => break,
                    View::Empty => {
                        if !self.has_room(&chunk, index, size.of_block(), received)? {
                            return Ok(Claim::Full);
                        }
                        if slot.word.claim(seen, chunk.inc(), me).is_ok() {
                            chunk.header.claimed.set(&chunk, index + 1);
                            return Ok(Claim::Done(Reserved { chunk, slot, index }));
                        }
                        retries.again()?;
                    }
                }
            }
            if index >= chunk.count {
                self.extend(&chunk)?;
            }
            retries.again()?;
        }
    }

    /// Whether a message may be put at this position. Once this is true of an empty position, it
    /// stays true: the messages before it only become fewer.
    #[inline]
    fn has_room(
        &self,
        chunk: &Chunk<'a>,
        index: u32,
        large: u64,
        received: &AtomicU64,
    ) -> Result<bool> {
        let limit = self.chain.limit.load(Ordering::Relaxed);
        let bytes = self.chain.byte_limit.load(Ordering::Relaxed);
        if limit == 0 && (bytes == 0 || large == 0) {
            return Ok(true);
        }
        let position = self.position(chunk, index);
        // What was known before is often enough, and saves a look at words that consumers write.
        let known = received.load(Ordering::Relaxed);
        if large == 0 && position.saturating_sub(known) < limit {
            return Ok(true);
        }
        let mut retries = Retries::default();
        let first = loop {
            let Some(oldest) = self.first_to_receive()? else {
                return Ok(true);
            };
            let first = self.position(&oldest, finished_prefix(&oldest));
            if oldest.is_current() {
                break first;
            }
            retries.again()?;
        };
        received.store(first, Ordering::Relaxed);
        let outstanding = position.saturating_sub(first);
        if outstanding == 0 {
            return Ok(true);
        }
        // Count exactly only if the cheap estimate, which is never too low, says that there is no
        // room.
        let is_there = |phase: Phase| !phase.is_finished();
        if limit > 0 && outstanding >= limit && self.waiting(Some(position), is_there)? >= limit {
            return Ok(false);
        }
        if bytes > 0 && large > 0 {
            let there = self.bytes_waiting(position, bytes.saturating_sub(large))?;
            return Ok(there == 0 || there.saturating_add(large) <= bytes);
        }
        Ok(true)
    }

    /// Whether a put that does not wait would find no room, as far as that is as cheap to find out
    /// as the put. False if unsure.
    pub(super) fn is_out_of_room(&self, sending: &Sending) -> bool {
        if self.chain.limit.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let Ok(Some(chunk)) = self.chunk_at(&self.chain.tail) else {
            return false;
        };
        // The last claimed slot may be further on by now, with less room.
        let index = chunk.header.claimed.get(&chunk);
        let has_room = self.has_room(&chunk, index, 0, &sending.first);
        has_room.is_ok_and(|has_room| !has_room)
    }

    /// Whether there is room for a small message.
    pub(crate) fn has_room_for_one(&self) -> bool {
        let limit = self.chain.limit.load(Ordering::Relaxed);
        let is_there = |phase: Phase| !phase.is_finished();
        limit == 0
            || self
                .waiting(None, is_there)
                .is_ok_and(|there| there < limit)
    }
}

/// The owner of a large message's block while the message waits in a slot.
pub(super) fn slot_owner(chunk: &Chunk<'_>, index: u32) -> Owner {
    Owner::Slot {
        chunk: chunk.link.block().map_or(0, |block| block.0),
        index,
        inc: chunk.inc(),
    }
}
