//! Allocating and freeing blocks.
//!
//! A block is free exactly when its owner cell says so. The stacks of freed blocks and the bump indexes are hints. A
//! process that is killed anywhere leaves at worst a free block that no hint names. A search over all cells of the
//! class, which runs before the class grows, finds such blocks.
//!
//! The stack is Treiber's (IBM RJ 5118, 1986), with a counter beside the top against ABA. The `listed` mark of a cell
//! keeps a block from being pushed twice in one generation of the stack. A search may take a block that is still
//! listed; whoever pops it later sees that its owner changed and drops the hint.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::failpoint;
use crate::memory::owner::{Owner, OwnerCell};
use crate::memory::size_class::{CLASSES, OWNERSHIP_LOG, SizeClass};
use crate::memory::{Arena, memory_limit};
use crate::objects::object::Kind;
use crate::retries::Retries;
use crate::sys::memfd;

const INDEX_BITS: u32 = 20;
pub(crate) const BLOCKS_PER_SEGMENT: u32 = 1 << INDEX_BITS;

/// How many times to look for memory before reporting that there is none.
const LAST_TRIES: u32 = 8;

/// How many segments to add for one block when other processes keep taking what was added.
const MAX_GROWS_PER_BLOCK: u32 = 16;
/// Blocks of at least this size are populated by one call before they are written.
const POPULATE_FROM: u64 = 16 << 10;

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
    next: AtomicU32,
    /// The generation of the stack, plus one, while the block is on it.
    listed: AtomicU32,
    /// How many bytes from the start were touched and not returned since; and the [`IDLE`] bit.
    committed: AtomicU64,
    /// Grows when the block becomes an object, so that old handles are recognised as stale.
    pub(crate) generation: AtomicU32,
    /// What the block contains ([`crate::objects::object::Kind`]); zero whenever the block is free.
    pub(crate) kind: AtomicU32,
}

const _: () = assert!(size_of::<Cell>() == 32);

const GENERATION_MASK: u32 = 0xff;

/// The generation of a stack.
fn generation_of(top: u64) -> u32 {
    (top >> 32) as u32 & GENERATION_MASK
}

/// The next word of a stack in the same generation, with `block` on top.
fn next_top(top: u64, block: u32) -> u64 {
    let count = (top >> 40).wrapping_add(1) << 40;
    count | u64::from(generation_of(top)) << 32 | u64::from(block)
}

