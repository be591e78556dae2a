//! A received message.

pub(crate) mod message_buf;

use crate::objects::private_mapping::BorrowedBuffer;

use crate::channel::chunk_list::chunk::{BODY, Chunk};
use crate::channel::message::message_buf::MessageBuf;

/// The bytes of a message. Dropping it frees its memory.
pub struct Message(Inner);

enum Inner {
    Short([u8; BODY], u8),
    /// A copy from a wide slot.
    Copied(Vec<u8>),
    Long(MessageBuf),
}

impl Message {
    /// Fills this message with a copy of a slot's body. It is filled in place instead of returned:
    /// small messages come by the million, and every move costs a copy.
    #[inline]
    pub(crate) fn copy_from(&mut self, chunk: &Chunk<'_>, index: u32, length: u64) {
        let length = (length as usize).min(chunk.body_size());
        chunk.prefetch_after(index, length);
        if length > BODY {
            let mut bytes = vec![0; length];
            chunk.read(index, &mut bytes);
            self.0 = Inner::Copied(bytes);
            return;
        }
        if !matches!(self.0, Inner::Short(..)) {
            self.0 = Inner::Short([0; BODY], 0);
        }
        if let Inner::Short(bytes, len) = &mut self.0 {
            chunk.read(index, &mut bytes[..length]);
            *len = length as u8;
        }
    }

    /// The message in a block that this process has taken over.
    pub(crate) fn long(buf: MessageBuf) -> Message {
        Message(Inner::Long(buf))
    }

    /// The bytes. If the message was sent as a [`MessageBuf`] without objects, they lie where they
    /// were written, at a multiple of 64.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Inner::Short(bytes, length) => &bytes[..usize::from(*length)],
            Inner::Copied(bytes) => bytes,
            Inner::Long(buf) => buf.received_bytes(),
        }
    }

    /// Whether the message keeps objects alive. Dropping it releases the objects that its bytes
    /// mention.
    pub fn holds_objects(&self) -> bool {
        matches!(&self.0, Inner::Long(buf) if buf.holds_objects())
    }

    /// Turns the message into memory of this process, so that parts of it can be used in place. A
    /// message too small for that is returned, and one that is not [this process's](Message::is_mine).
    ///
    /// # Errors
    /// The message itself.
    pub fn lend(self) -> Result<BorrowedBuffer, Message> {
        match self.0 {
            Inner::Long(buf) => buf.lend().map_err(Message::long),
            other => Err(Message(other)),
        }
    }

    /// Whether this process owns the bytes. After a fork, the child does not own a message in a
    /// block: the parent does, and may free it at any time.
    pub fn is_mine(&self) -> bool {
        match &self.0 {
            Inner::Long(buf) => buf.is_mine(),
            Inner::Short(..) | Inner::Copied(_) => true,
        }
    }

    /// Whether the message fills its block from the start and keeps no objects, like one sent as a
    /// [`MessageBuf`] without objects.
    pub fn is_buf(&self) -> bool {
        matches!(&self.0, Inner::Long(buf) if buf.is_bare())
    }

    /// Turns the message back into a [`MessageBuf`], so that its bytes can be changed and sent on
    /// in place.
    ///
    /// # Errors
    /// The message itself, if it does not lie [in its block like a buffer](Message::is_buf) or is
    /// not [this process's](Message::is_mine).
    pub fn into_buf(self) -> Result<MessageBuf, Message> {
        match self.0 {
            Inner::Long(buf) if buf.is_bare() && buf.is_mine() => Ok(buf),
            other => Err(Message(other)),
        }
    }

    /// The message without its first `count` bytes, or without any if it is shorter.
    pub fn without_front(mut self, count: usize) -> Message {
        match &mut self.0 {
            Inner::Short(bytes, length) => {
                let count = count.min(usize::from(*length));
                bytes.copy_within(count.., 0);
                *length -= count as u8;
            }
            Inner::Copied(bytes) => drop(bytes.drain(..count.min(bytes.len()))),
            Inner::Long(buf) => buf.advance(count),
        }
        self
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes into memory of this process.
    pub fn into_vec(mut self) -> Vec<u8> {
        match &mut self.0 {
            Inner::Copied(bytes) => std::mem::take(bytes),
            _ => self.bytes().to_vec(),
        }
    }
}

/// An empty message, to receive into.
impl Default for Message {
    fn default() -> Message {
        Message(Inner::Short([0; BODY], 0))
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
