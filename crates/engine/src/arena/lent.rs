//! Blocks that a program uses as memory of its own: the arrays in a message that was received.
//!
//! Such a block is this process's, nobody else looks at it, and it is freed when its last user here drops
//! it. Only a fork makes it two processes': what either of them writes is not to be seen by the other, as
//! with any memory, and the block must not be used again before both are done with it. So before the fork
//!
//! ```text
//! 1  a lease is made, an object whose part the block becomes:   Process(me) --> Part(lease)
//! 2  the block is mapped anew in its place, privately:          writes go to pages of the process's own
//! 3  the child becomes a holder of the lease, as of every object of its parent
//! ```
//!
//! and each process that drops the last of its users maps the range shared again and lets go of the lease;
//! the last holder's going frees the block, whoever died meanwhile. The file's own pages are not written
//! while the lease lives, so both go on to see what was there.
//!
//! A child of a raw `clone` passes no handler: it still sees the parent's memory, for as long as the parent
//! keeps it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use super::Arena;
use super::block::BlockId;
use super::fork::fork_guard;
use super::lease::{Lease, LeaseObject};
use super::open::{Held, Shared};
use super::owner::Owner;
use crate::error::{Error, Result};
use crate::sys::{memfd, pagemap};

enum Hold {
    /// The block is this process's own.
    Own(Owner),
    /// The block is a lease's part, and mapped privately. What it held as an envelope is held here.
    Leased(Shared<LeaseObject>, Vec<Held>),
    /// The block was given back, and is mapped privately for what its users still write.
    Withdrawn,
}

/// Every lent block of this process. Touched under the [`fork_guard`] only.
static LENT: Mutex<BTreeMap<u32, Hold>> = Mutex::new(BTreeMap::new());

fn all() -> MutexGuard<'static, BTreeMap<u32, Hold>> {
    super::lock(&LENT)
}

/// A block in use as this process's own memory; freed when dropped.
pub(crate) struct Lent {
    arena: &'static Arena,
    block: BlockId,
    start: NonNull<u8>,
    range: Range<usize>,
}

// SAFETY: plain memory, to which `Region` gives out pointers only; the books behind it have a lock.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Lent {
    /// Lends the part `range` of a block that is `owner`'s, this process's. `None`, and nothing changed, for
    /// a block that shares pages with its neighbours and so could not be mapped alone.
    pub(crate) fn new(
        arena: &'static Arena,
        block: BlockId,
        owner: Owner,
        range: Range<usize>,
    ) -> Option<Lent> {
        let start = arena.start_of_pages(block)?;
        let _no_fork = fork_guard();
        all().insert(block.0, Hold::Own(owner));
        Some(Lent {
            arena,
            block,
            start,
            range,
        })
    }

    /// Lends the part `range` of a lease's block; gives the lease back if that cannot be.
    pub(super) fn of_lease(
        lease: Shared<LeaseObject>,
        block: BlockId,
        range: Range<usize>,
    ) -> std::result::Result<Lent, Shared<LeaseObject>> {
        let arena = lease.arena();
        let Some(start) = arena.start_of_pages(block) else {
            return Err(lease);
        };
        let _no_fork = fork_guard();
        let mut all = all();
        if all.contains_key(&block.0) || arena.map_block(block, memfd::Sharing::Private).is_err() {
            return Err(lease);
        }
        all.insert(block.0, Hold::Leased(lease, Vec::new()));
        Ok(Lent {
            arena,
            block,
            start,
            range,
        })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let _no_fork = fork_guard();
        let mut all = all();
        let hold = all.remove(&self.block.0);
        // Before anybody else here can lend the block.
        let shared_again = match &hold {
            Some(Hold::Leased(..) | Hold::Withdrawn) => {
                self.arena.map_block(self.block, memfd::Sharing::Shared)
            }
            _ => Ok(()),
        };
        drop(all);
        match hold {
            // In a child of a raw clone the block is the parent's.
            Some(Hold::Own(owner)) if owner == self.arena.mine() => {
                self.arena.free(self.block, owner);
            }
            // This process would not see what others write there: keep it out of use.
            Some(Hold::Leased(lease, _)) if shared_again.is_err() => std::mem::forget(lease),
            // A lease is let go of here.
            _ => {}
        }
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lent#{:x}({} bytes)", self.block.0, self.range.len())
    }
}

/// A stretch of memory of the arena that a program may read and write like its own, for as long as it keeps
/// this. Only the engine makes one.
#[derive(Debug, Clone)]
pub struct Region {
    start: NonNull<u8>,
    length: usize,
    _keep: Arc<Lent>,
}

