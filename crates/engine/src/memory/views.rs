//! Where this process sees the payload of a segment: making private blocks private.
//!
//! A private block becomes private by a mapping of its own in its place. A process has a limited number of mappings
//! (vm.max_map_count), so where many blocks of one segment are lent, the whole place becomes private, and the engine
//! goes on to see the segment elsewhere:
//!
//! ```text
//! before    engine, users  -->  place 1, shared
//! after     users          -->  place 1, private         engine  -->  place 2, shared
//! ```
//!
//! Somebody may have taken a block just before and be writing to it in place 1, which nobody would see any more. So
//! the engine's place changes first, and only if no block is this process's that is not lent does the old one
//! become private.
//!
//! ```text
//! taker:  owner := me (SeqCst);   where is it seen?            forker:  seen at 2 (SeqCst);   whose is it?
//! ```
//!
//! A place is never taken away, since another thread may be reading there; when nothing is lent there it serves as
//! place 2 again.

use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::memory::Arena;
use crate::memory::block::BlockId;
use crate::memory::segment::Mapped;
use crate::objects::private_mapping::{Place, Places};
use crate::sys::memfd::Sharing;

/// So many blocks of a segment have mappings of their own, at most.
const FEW: usize = 8;

/// A place where a segment was seen before.
struct View {
    segment: u32,
    start: NonNull<u8>,
}

// SAFETY: an address; what is done with it is done under the lock.
unsafe impl Send for View {}

/// Touched while the private blocks are locked.
static VIEWS: Mutex<Vec<View>> = Mutex::new(Vec::new());

/// Maps private blocks privately where their users see them.
///
/// # Errors
/// When some still are shared.
pub(crate) fn make_private(arena: &Arena, all: &mut Places, wanted: &[BlockId]) -> Result<()> {
    let mut outcome = Ok(());
    // In which segment, and where that starts in the place where its user sees it.
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
        if group.len() > FEW && arena.make_place_private(all, &group)? {
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
    /// Makes the place private in which these blocks of one segment are; false, and nothing changed that anybody
    /// would notice, if that cannot be.
    fn make_place_private(&self, all: &mut Places, group: &[BlockId]) -> Result<bool> {
        let (Some(first), true) = (group.first(), self.has_descriptor()) else {
            return Ok(false);
        };
        let number = first.segment();
        let mapped = self.mapped(number)?;
        let Some(base) = base_of(all, *first, mapped) else {
            return Ok(false);
        };
        if base == mapped.payload && self.see_elsewhere(all, number, mapped).is_err() {
            return Ok(false);
        }
        if self.is_used_unlent(all, number) {
            return Ok(false);
        }
        for run in shared_runs(all, number, base, mapped) {
            // SAFETY: within the place, which is mapped; who looks at it holds a block there that is lent, or only
            // reads, for which the file has all.
            let done = unsafe {
                let start = base.add(run.start);
                let offset = mapped.place + run.start as u64;
                self.map_file_over(start, offset, run.len(), Sharing::Private)
            };
            if done.is_err() {
                // Some of it is private, block by block the rest may be.
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

    /// From now on the engine sees a segment at another place than before.
    fn see_elsewhere(&self, all: &Places, number: u32, mapped: &Mapped) -> Result<()> {
        let mut views = crate::memory::lock(&VIEWS);
        let length = mapped.payload_length();
        let spare = views.iter().position(|view| {
            view.segment == number
                && !in_segment(all, number)
                    .any(|(block, _)| base_of(all, block, mapped) == Some(view.start))
        });
        let start = match spare {
            Some(spare) => {
                let start = views[spare].start;
                // SAFETY: a place of the segment's, in which nothing is lent any more.
                unsafe { self.map_file_over(start, mapped.place, length, Sharing::Shared)? };
                views.swap_remove(spare);
                start
            }
            None => self.map_file(mapped.place, length)?,
        };
        views.push(View {
            segment: number,
            start: mapped.payload,
        });
        // SAFETY: just mapped, shared, and never taken away.
        unsafe { self.see_payload_at(number, start) }
    }

    /// Whether a block of a segment is this process's that is not lent: being filled, or read.
    fn is_used_unlent(&self, all: &Places, number: u32) -> bool {
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

/// Where the segment starts in the place where a private block is.
fn base_of(all: &Places, block: BlockId, mapped: &Mapped) -> Option<NonNull<u8>> {
    let start = all.get(&block.0)?.start.as_ptr();
    NonNull::new(start.wrapping_sub((u64::from(block.index()) * mapped.size) as usize))
}

/// The parts of a place that are shared still, though others may be in it: what is private stays as it is.
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
