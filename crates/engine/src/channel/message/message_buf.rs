//! A message that is written in place.

use std::ops::Range;

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::owner::Owner;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::objects::attachments;
use crate::objects::cow_buffer::CowBuffer;
use crate::objects::object_ref::ObjectRef;
use crate::objects::private_mapping::{BorrowedBuffer, PrivateBlock};
use crate::process_table::home;

/// A large message in a block that this process owns: one that it fills in place and has not sent
/// yet, or one that it received (inside a [`Message`](crate::channel::Message)).
///
/// Dropping it frees the block.
pub struct MessageBuf {
    arena: &'static Arena,
    pub(crate) block: BlockId,
    owner: Owner,
    /// Where the message's bytes lie in the block, behind the list of objects.
    range: Range<usize>,
}

impl MessageBuf {
    /// A buffer for a message of `length` bytes that keeps `objects` alive. Its content is
    /// undefined at first.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(length: usize, objects: &[ObjectRef]) -> Result<MessageBuf> {
        let arena = home()?;
        let start = match objects {
            [] => 0,
            _ => attachments::offset(objects.len()),
        };
        // On overflow the sum saturates, which is more than any block holds.
        let end = start.saturating_add(length);
        let block = arena.alloc(end as u64)?;
        let buf = MessageBuf {
            arena,
            block,
            owner: arena.mine(),
            range: start..end,
        };
        failpoint::hit("queue.block_taken");
        if !objects.is_empty() {
            arena.attach_objects(block, objects)?;
        }
        Ok(buf)
    }

    /// A buffer with the parts, one after the other.
    pub(crate) fn from_parts(parts: &[&[u8]], objects: &[ObjectRef]) -> Result<MessageBuf> {
        let mut buf = MessageBuf::new(parts.iter().map(|part| part.len()).sum(), objects)?;
        let mut rest = buf.bytes_mut();
        for part in parts {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        Ok(buf)
    }

    /// The message in a block that `owner`, this process, has taken over. The block must contain
    /// the range.
    pub(crate) fn received(
        arena: &'static Arena,
        block: BlockId,
        owner: Owner,
        range: Range<usize>,
    ) -> MessageBuf {
        MessageBuf {
            arena,
            block,
            owner,
            range,
        }
    }

    /// The bytes of the message, starting at a multiple of 64.
    ///
    /// # Panics
    /// In a child forked after the buffer was made: the buffer belongs to the parent.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.check_owner();
        let payload = self.arena.payload(self.block);
        let payload = payload.expect("a block that was taken is mapped");
        // SAFETY: only this process has the block (checked) until the buffer is sent, which
        // consumes the buffer. The block contains the range and is never unmapped. File-backed
        // memory is always initialised.
        unsafe {
            std::slice::from_raw_parts_mut(payload.add(self.range.start).as_ptr(), self.range.len())
        }
    }

    /// The bytes written so far.
    ///
    /// # Panics
    /// Like [`MessageBuf::bytes_mut`].
    pub fn bytes(&self) -> &[u8] {
        self.check_owner();
        self.received_bytes()
    }

    /// The bytes, also in a forked child, which may see them only while the parent keeps them.
    pub(crate) fn received_bytes(&self) -> &[u8] {
        match self.arena.payload(self.block) {
            // SAFETY: this process owns the block until the buffer is gone, and the borrow of the
            // buffer keeps it from being written. The block contains the range and is never
            // unmapped.
            Ok(payload) => unsafe {
                std::slice::from_raw_parts(payload.add(self.range.start).as_ptr(), self.range.len())
            },
            Err(_) => &[],
        }
    }

    fn check_owner(&self) {
        assert!(
            self.is_mine(),
            "a message buffer is used by the process that made it, not by a forked child"
        );
    }

    /// Truncates to `length` bytes. Does nothing if there are fewer.
    pub fn truncate(&mut self, length: usize) {
        let length = length.min(self.range.len());
        self.range.end = self.range.start + length;
    }

    /// Drops the first `count` bytes, or all if there are fewer.
    pub(crate) fn advance(&mut self, count: usize) {
        self.range.start += count.min(self.range.len());
    }

    pub(crate) fn is_mine(&self) -> bool {
        self.owner == self.arena.mine()
    }

    /// Whether the bytes fill the block from its start, and keep no objects.
    pub(crate) fn is_bare(&self) -> bool {
        self.range.start == 0 && !self.holds_objects()
    }

    pub(crate) fn holds_objects(&self) -> bool {
        self.arena.attachment_offset(self.block).is_some()
    }

    /// See [`Message::lend`](crate::channel::Message::lend).
    pub(crate) fn lend(self) -> std::result::Result<BorrowedBuffer, MessageBuf> {
        if !self.is_mine() {
            return Err(self);
        }
        match PrivateBlock::new(self.arena, self.block, self.owner) {
            Some(memory) => {
                let range = self.range.clone();
                // The borrowed buffer frees the block from now on.
                self.disarm();
                Ok(BorrowedBuffer::new(memory, range))
            }
            None => Err(self),
        }
    }

    /// The bytes of the block that are in use. Fails in a child forked after the buffer was made.
    pub(crate) fn size(&self) -> Result<u64> {
        match self.is_mine() {
            true => Ok(self.range.end as u64),
            false => Err(Error::Invalid(
                "a message buffer is sent by the process that made it".into(),
            )),
        }
    }

    /// Turns the bytes into a copy-on-write buffer that other processes open by its handle. The
    /// buffer must have no objects.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn into_cow_buffer(self) -> Result<CowBuffer> {
        self.size()?;
        let cow_buffer = CowBuffer::new(self.arena, self.block, self.range.clone())?;
        self.disarm();
        Ok(cow_buffer)
    }

    /// Forgets the block: it has another owner now.
    pub(crate) fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for MessageBuf {
    fn drop(&mut self) {
        if self.is_mine() {
            self.arena.free(self.block, self.owner);
        }
    }
}

impl std::fmt::Debug for MessageBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MessageBuf({} bytes)", self.range.len())
    }
}
