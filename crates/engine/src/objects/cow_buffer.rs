//! Copy-on-write buffers: bytes that several processes may use at a time, each as private memory.
//!
//! A copy-on-write buffer is an object; the block with the bytes is a part of it. It is held, sent and freed like any
//! other object. Nobody writes to the block's pages while it exists: every user maps the block privately
//! (`private_mapping.rs`).

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::kind::Kind;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::objects::handle::Handle;
use crate::objects::object::{EXTENSION, Layout, ObjectHead};
use crate::objects::object_ref::{ObjectRef, TypedRef};
use crate::objects::private_mapping::{BorrowedBuffer, PrivateBlock};

#[repr(C)]
pub(crate) struct CowBufferObject {
    head: ObjectHead,
    /// Where the bytes begin in the block.
    start: AtomicU64,
    end: AtomicU64,
    _pad: [AtomicU64; 6],
}

// SAFETY: repr(C), head first, atomics only.
unsafe impl Layout for CowBufferObject {
    const KIND: Kind = Kind::CowBuffer;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// Bytes in shared memory that no longer change, for any number of processes to use.
#[derive(Debug)]
pub struct CowBuffer(
    TypedRef<CowBufferObject>,
    /// A copy of the bytes, where this process already uses the block's pages for something else.
    Option<Vec<u8>>,
);

impl CowBuffer {
    /// Makes a copy-on-write buffer of the bytes in `range` of a block that this process owns; the block becomes its
    /// part.
    pub(crate) fn new(arena: &Arena, block: BlockId, range: Range<usize>) -> Result<CowBuffer> {
        let cow_buffer = TypedRef::<CowBufferObject>::make(0, |cow_buffer| {
            cow_buffer
                .start
                .store(range.start as u64, Ordering::Relaxed);
            cow_buffer.end.store(range.end as u64, Ordering::Relaxed);
        })?;
        Ok(CowBuffer::over(arena, cow_buffer, block))
    }

    fn over(arena: &Arena, cow_buffer: TypedRef<CowBufferObject>, block: BlockId) -> CowBuffer {
        failpoint::hit("cow_buffer.adopting");
        arena.make_part(block, cow_buffer.block(), &cow_buffer.head, EXTENSION);
        CowBuffer(cow_buffer, None)
    }

    /// As [`CowBuffer::new`], for a block that may be an attachment list. It stops being one; the returned references
    /// hold its objects.
    pub(crate) fn of_private_block(
        arena: &'static Arena,
        block: BlockId,
    ) -> Result<(CowBuffer, Vec<ObjectRef>)> {
        let cow_buffer = TypedRef::<CowBufferObject>::make(0, |_| {})?;
        let attachments = arena.hold_contents(block);
        arena.detach_all(block);
        Ok((CowBuffer::over(arena, cow_buffer, block), attachments))
    }

    /// Opens the copy-on-write buffer that a handle names.
    ///
    /// # Errors
    /// When the handle belongs to another process tree, is stale, or names an object of another kind.
    pub fn open(handle: &Handle) -> Result<CowBuffer> {
        let cow_buffer = CowBuffer(TypedRef::open(handle)?, None);
        match cow_buffer.place() {
            Some(_) => Ok(cow_buffer),
            None => Err(Error::BadHandle),
        }
    }

    /// The handle by which other processes open it.
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// A reference that keeps it alive for longer than this value.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn hold(&self) -> Result<ObjectRef> {
        ObjectRef::of(&self.handle())
    }

    fn place(&self) -> Option<(BlockId, Range<usize>)> {
        let arena = self.0.arena();
        let block = arena.linked_part(&self.0.head, EXTENSION)?;
        let start = self.0.start.load(Ordering::Relaxed);
        let end = self.0.end.load(Ordering::Relaxed);
        let fits = start <= end && end <= arena.capacity(block);
        fits.then_some((block, start as usize..end as usize))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        if let Some(copy) = &self.1 {
            return copy;
        }
        let bytes = self.place().and_then(|(block, range)| {
            let start = self.0.arena().payload(block).ok()?;
            // SAFETY: within the block, which belongs to the copy-on-write buffer for as long as this process holds
            // it, and stays mapped for good; users write to private pages.
            Some(unsafe {
                std::slice::from_raw_parts(start.add(range.start).as_ptr(), range.len())
            })
        });
        bytes.unwrap_or_default()
    }

    /// Maps the bytes as private memory of this process, so that parts of them can be used in place. Returns the
    /// copy-on-write buffer, with a copy of its bytes, if that fails: the block shares pages with others, or is
    /// mapped privately here already.
    ///
    /// # Errors
    /// The copy-on-write buffer itself.
    pub fn lend(self) -> std::result::Result<BorrowedBuffer, CowBuffer> {
        let Some((block, range)) = self.place() else {
            return Err(self);
        };
        match PrivateBlock::of_cow_buffer(self.0, block) {
            Ok(memory) => Ok(BorrowedBuffer::new(memory, range)),
            Err(cow_buffer) => {
                let copy = cow_buffer.arena().read_file(block, range).ok();
                Err(CowBuffer(cow_buffer, copy))
            }
        }
    }
}

impl AsRef<[u8]> for CowBuffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl From<CowBuffer> for TypedRef<CowBufferObject> {
    fn from(cow_buffer: CowBuffer) -> TypedRef<CowBufferObject> {
        cow_buffer.0
    }
}