// SAFETY: a pointer to memory that `_keep` keeps; what is done with it is up to whoever dereferences it.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Where it starts; valid for reading and writing [`len`](Region::len) bytes.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// Memory that was lent to the program; given back when this and all its regions are dropped.
#[derive(Debug)]
pub struct Lending(Arc<Lent>);

impl Lending {
    pub(crate) fn of(lent: Arc<Lent>) -> Lending {
        Lending(lent)
    }

    /// A part of the bytes that were lent; `None` when there is no such part.
    pub fn region(&self, part: Range<usize>) -> Option<Region> {
        let whole = &self.0.range;
        if part.start > part.end || part.end > whole.len() {
            return None;
        }
        // SAFETY: within the block, which holds `whole`.
        let start = unsafe { self.0.start.add(whole.start + part.start) };
        Some(Region {
            start,
            length: part.len(),
            _keep: Arc::clone(&self.0),
        })
    }

    /// Whether an address lies in this memory.
    pub fn contains(&self, address: usize) -> bool {
        let lent = &self.0;
        let start = lent.start.addr().get() + lent.range.start;
        (start..start + lent.range.len()).contains(&address)
    }

    /// Whether the program has written nothing to the memory since it was lent; false where that is not to be
    /// known.
    pub fn is_untouched(&self) -> bool {
        let lent = &self.0;
        let leased = matches!(all().get(&lent.block.0), Some(Hold::Leased(..)));
        let start = lent.start.addr().get() + lent.range.start;
        leased && pagemap::is_untouched(start, lent.range.len()) == Some(true)
    }

    /// Lets go of the objects that the message kept alive whose memory this is: its receiver opened those
    /// it wants.
    pub fn unseal(&self) {
        let _no_fork = fork_guard();
        let kept = match all().get_mut(&self.0.block.0) {
            Some(Hold::Leased(_, kept)) => std::mem::take(kept),
            _ => Vec::new(),
        };
        drop(kept);
        self.0.arena.unseal(self.0.block);
    }
}

/// Before a fork, with nobody else inside the engine: makes every lent block one that two processes can have.
pub(super) fn lease_all(arena: &'static Arena) {
    for (block, hold) in all().iter_mut() {
        let block = BlockId(*block);
        // With no memory left for a lease, the child sees the parent's block, as after a raw clone.
        if let Hold::Own(owner) = *hold
            && owner == arena.mine()
            && let Ok((lease, kept)) = Lease::of_lent(arena, block)
        {
            *hold = Hold::Leased(lease.into(), kept);
            // Where it cannot be mapped anew, both go on to see one memory: nothing worse comes of it.
            let _ = arena.map_block(block, memfd::Sharing::Private);
        }
    }
}

/// For a process that leaves, and gives its blocks back: what it still writes is seen by nobody.
pub(crate) fn withdraw_all(arena: &Arena) {
    let _no_fork = fork_guard();
    for (block, hold) in all().iter_mut() {
        // What is leased is private, and has been written to.
        if let Hold::Own(_) = hold
            && arena
                .map_block(BlockId(*block), memfd::Sharing::Private)
                .is_ok()
        {
            *hold = Hold::Withdrawn;
        }
    }
}

impl Arena {
    /// Where a block starts that has its pages for itself.
    fn start_of_pages(&self, block: BlockId) -> Option<NonNull<u8>> {
        let (place, size) = self.file_range(block)?;
        let page = memfd::page();
        let alone = place.is_multiple_of(page) && size.is_multiple_of(page);
        alone.then(|| self.payload(block).ok()).flatten()
    }

    /// Maps a block's payload anew, where it is.
    fn map_block(&self, block: BlockId, sharing: memfd::Sharing) -> Result<()> {
        let (place, size) = self.file_range(block).ok_or(Error::BadHandle)?;
        let start = self.payload(block)?;
        // SAFETY: the payload of a block whose pages are its own, of which the file has what the mapping
        // had; who looks at it holds it.
        unsafe { self.map_file_over(start, place, size as usize, sharing) }
    }

    /// What the file has of a block, whatever is mapped there.
    pub(super) fn read_file(&self, block: BlockId, range: Range<usize>) -> Result<Vec<u8>> {
        let (place, _) = self.file_range(block).ok_or(Error::BadHandle)?;
        self.read_from_file(place + range.start as u64, range.len())
    }
}
