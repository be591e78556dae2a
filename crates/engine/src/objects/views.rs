//! The address at which this process sees the payload of a segment: how borrowed blocks become private.
//!
//! A borrowed block becomes private by a private mapping laid over its address. A process has a limited number of
//! mappings (vm.max_map_count). So when many blocks of one segment are borrowed, the whole address range becomes
//! private, and the engine uses the segment at another address:
//!
//! ```text
//! before    engine, users  -->  range 1, shared
//! after     users          -->  range 1, private         engine  -->  range 2, shared
//! ```
//!
//! A thread may have taken a block just before and may be writing to it in range 1, where nobody would see the write
//! any more. So the engine's address changes first. The old range becomes private only if every block of this process
//! in it is borrowed.
//!
//! ```text
//! taker:  owner := me (SeqCst);   load the address         forker:  address := range 2 (SeqCst);   load the owners
//! ```
//!
//! A range is never unmapped, since another thread may be reading there. When nothing in it is borrowed any more, it
//! can serve as range 2 again.

use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::segment::Mapped;
use crate::error::Result;
use crate::objects::private_mapping::{Place, Places};
use crate::sys::memfd::Sharing;

/// At most this many blocks of a segment get mappings of their own.
const FEW: usize = 8;

/// An address range at which a segment was seen before.
struct View {
    segment: u32,
    start: NonNull<u8>,
}

// SAFETY: an address, which is used only under the lock.
unsafe impl Send for View {}

/// Accessed only while the map of private blocks is locked.
static VIEWS: Mutex<Vec<View>> = Mutex::new(Vec::new());

/// Maps borrowed blocks privately at the addresses where their users see them.
///
/// # Errors
/// When some are still shared.
pub(crate) fn make_private(arena: &Arena, all: &mut Places, wanted: &[BlockId]) -> Result<()> {
    let mut outcome = Ok(());
    // The segment, and its base address in the range where the block's user sees it.
    let key_of = |block: &BlockId| {
        let size = arena.capacity(*block) as usize;
        let start = all
            .get(&block.0)
            .map_or(0, |place| place.start.addr().get());
        let base = start.wrapping_sub(block.index() as usize * size);
        ((block.segment(), base), *block)
    };
    let mut keyed: Vec<_> = wanted.iter().map(key_of).collect();
    keyed.sort_unstable_by_key(|(key, block)| (*key, block.0));
    for group in keyed.chunk_by(|(a, _), (b, _)| a == b) {
        let group: Vec<BlockId> = group.iter().map(|(_, block)| *block).collect();
        if group.len() > FEW && arena.make_range_private(all, &group)? {
            continue;
        }
        for block in group {
            let Some(place) = all.get_mut(&block.0) else {
                continue;
            };
            match arena.map_block_at(block, place.start, Sharing::Private) {
                Ok(()) => place.is_private = true,
                Err(error) => outcome = Err(error),
            }
        }
    }
    outcome
}

impl Arena {
    /// Makes the range private that contains these blocks of one segment. False, with no visible change, if that is not
    /// possible.
    fn make_range_private(&self, all: &mut Places, group: &[BlockId]) -> Result<bool> {
        let (Some(first), true) = (group.first(), self.has_descriptor()) else {
            return Ok(false);
        };
        let number = first.segment();
        let mapped = self.mapped(number)?;
        let Some(base) = base_of(all, *first, mapped) else {
            return Ok(false);
        };
        if base == mapped.payload && self.move_engine_view(all, number, mapped).is_err() {
            return Ok(false);
        }
        if self.has_unborrowed_block(all, number) {
            return Ok(false);
        }
        for run in shared_runs(all, number, base, mapped) {
            // SAFETY: within the range, which is mapped. A thread that uses it either holds a borrowed block there, or
            // only reads, and the file has all that it reads.
            let done = unsafe {
                let start = base.add(run.start);
                let offset = mapped.file_offset + run.start as u64;
                self.map_file_over(start, offset, run.len(), Sharing::Private)
            };
            if done.is_err() {
                // Part of the range is private now; the rest may become so block by block.
                return Ok(false);
            }
        }
        for block in group {
            if let Some(place) = all.get_mut(&block.0) {
                place.is_private = true;
            }
        }
        Ok(true)
    }

    /// From now on the engine uses a segment at another address than before.
    fn move_engine_view(&self, all: &Places, number: u32, mapped: &Mapped) -> Result<()> {
        let mut views = crate::sys::thread::lock(&VIEWS);
        let length = mapped.payload_length();
        let spare = views.iter().position(|view| {
            view.segment == number
                && !in_segment(all, number)
                    .any(|(block, _)| base_of(all, block, mapped) == Some(view.start))
        });
        let start = match spare {
            Some(spare) => {
                let start = views[spare].start;
                // SAFETY: a range of this segment in which nothing is borrowed any more.
                unsafe { self.map_file_over(start, mapped.file_offset, length, Sharing::Shared)? };
                views.swap_remove(spare);
                start
            }
            None => self.map_file(mapped.file_offset, length)?,
        };
        views.push(View {
            segment: number,
            start: mapped.payload,
        });
        // SAFETY: just mapped, shared, and never unmapped.
        unsafe { self.set_payload_address(number, start) }
    }

    /// Whether this process owns a block of a segment that is not borrowed: it is being filled, or read.
    fn has_unborrowed_block(&self, all: &Places, number: u32) -> bool {
        let mine = self.mine();
        let taken = self.root().bump[number as usize].load(Ordering::SeqCst);
        (0..taken).any(|index| {
            let block = BlockId::at(number, index);
            self.cell(block).is_ok_and(|cell| cell.owner.is(mine)) && !all.contains_key(&block.0)
        })
    }
}

fn in_segment(all: &Places, number: u32) -> impl Iterator<Item = (BlockId, &Place)> {
    let blocks = BlockId::at(number, 0).0..BlockId::at(number + 1, 0).0;
    all.range(blocks)
        .map(|(block, place)| (BlockId(*block), place))
}

/// The base address of the segment in the range that contains a borrowed block.
fn base_of(all: &Places, block: BlockId, mapped: &Mapped) -> Option<NonNull<u8>> {
    let start = all.get(&block.0)?.start.as_ptr();
    NonNull::new(start.wrapping_sub((u64::from(block.index()) * mapped.size) as usize))
}

/// The parts of a range that are still shared. What is private stays as it is.
fn shared_runs(
    all: &Places,
    number: u32,
    base: NonNull<u8>,
    mapped: &Mapped,
) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let mut from = 0;
    for (block, place) in in_segment(all, number) {
        if !place.is_private || base_of(all, block, mapped) != Some(base) {
            continue;
        }
        let start = block.index() as usize * mapped.size as usize;
        if from < start {
            runs.push(from..start);
        }
        from = start + mapped.size as usize;
    }
    if from < mapped.payload_length() {
        runs.push(from..mapped.payload_length());
    }
    runs
}