/// The block was free at the last look for idle memory, and has not been taken since: see `trim.rs`.
const IDLE: u64 = 1 << 63;

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
    /// Takes a block of at least `size` bytes for this process.
    pub(crate) fn alloc(&self, size: u64) -> Result<BlockId> {
        let class = SizeClass::holding(size).ok_or_else(|| Error::OutOfMemory {
            asked: size,
            left: crate::memory::size_class::LARGEST,
            limit: "the largest block there is".into(),
        })?;
        self.alloc_class(class, size)
    }

    pub(crate) fn alloc_class(&self, class: SizeClass, size: u64) -> Result<BlockId> {
        match self.try_alloc(class, size) {
            Err(Error::OutOfMemory { .. }) => self.alloc_after_reclaim(class, size),
            taken => taken,
        }
    }

    /// As [`Arena::alloc_class`], after there was no memory. Memory that dead processes still own may suffice, or
    /// memory that is free in blocks of other sizes. Other processes may be returning that just now, so this retries a
    /// few times.
    #[cold]
    fn alloc_after_reclaim(&self, class: SizeClass, size: u64) -> Result<BlockId> {
        let mut tries = 0;
        loop {
            self.sweep();
            self.release_free_pages();
            let taken = self.try_alloc(class, size);
            tries += 1;
            if !matches!(taken, Err(Error::OutOfMemory { .. })) || tries == LAST_TRIES {
                return taken;
            }
            std::thread::yield_now();
        }
    }

    fn try_alloc(&self, class: SizeClass, size: u64) -> Result<BlockId> {
        let mut swept = false;
        let mut grown = 0;
        let block = loop {
            if let Some(block) = self.pop(class).or_else(|| self.take_unused(class)) {
                break block;
            }
            if let Some(block) = self.search(class) {
                break block;
            }
            if !std::mem::replace(&mut swept, true) && self.sweep() > 0 {
                continue;
            }
            self.check_mapped(class)?;
            grown += 1;
            if grown > MAX_GROWS_PER_BLOCK {
                return Err(Error::Damaged);
            }
            self.grow(class)?;
        };
        failpoint::hit("arena.taken");
        // Other processes can write to the lists. If we trusted a wrong entry we would write past the end of the block.
        if self.mapped(block.segment())?.class != class {
            return Err(Error::Damaged);
        }
        match self.commit(block, size) {
            Ok(()) => Ok(block),
            Err(error) => {
                self.free(block, self.mine());
                Err(error)
            }
        }
    }

    /// Frees a block that `from` owns. False when `from` did not own it any more: somebody else freed it.
    pub(crate) fn free(&self, block: BlockId, from: Owner) -> bool {
        let Ok(cell) = self.cell(block) else {
            return false;
        };
        if cell.kind.load(Ordering::Acquire) == Kind::Attachments as u32 {
            return self.free_attachments(block, cell, from);
        }
        let committed = cell.committed();
        failpoint::hit("arena.freeing");
        if !cell.owner.pass(from, Owner::Free) {
            return false;
        }
        failpoint::hit("arena.freed");
        self.push(block, cell);
        self.count_freed(committed);
        true
    }

    /// Charges the part of the block that was not touched before against the memory limits.
    fn commit(&self, block: BlockId, size: u64) -> Result<()> {
        let cell = self.cell(block)?;
        let word = cell.committed.load(Ordering::Relaxed);
        let committed = word & !IDLE;
        if size > committed {
            memory_limit::check(self, size - committed)?;
            if size - committed >= POPULATE_FROM {
                memfd::populate(self.payload(block)?, size as usize)?;
            }
            cell.committed.store(size, Ordering::Relaxed);
        } else if word != committed {
            cell.committed.store(committed, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn push(&self, block: BlockId, cell: &Cell) {
        let Some(segment) = self.segment(block.segment()) else {
            return;
        };
        let head = &self.root().classes[segment.class.index()].free;
        let mut top = head.load(Ordering::Relaxed);
        loop {
            let generation = generation_of(top);
            if cell.listed.swap(generation + 1, Ordering::AcqRel) == generation + 1 {
                return;
            }
            failpoint::hit("arena.listing");
            while generation_of(top) == generation {
                cell.next.store(top as u32, Ordering::Relaxed);
                let new = next_top(top, block.0);
                // Release pairs with the Acquire in `pop`: a process that sees the block on top also sees its `next`.
                match head.compare_exchange_weak(top, new, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => return,
                    Err(now) => top = now,
                }
            }
        }
    }

    pub(crate) fn pop(&self, class: SizeClass) -> Option<BlockId> {
        let head = &self.root().classes[class.index()].free;
        let mut top = head.load(Ordering::Acquire);
        let mut retries = Retries::default();
        loop {
            // A process that does not get through finds a block by other means.
            retries.again().ok()?;
            let block = BlockId::new(top as u32)?;
            let cell = self.cell(block).ok()?;
            let open = self.open_word(block.segment());
            let below = cell.next.load(Ordering::Relaxed);
            let new = next_top(top, below);
            if let Err(now) =
                head.compare_exchange_weak(top, new, Ordering::AcqRel, Ordering::Acquire)
            {
                top = now;
                continue;
            }
            failpoint::hit("arena.popped");
            cell.listed.store(0, Ordering::Release);
            if let Some(open) = open
                && self.is_below_bump(block)
                && self.take(block, cell, open)
            {
                return Some(block);
            }
            top = head.load(Ordering::Acquire);
        }
    }

    /// Empties the stack of a class. The `listed` marks become invalid, because the stack begins a new generation.
    pub(crate) fn empty_stack(&self, class: SizeClass) {
        let head = &self.root().classes[class.index()].free;
        let _ = head.fetch_update(Ordering::SeqCst, Ordering::Acquire, |top| {
            let generation = (generation_of(top) + 1) & GENERATION_MASK;
            Some(
                (next_top(top, 0) & !(u64::from(GENERATION_MASK) << 32))
                    | u64::from(generation) << 32,
            )
        });
    }

    /// Whether a block is below its segment's bump index: see `cell_release.rs`.
    fn is_below_bump(&self, block: BlockId) -> bool {
        let bump = self.root().bump.get(block.segment() as usize);
        bump.is_some_and(|bump| block.index() < bump.load(Ordering::Acquire))
    }

    pub(crate) fn take_unused(&self, class: SizeClass) -> Option<BlockId> {
        let open = self.root().classes[class.index()]
            .open
            .load(Ordering::Acquire);
        self.take_unused_of(open)
    }

    fn take_unused_of(&self, number: u32) -> Option<BlockId> {
        let segment = self.segment(number)?;
        let bump = &self.root().bump[number as usize];
        loop {
            let open = self.open_word(number)?;
            let index = bump
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |index| {
                    (index < segment.count).then_some(index + 1)
                })
                .ok()?;
            failpoint::hit("arena.bump");
            let block = BlockId::at(number, index);
            let cell = self.cell(block).ok()?;
            if self.take(block, cell, open) {
                return Some(block);
            }
            self.free_abandoned(block, cell);
        }
    }

    /// Frees a block above the bump index whose owner died just before it returned the block: see `cell_release.rs`.
    fn free_abandoned(&self, block: BlockId, cell: &Cell) {
        if let owner @ Owner::Process(by) = cell.owner.get()
            && cell.kind.load(Ordering::Acquire) == Kind::Bytes as u32
            && cell.committed() == 0
            && self.is_dead(by)
        {
            self.free(block, owner);
        }
    }

    /// Searches every block of a class for a free one that no hint names; if it finds one, it lists all other free
    /// ones.
    ///
    /// Runs only before a class grows. A class grows by doubling, so this is constant work per block taken.
    #[cold]
    fn search(&self, class: SizeClass) -> Option<BlockId> {
        self.reopen_abandoned(class);
        let segments = self
            .segments()
            .filter(|(_, segment)| segment.class == class);
        let numbers: Vec<u32> = segments.map(|(number, _)| number).collect();
        for &number in &numbers {
            if let Some(block) = self.take_unused_of(number) {
                let open = &self.root().classes[class.index()].open;
                open.store(number, Ordering::Release);
                return Some(block);
            }
        }
        let found = numbers.into_iter().find_map(|number| {
            let open = self.open_word(number)?;
            let mut blocks = self.blocks_of(number);
            let taken = blocks
                .find(|(block, cell)| cell.owner.is(Owner::Free) && self.take(*block, cell, open));
            taken.map(|(block, _)| block)
        });
        if found.is_some() {
            self.list_all(class);
        }
        found
    }

    /// Takes a free block for this process; false when it is not free any more. `open` was the segment's word before
    /// the block was found.
    pub(crate) fn take(&self, block: BlockId, cell: &Cell, open: u64) -> bool {
        let (free, mine) = (Owner::Free, self.mine());
        // Pages of the ownership log are not found by way of the ownership log, so they are not logged.
        let taken = match self.class_of(block) {
            Some(OWNERSHIP_LOG) => cell.owner.pass(free, mine),
            _ => self.claim(block, cell, free, mine),
        };
        if !taken {
            return false;
        }
        failpoint::hit("arena.claimed");
        let is_open = self.is_open_still(block.segment(), open);
        if !is_open {
            self.free(block, self.mine());
        }
        is_open
    }

    fn class_of(&self, block: BlockId) -> Option<SizeClass> {
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

const _: () = assert!(CLASSES <= 256);
