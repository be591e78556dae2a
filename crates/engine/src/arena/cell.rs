//! Blocks and their cells: how a block is named, and where its state and its payload are.
//!
//! Nothing here takes or frees a block: `memory/block.rs` does.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::arena::Arena;
use crate::arena::owner::OwnerCell;
use crate::arena::size_class::SizeClass;
use crate::error::{Error, Result};

const INDEX_BITS: u32 = 20;
pub(crate) const BLOCKS_PER_SEGMENT: u32 = 1 << INDEX_BITS;

/// A block of the arena: its segment, and its number in that segment. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlockId(pub(crate) u32);

impl BlockId {
    pub(crate) fn new(raw: u32) -> Option<BlockId> {
        (raw >> INDEX_BITS != 0).then_some(BlockId(raw))
    }

    pub(crate) fn at(segment: u32, index: u32) -> BlockId {
        BlockId(segment << INDEX_BITS | index)
    }

    pub(crate) fn segment(self) -> u32 {
        self.0 >> INDEX_BITS
    }

    pub(crate) fn index(self) -> u32 {
        self.0 & (BLOCKS_PER_SEGMENT - 1)
    }
}

/// The state of a block, apart from its payload (whose pages may have been returned to the system).
#[repr(C)]
pub(crate) struct Cell {
    pub(crate) owner: OwnerCell,
    /// The block below on the stack of freed blocks.
    pub(crate) next: AtomicU32,
    /// The generation of the stack, plus one, while the block is on it.
    pub(crate) listed: AtomicU32,
    /// How many bytes from the start were touched and not returned since; and the [`IDLE`] bit.
    pub(crate) committed: AtomicU64,
    /// Grows when the block becomes an object, so that old handles are recognised as stale.
    pub(crate) generation: AtomicU32,
    /// What the block contains ([`crate::arena::kind::Kind`]); zero whenever the block is free.
    pub(crate) kind: AtomicU32,
}

const _: () = assert!(size_of::<Cell>() == 32);

/// The block was free at the last look for idle memory, and has not been taken since: see `memory/trim.rs`.
pub(crate) const IDLE: u64 = 1 << 63;

impl Cell {
    /// About how many bytes of the block are backed by memory.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed) & !IDLE
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.committed.load(Ordering::Relaxed) & IDLE != 0
    }

    /// Marks a free block that has memory as idle; false if it has none, or was marked already. Another process may
    /// take the block meanwhile. Then the mark stays until the block is taken again, and its pages may be returned a
    /// little early.
    pub(crate) fn mark_idle(&self) -> bool {
        let word = self.committed.load(Ordering::Relaxed);
        let marked = word | IDLE;
        word != 0
            && word != marked
            && self
                .committed
                .compare_exchange(word, marked, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Records how many bytes of a block of this process are touched.
    pub(crate) fn set_committed(&self, bytes: u64) {
        self.committed.store(bytes, Ordering::Relaxed);
    }

    /// Records that the memory of a block of this process was returned; returns how many bytes it had.
    pub(crate) fn take_committed(&self) -> u64 {
        self.committed.swap(0, Ordering::Relaxed) & !IDLE
    }
}

impl Arena {
    pub(crate) fn class_of(&self, block: BlockId) -> Option<SizeClass> {
        Some(self.mapped(block.segment()).ok()?.class)
    }

    /// Every block that was taken since cells were last released.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (BlockId, &Cell)> + '_ {
        self.segments()
            .flat_map(move |(number, _)| self.blocks_of(number))
    }

    /// Every block of a segment that was taken since its cells were last released.
    pub(crate) fn blocks_of(&self, number: u32) -> impl Iterator<Item = (BlockId, &Cell)> + '_ {
        self.blocks_in(number, 0..BLOCKS_PER_SEGMENT)
    }

    /// As [`Arena::blocks_of`], for a part of them.
    pub(crate) fn blocks_in(
        &self,
        number: u32,
        part: std::ops::Range<u32>,
    ) -> impl Iterator<Item = (BlockId, &Cell)> + '_ {
        let bump = self.root().bump.get(number as usize);
        let end = bump.map_or(0, |bump| bump.load(Ordering::Acquire));
        (part.start..part.end.min(end))
            .map(move |index| BlockId::at(number, index))
            .map_while(|block| Some((block, self.cell(block).ok()?)))
    }

    /// The cell of a block. The id may come from another process, so bounds are checked.
    #[inline]
    pub(crate) fn cell(&self, block: BlockId) -> Result<&Cell> {
        let cell = self.mapped(block.segment())?.cell(block.index());
        cell.ok_or_else(bad_handle)
    }

    /// The address of a block's payload in this process.
    #[inline]
    pub(crate) fn payload(&self, block: BlockId) -> Result<NonNull<u8>> {
        let payload = self.mapped(block.segment())?.payload(block.index());
        payload.ok_or_else(bad_handle)
    }

    /// The number of bytes a block can hold.
    pub(crate) fn capacity(&self, block: BlockId) -> u64 {
        self.mapped(block.segment())
            .map_or(0, |segment| segment.size)
    }
}

/// Out of line, so that the success path does not pay for building an error.
#[cold]
fn bad_handle() -> Error {
    Error::BadHandle
}
