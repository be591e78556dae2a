//! A message that was received.

use std::ops::Range;

use crate::arena::Arena;
use crate::arena::block::BlockId;
use crate::arena::owner::Owner;

use super::strip::BODY;

/// The bytes of a message; its memory is given back when this is dropped.
pub struct Message(Inner);

enum Inner {
    Short([u8; BODY], u8),
    /// From a wide slot.
    Copied(Vec<u8>),
    Long {
        arena: &'static Arena,
        block: BlockId,
        owner: Owner,
        /// Where the bytes lie in the block.
        range: Range<usize>,
    },
}

impl Message {
    pub(super) fn short(bytes: [u8; BODY], length: usize) -> Message {
        Message(Inner::Short(bytes, length as u8))
    }

    pub(super) fn copied(bytes: Vec<u8>) -> Message {
        Message(Inner::Copied(bytes))
    }

    /// The message in a block that `owner`, this process, took over. The block holds the range.
    pub(super) fn long(
        arena: &'static Arena,
        block: BlockId,
        owner: Owner,
        range: Range<usize>,
    ) -> Message {
        Message(Inner::Long {
            arena,
            block,
            owner,
            range,
        })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Inner::Short(bytes, length) => &bytes[..usize::from(*length)],
            Inner::Copied(bytes) => bytes,
            Inner::Long {
                arena,
                block,
                range,
                ..
            } => match arena.payload(*block) {
                // SAFETY: the block is this process's own until `self` is dropped, holds the range
                // (checked when it was taken over), and is mapped for good.
                Ok(start) => unsafe {
                    std::slice::from_raw_parts(start.add(range.start).as_ptr(), range.len())
                },
                Err(_) => &[],
            },
        }
    }

    /// Whether the message keeps objects alive: what its bytes mention goes when it is dropped.
    pub fn holds_objects(&self) -> bool {
        matches!(&self.0, Inner::Long { range, .. } if range.start > 0)
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in memory of this process.
    pub fn into_vec(mut self) -> Vec<u8> {
        match &mut self.0 {
            Inner::Copied(bytes) => std::mem::take(bytes),
            _ => self.bytes().to_vec(),
        }
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({} bytes)", self.len())
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Inner::Long {
            arena,
            block,
            owner,
            ..
        } = &self.0
        {
            // In a forked child the block is the parent's.
            if *owner == arena.mine() {
                arena.free(*block, *owner);
            }
        }
    }
}
