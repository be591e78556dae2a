//! Leases: bytes that several processes may use at a time, each as memory of its own.
//!
//! A lease is an object whose part is the block with the bytes; it is held, handed on and freed like any
//! object. Nobody writes to the block's pages while it lives: whoever uses it maps it privately (`lent.rs`).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Arena;
use super::block::BlockId;
use super::handle::Handle;
use super::lent::{Lending, Lent};
use super::object::{EXTENSION, Kind, Layout, ObjectHead};
use super::open::{Held, Shared};
use crate::error::{Error, Result};
use crate::kill;

#[repr(C)]
pub(crate) struct LeaseObject {
    head: ObjectHead,
    /// Where in the block the bytes lie.
    start: AtomicU64,
    end: AtomicU64,
    _pad: [AtomicU64; 6],
}

// SAFETY: repr(C), head first, atomics only.
unsafe impl Layout for LeaseObject {
    const KIND: Kind = Kind::Lease;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// Bytes in shared memory that nobody changes any more, for any number of processes to use.
#[derive(Debug)]
pub struct Lease(
    Shared<LeaseObject>,
    /// What the bytes are, where this process has the block's pages for something else.
    Option<Vec<u8>>,
);

impl Lease {
    /// Makes a block of this process's the part of a lease of the bytes in `range`.
    pub(crate) fn new(arena: &Arena, block: BlockId, range: Range<usize>) -> Result<Lease> {
        let lease = Shared::<LeaseObject>::make(0, |lease| {
            lease.start.store(range.start as u64, Ordering::Relaxed);
            lease.end.store(range.end as u64, Ordering::Relaxed);
        })?;
        Ok(Lease::over(arena, lease, block))
    }

    fn over(arena: &Arena, lease: Shared<LeaseObject>, block: BlockId) -> Lease {
        kill::point("lent.leasing");
        arena.make_part(block, lease.block(), &lease.head, EXTENSION);
        Lease(lease, None)
    }

    /// As [`Lease::new`], of a block that may be an envelope: it is none any more, and what it held is held by
    /// what this gives.
    pub(super) fn of_lent(arena: &'static Arena, block: BlockId) -> Result<(Lease, Vec<Held>)> {
        let lease = Shared::<LeaseObject>::make(0, |_| {})?;
        let kept = arena.hold_contents(block);
        arena.unseal(block);
        Ok((Lease::over(arena, lease, block), kept))
    }

    /// The lease that a handle names.
    ///
    /// # Errors
    /// When the handle is another tree's, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<Lease> {
        let lease = Lease(Shared::open(handle)?, None);
        match lease.place() {
            Some(_) => Ok(lease),
            None => Err(Error::BadHandle),
        }
    }

    /// The name by which other processes open it.
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// What keeps it alive for longer than this.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn hold(&self) -> Result<Held> {
        Held::of(&self.handle())
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
            // SAFETY: within the block, which is the lease's for as long as this process holds it, and is
            // mapped for good; who uses it writes to pages of its own.
            Some(unsafe {
                std::slice::from_raw_parts(start.add(range.start).as_ptr(), range.len())
            })
        });
        bytes.unwrap_or_default()
    }

    /// Makes the bytes this process's own, so that parts of them can be used where they are; gives the lease
    /// back, with a copy of its bytes, if that cannot be, since they are few, or lent to this process already.
    ///
    /// # Errors
    /// The lease itself.
    pub fn lend(self) -> std::result::Result<Lending, Lease> {
        let Some((block, range)) = self.place() else {
            return Err(self);
        };
        match Lent::of_lease(self.0, block, range.clone()) {
            Ok(lent) => Ok(Lending::of(Arc::new(lent))),
            Err(lease) => {
                let copy = lease.arena().read_file(block, range).ok();
                Err(Lease(lease, copy))
            }
        }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl From<Lease> for Shared<LeaseObject> {
    fn from(lease: Lease) -> Shared<LeaseObject> {
        lease.0
    }
}
