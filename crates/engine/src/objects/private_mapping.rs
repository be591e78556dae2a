//! Blocks that a program uses as memory of its own: the arrays in a message that was received.
//!
//! Such a block is this process's, nobody else looks at it, and it is freed when its last user here drops
//! it. Only a fork makes it two processes': what either of them writes is not to be seen by the other, as
//! with any memory, and the block must not be used again before both are done with it. So before the fork
//!
//! ```text
//! 1  a copy-on-write buffer is made, an object whose part the block becomes:   Process(me) --> Part(copy-on-write buffer)
//! 2  its place is mapped anew, privately (`views.rs`):          writes go to pages of the process's own
//! 3  the child becomes a holder of the copy-on-write buffer, as of every object of its parent
//! ```
//!
//! and each process that drops the last of its users sees to it that what it wrote is gone, and lets go of the copy-on-write buffer;
//! the last holder's going frees the block, whoever died meanwhile. The file's own pages are not written
//! while the copy-on-write buffer lives, so both go on to see what was there. Where no copy-on-write buffer can be had, the bytes are moved out of
//! the file at once, to private memory that a fork copies like any other. Where not even that is possible, there is no
//! child: see `fork.rs`.
//!
//! Once the others are gone, what is left of the file's pages is memory that nobody needs: they are copied to private
//! ones and given back (`cow_collapse.rs`).
//!
//! A child of a raw `clone` passes no handler: it still sees the parent's memory, for as long as the parent
//! keeps it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::memory::Arena;
use crate::memory::block::BlockId;
use crate::memory::owner::Owner;
use crate::memory::views;
use crate::objects::cow_buffer::{CowBuffer, CowBufferObject};
use crate::objects::object_ref::{ObjectRef, TypedRef};
use crate::process::fork::fork_guard;
use crate::sys::{memfd, pagemap};

/// Whose a private block is.
pub(crate) enum Hold {
    /// This process's own.
    Own(Owner),
    /// A copy-on-write buffer's part. What it held as an attachment list is held here.
    Leased(Leased),
    /// This process's own. Its bytes are in private memory and not in the file. What it held as an attachment list is held here.
    Moved(Owner, Vec<ObjectRef>),
    /// It was given back.
    Withdrawn,
}

pub(crate) struct Leased {
    pub(crate) cow_buffer: TypedRef<CowBufferObject>,
    kept: Vec<ObjectRef>,
    /// How many bytes from the start were copied from the file's pages to private ones.
    pub(crate) copied: usize,
}

/// A private block.
pub(crate) struct Place {
    pub(crate) hold: Hold,
    /// Where its users see it.
    pub(crate) start: NonNull<u8>,
    /// Whether it is mapped privately there.
    pub(crate) is_private: bool,
}

// SAFETY: an address, behind which the books' lock is.
unsafe impl Send for Place {}

pub(crate) type Places = BTreeMap<u32, Place>;

/// Every private block of this process. Touched under the [`fork_guard`] only.
static PRIVATE_BLOCKS: Mutex<Places> = Mutex::new(BTreeMap::new());

pub(crate) fn all() -> MutexGuard<'static, Places> {
    crate::memory::lock(&PRIVATE_BLOCKS)
}

/// A block in use as this process's own memory; freed when dropped.
pub(crate) struct PrivateBlock {
    arena: &'static Arena,
    block: BlockId,
    start: NonNull<u8>,
    range: Range<usize>,
}

// SAFETY: plain memory, to which `BufferView` gives out pointers only; the books behind it have a lock.
unsafe impl Send for PrivateBlock {}
// SAFETY: as above.
unsafe impl Sync for PrivateBlock {}

impl PrivateBlock {
    /// Lends the part `range` of a block that is `owner`'s, this process's. `None`, and nothing changed, for
    /// a block that shares pages with its neighbours and so could not be mapped alone.
    pub(crate) fn new(
        arena: &'static Arena,
        block: BlockId,
        owner: Owner,
        range: Range<usize>,
    ) -> Option<PrivateBlock> {
        let start = arena.start_of_pages(block)?;
        let _no_fork = fork_guard();
        let place = Place {
            hold: Hold::Own(owner),
            start,
            is_private: false,
        };
        all().insert(block.0, place);
        Some(PrivateBlock {
            arena,
            block,
            start,
            range,
        })
    }

