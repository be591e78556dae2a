//! Allocating and freeing blocks.
//!
//! A block is free exactly when its owner cell says so. The stacks of freed blocks and the bump indexes are hints. A
//! process that is killed anywhere leaves at worst a free block that no hint names. A search over all cells of the
//! class, which runs before the class grows, finds such blocks.
//!
//! The stack is Treiber's (IBM RJ 5118, 1986), with a counter beside the top against ABA. The `listed` mark of a cell
//! keeps a block from being pushed twice in one generation of the stack. A search may take a block that is still
//! listed; whoever pops it later sees that its owner changed and drops the hint.

use std::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::arena::cell::{BlockId, Cell, IDLE};
use crate::arena::kind::Kind;
use crate::arena::owner::Owner;
use crate::arena::size_class::{CLASSES, OWNERSHIP_LOG, SizeClass};
use crate::arena::upcalls::{KindOps, upcalls};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::memory::memory_limit;
use crate::retries::Retries;
use crate::sys::memfd;

/// How many times to look for memory before reporting that there is none.
const LAST_TRIES: u32 = 8;

/// How many segments to add for one block when other processes keep taking what was added.
const MAX_GROWS_PER_BLOCK: u32 = 16;
/// Blocks of at least this size are populated by one call before they are written.
const POPULATE_FROM: u64 = 16 << 10;

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

/// Plain bytes, and bytes with attachments.
pub(crate) const BYTES: KindOps = KindOps::of_block(|arena, block, from| {
    arena.free(block, from);
});

impl Arena {
    /// Takes a block of at least `size` bytes for this process.
    pub(crate) fn alloc(&self, size: u64) -> Result<BlockId> {
        let class = SizeClass::holding(size).ok_or_else(|| Error::OutOfMemory {
            asked: size,
            left: crate::arena::size_class::LARGEST,
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
            (upcalls().reap_dead)(self);
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
            if !std::mem::replace(&mut swept, true) && (upcalls().reap_dead)(self) > 0 {
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
            return (upcalls().free_attachments)(self, block, cell, from);
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
}

const _: () = assert!(CLASSES <= 256);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::process_table::home;
    use std::thread;

    /// Enough rounds for two threads to interleave. Miri is slow.
    const ROUNDS: usize = if cfg!(miri) { 6 } else { 500 };

    #[test]
    fn blocks_of_every_size_are_taken_written_given_back_and_taken_again() {
        let arena = home().unwrap();
        let work = || {
            let mut sizes: Vec<u64> = (0..18).step_by(3).map(|shift| 1 << shift).collect();
            sizes.extend([4_097, 9_000]);
            let fill = |size: u64| {
                let block = arena.alloc(size).unwrap();
                let start = arena.payload(block).unwrap();
                // SAFETY: the block is this thread's until it is freed, and as long.
                unsafe {
                    start.write_bytes(1, size.min(10_000) as usize);
                    start.add(size as usize - 1).write(2);
                }
                block
            };
            let taken: Vec<_> = sizes.iter().copied().map(fill).collect();
            for block in taken {
                assert!(arena.free(block, arena.mine()));
                assert!(!arena.free(block, Owner::Shared));
            }
            for _ in 0..ROUNDS {
                arena.free(fill(100), arena.mine());
            }
        };
        thread::scope(|scope| {
            scope.spawn(work);
            work();
        });
    }
}