    /// Lends the part `range` of a copy-on-write buffer's block; gives the copy-on-write buffer back if that cannot be.
    pub(crate) fn of_cow_buffer(
        cow_buffer: TypedRef<CowBufferObject>,
        block: BlockId,
        range: Range<usize>,
    ) -> std::result::Result<PrivateBlock, TypedRef<CowBufferObject>> {
        let arena = cow_buffer.arena();
        let Some(start) = arena.start_of_pages(block) else {
            return Err(cow_buffer);
        };
        let _no_fork = fork_guard();
        let mut all = all();
        let map = |sharing| arena.map_block_at(block, start, sharing);
        if all.contains_key(&block.0) || map(memfd::Sharing::Private).is_err() {
            return Err(cow_buffer);
        }
        let place = Place {
            hold: Hold::Leased(Leased::new(cow_buffer, Vec::new())),
            start,
            is_private: true,
        };
        all.insert(block.0, place);
        Ok(PrivateBlock {
            arena,
            block,
            start,
            range,
        })
    }
}

impl Drop for PrivateBlock {
    fn drop(&mut self) {
        let _no_fork = fork_guard();
        let mut all = all();
        let Some(place) = all.remove(&self.block.0) else {
            return;
        };
        // Before anybody else here can lend the block.
        let is_seen_elsewhere = self
            .arena
            .payload(self.block)
            .is_ok_and(|seen| seen != self.start);
        let shared_again = match place.is_private {
            // Nobody looks at it there any more, and nobody is to find there what was written.
            true if is_seen_elsewhere => {
                self.arena.drop_copies_of(self.block, self.start);
                Ok(())
            }
            true => self
                .arena
                .map_block_at(self.block, self.start, memfd::Sharing::Shared),
            false => Ok(()),
        };
        drop(all);
        match place.hold {
            // This process would not see what others write there: keep it out of use.
            Hold::Leased(cow) if shared_again.is_err() => std::mem::forget(cow.cow_buffer),
            Hold::Moved(..) if shared_again.is_err() => {}
            // In a child, of a raw clone or of one without a copy-on-write buffer, the block is the parent's.
            Hold::Own(owner) | Hold::Moved(owner, _) if owner == self.arena.mine() => {
                self.arena.free(self.block, owner);
            }
            // A copy-on-write buffer is let go of here.
            _ => {}
        }
    }
}

impl Leased {
    fn new(cow_buffer: TypedRef<CowBufferObject>, kept: Vec<ObjectRef>) -> Leased {
        Leased {
            cow_buffer,
            kept,
            copied: 0,
        }
    }
}

impl std::fmt::Debug for PrivateBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "PrivateBlock#{:x}({} bytes)",
            self.block.0,
            self.range.len()
        )
    }
}

/// A stretch of memory of the arena that a program may read and write like its own, for as long as it keeps
/// this. Only the engine makes one.
#[derive(Debug, Clone)]
pub struct BufferView {
    start: NonNull<u8>,
    length: usize,
    _keep: Arc<PrivateBlock>,
}

// SAFETY: a pointer to memory that `_keep` keeps; what is done with it is up to whoever dereferences it.
unsafe impl Send for BufferView {}
// SAFETY: as above.
unsafe impl Sync for BufferView {}

impl BufferView {
    /// Where it starts; valid for reading and writing [`len`](BufferView::len) bytes.
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
pub struct BorrowedBuffer(Arc<PrivateBlock>);

impl BorrowedBuffer {
    pub(crate) fn of(lent: Arc<PrivateBlock>) -> BorrowedBuffer {
        BorrowedBuffer(lent)
    }

    /// A part of the bytes that were lent; `None` when there is no such part.
    pub fn region(&self, part: Range<usize>) -> Option<BufferView> {
        let whole = &self.0.range;
        if part.start > part.end || part.end > whole.len() {
            return None;
        }
        // SAFETY: within the block, which holds `whole`.
        let start = unsafe { self.0.start.add(whole.start + part.start) };
        Some(BufferView {
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
        let cow = all()
            .get(&lent.block.0)
            .is_some_and(|place| matches!(place.hold, Hold::Leased(_)) && place.is_private);
        let start = lent.start.addr().get() + lent.range.start;
        cow && pagemap::is_untouched(start, lent.range.len()) == Some(true)
    }

    /// Lets go of the objects that the message kept alive whose memory this is: its receiver opened those
    /// it wants.
    pub fn detach_all(&self) {
        let _no_fork = fork_guard();
        let kept = match all().get_mut(&self.0.block.0) {
            Some(Place {
                hold: Hold::Leased(Leased { kept, .. }) | Hold::Moved(_, kept),
                ..
            }) => std::mem::take(kept),
            _ => Vec::new(),
        };
        drop(kept);
        self.0.arena.detach_all(self.0.block);
    }
}

/// Before a fork, with nobody else inside the engine: makes every private block one that two processes can have.
///
/// # Errors
/// When some block still is one memory for both: then there is to be no child.
pub(crate) fn share_all(arena: &'static Arena) -> Result<()> {
    let mut all = all();
    let mut wanted = Vec::new();
    let mut cow = 0;
    for (block, place) in all.iter_mut() {
        let block = BlockId(*block);
        match place.hold {
            Hold::Own(owner) if owner == arena.mine() => {
                match CowBuffer::of_private_block(arena, block) {
                    Ok((cow_buffer, kept)) => {
                        place.hold = Hold::Leased(Leased::new(cow_buffer.into(), kept));
                        cow += arena.capacity(block);
                        wanted.push(block);
                    }
                    // With no memory left for a copy-on-write buffer, some is got by that.
                    Err(_) => arena.move_out(block, owner, place)?,
                }
            }
            // The last fork had no room for it.
            Hold::Leased(_) if !place.is_private => wanted.push(block),
            _ => {}
        }
    }
    crate::objects::cow_collapse::note_leased(cow);
    views::make_private(arena, &mut all, &wanted)
}

/// For a process that leaves, and gives its blocks back: what it still writes is seen by nobody.
pub(crate) fn withdraw_all(arena: &Arena) {
    let _no_fork = fork_guard();
    let mut all = all();
    // What is copy-on-write is private, and has been written to.
    let is_own = |(block, place): (&u32, &Place)| {
        matches!(place.hold, Hold::Own(_)).then_some(BlockId(*block))
    };
    let wanted: Vec<_> = all.iter().filter_map(is_own).collect();
    // What cannot be is written to as before, until this process is gone: only then is it given back.
    let _best_effort = views::make_private(arena, &mut all, &wanted);
    for block in wanted {
        if let Some(place) = all.get_mut(&block.0)
            && place.is_private
        {
            place.hold = Hold::Withdrawn;
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

    /// Maps a block's payload anew, where its users see it.
    pub(crate) fn map_block_at(
        &self,
        block: BlockId,
        start: NonNull<u8>,
        sharing: memfd::Sharing,
    ) -> Result<()> {
        let (place, size) = self.file_range(block).ok_or(Error::BadHandle)?;
        // SAFETY: the payload of a block whose pages are its own, of which the file has what the mapping
        // had; who looks at it holds it.
        unsafe { self.map_file_over(start, place, size as usize, sharing) }
    }

    /// Sees to it that what this process wrote to its copies of a block's pages is gone.
    fn drop_copies_of(&self, block: BlockId, start: NonNull<u8>) {
        if let Some((_, size)) = self.file_range(block) {
            // Where they stay they take memory until the place is used again, which takes them away.
            memfd::drop_copies(start, size as usize);
        }
    }

    /// Moves the bytes of a block of this process's to private memory, and gives its pages back.
    fn move_out(&'static self, block: BlockId, owner: Owner, place: &mut Place) -> Result<()> {
        let (offset, size) = self.file_range(block).ok_or(Error::BadHandle)?;
        // SAFETY: the payload of a block whose pages are its own, and mapped there.
        unsafe { memfd::copy_over(place.start, size as usize)? };
        place.hold = Hold::Moved(owner, self.hold_contents(block));
        self.detach_all(block);
        place.is_private = true;
        self.give_up_pages(block, offset, size as usize);
        Ok(())
    }

    /// Gives back a part of a block of this process's, or of a copy-on-write buffer that it holds alone, which has its bytes in
    /// private memory.
    pub(crate) fn give_up_pages(&self, block: BlockId, offset: u64, length: usize) {
        // A process that is taken for dead gives nothing back: others may have the block by then.
        if let Some(_giving_back) = self.begin_page_release()
            && self.punch_file(offset, length)
            && let Ok(cell) = self.cell(block)
        {
            cell.take_committed();
        }
    }

    /// What the file has of a block, whatever is mapped there.
    pub(crate) fn read_file(&self, block: BlockId, range: Range<usize>) -> Result<Vec<u8>> {
        let (place, _) = self.file_range(block).ok_or(Error::BadHandle)?;
        self.read_from_file(place + range.start as u64, range.len())
    }
}
