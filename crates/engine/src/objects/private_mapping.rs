//! Blocks that a program uses as private memory: the arrays in a message that was received.
//!
//! This process owns such a block, nobody else reads it, and it is freed when its last user here drops it. Only a
//! fork makes it belong to two processes. As with any memory, neither must see what the other writes, and the block
//! must not be reused before both have dropped it. So before the fork
//!
//! ```text
//! 1  make a copy-on-write buffer, an object whose part the block becomes:   Process(me) --> Part(buffer)
//! 2  remap the block's address range privately (`views.rs`):                writes go to private pages
//! 3  make the child a holder of the copy-on-write buffer, as of every object of its parent
//! ```
//!
//! Each process that drops the last of its users discards what it wrote, and releases the copy-on-write buffer; the
//! end of the last holder frees the block, whoever died meanwhile. Nobody writes to the file's pages while the
//! copy-on-write buffer exists, so both processes still see the bytes as they were. If no copy-on-write buffer can be
//! made, the bytes are moved out of the file at once, into private memory that a fork copies like any other. If not
//! even that is possible, there is no child: see `process/fork.rs`.
//!
//! Once the other processes are gone, nobody needs what is left of the file's pages: they are copied to private pages
//! and returned to the system (`cow_collapse.rs`).
//!
//! A child of a raw `clone` runs no handler. It still sees the parent's memory, for as long as the parent keeps it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::owner::Owner;
use crate::error::{Error, Result};
use crate::objects::cow_buffer::{CowBuffer, CowBufferObject};
use crate::objects::object_ref::{ObjectRef, TypedRef};
use crate::objects::views;
use crate::process_table::identity::fork_guard;
use crate::sys::{memfd, pagemap};

/// Who owns a private block.
pub(crate) enum Hold {
    /// This process.
    Own(Owner),
    /// A copy-on-write buffer, whose part it is. The objects that it held as an attachment list are held here.
    CopyOnWrite(CowHold),
    /// This process. The bytes are in private memory and not in the file. The objects that it held as an attachment
    /// list are held here.
    Moved(Owner, Vec<ObjectRef>),
    /// Nobody: it was released.
    Withdrawn,
}

pub(crate) struct CowHold {
    pub(crate) cow_buffer: TypedRef<CowBufferObject>,
    attachments: Vec<ObjectRef>,
    /// How many bytes from the start were copied from the file's pages to private ones.
    pub(crate) copied: usize,
}

/// A private block.
pub(crate) struct Place {
    pub(crate) hold: Hold,
    /// The address at which its users see it.
    pub(crate) start: NonNull<u8>,
    /// Whether it is mapped privately there.
    pub(crate) is_private: bool,
}

// SAFETY: an address; the memory behind it is used under the lock of `PRIVATE_BLOCKS`.
unsafe impl Send for Place {}

pub(crate) type Places = BTreeMap<u32, Place>;

/// Every private block of this process. Locked under the [`fork_guard`] only.
static PRIVATE_BLOCKS: Mutex<Places> = Mutex::new(BTreeMap::new());

pub(crate) fn all() -> MutexGuard<'static, Places> {
    crate::sys::thread::lock(&PRIVATE_BLOCKS)
}

/// A block in use as this process's private memory; freed when dropped.
pub(crate) struct PrivateBlock {
    arena: &'static Arena,
    block: BlockId,
    start: NonNull<u8>,
}

// SAFETY: plain memory, of which `BorrowedBuffer` gives out pointers only; the registry behind it has a lock.
unsafe impl Send for PrivateBlock {}
// SAFETY: as above.
unsafe impl Sync for PrivateBlock {}

impl PrivateBlock {
    /// Lends out a block that belongs to `owner`, which is this process. `None`, with nothing changed, if the block
    /// shares pages with its neighbours: then it cannot be mapped alone.
    pub(crate) fn new(arena: &'static Arena, block: BlockId, owner: Owner) -> Option<PrivateBlock> {
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
        })
    }

    /// Lends out a copy-on-write buffer's block; returns the copy-on-write buffer if that fails.
    pub(crate) fn of_cow_buffer(
        cow_buffer: TypedRef<CowBufferObject>,
        block: BlockId,
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
            hold: Hold::CopyOnWrite(CowHold::new(cow_buffer, Vec::new())),
            start,
            is_private: true,
        };
        all.insert(block.0, place);
        Ok(PrivateBlock {
            arena,
            block,
            start,
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
        // Before other threads of this process can lend out the block again.
        let is_seen_elsewhere = self
            .arena
            .payload(self.block)
            .is_ok_and(|seen| seen != self.start);
        let shared_again = match place.is_private {
            // Nobody reads it at that address any more, and a later reader must not find there what was written.
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
            // This process would not see what others write there: keep the block out of use.
            Hold::CopyOnWrite(cow) if shared_again.is_err() => std::mem::forget(cow.cow_buffer),
            Hold::Moved(..) if shared_again.is_err() => {}
            // In a child of a raw clone, or one without a copy-on-write buffer, the block belongs to the parent.
            Hold::Own(owner) | Hold::Moved(owner, _) if owner == self.arena.mine() => {
                self.arena.free(self.block, owner);
            }
            // Dropping a copy-on-write buffer releases it.
            _ => {}
        }
    }
}

impl CowHold {
    fn new(cow_buffer: TypedRef<CowBufferObject>, attachments: Vec<ObjectRef>) -> CowHold {
        CowHold {
            cow_buffer,
            attachments,
            copied: 0,
        }
    }
}

impl std::fmt::Debug for PrivateBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateBlock#{:x}", self.block.0)
    }
}

/// Bytes of the arena that a program reads and writes like its own memory, for as long as it keeps this value or a
/// part of it. Only the engine makes one. The memory is returned when the last part is dropped.
#[derive(Debug, Clone)]
pub struct BorrowedBuffer {
    memory: Arc<PrivateBlock>,
    /// Where the bytes lie in the block.
    range: Range<usize>,
}

impl BorrowedBuffer {
    /// The block must contain the range.
    pub(crate) fn new(memory: PrivateBlock, range: Range<usize>) -> BorrowedBuffer {
        BorrowedBuffer {
            memory: Arc::new(memory),
            range,
        }
    }

    /// Where it starts; valid for reading and writing [`len`](BorrowedBuffer::len) bytes.
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: within the block, which contains the range.
        unsafe { self.memory.start.add(self.range.start) }.as_ptr()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// A part of the bytes; `None` if it is out of range.
    pub fn slice(&self, part: Range<usize>) -> Option<BorrowedBuffer> {
        if part.start > part.end || part.end > self.len() {
            return None;
        }
        Some(BorrowedBuffer {
            memory: Arc::clone(&self.memory),
            range: self.range.start + part.start..self.range.start + part.end,
        })
    }

    /// Whether an address lies in this memory.
    pub fn contains(&self, address: usize) -> bool {
        let start = self.as_ptr().addr();
        (start..start + self.len()).contains(&address)
    }

    /// Whether the program has written nothing to the memory since it got it; false if that is unknown.
    pub fn is_untouched(&self) -> bool {
        let cow = all()
            .get(&self.memory.block.0)
            .is_some_and(|place| matches!(place.hold, Hold::CopyOnWrite(_)) && place.is_private);
        cow && pagemap::is_untouched(self.as_ptr().addr(), self.len()) == Some(true)
    }

    /// Releases the objects that the message in this memory kept alive. Its receiver has opened those that it wants.
    pub fn detach_all(&self) {
        let _no_fork = fork_guard();
        let attachments = match all().get_mut(&self.memory.block.0) {
            Some(Place {
                hold: Hold::CopyOnWrite(CowHold { attachments, .. }) | Hold::Moved(_, attachments),
                ..
            }) => std::mem::take(attachments),
            _ => Vec::new(),
        };
        drop(attachments);
        self.memory.arena.detach_all(self.memory.block);
    }
}

/// Before a fork, while no other thread is inside the engine: makes every private block one that two processes can
/// have.
///
/// # Errors
/// When some block would still be the same memory for both: then there must be no child.
pub(crate) fn share_all(arena: &'static Arena) -> Result<()> {
    let mut all = all();
    let mut wanted = Vec::new();
    let mut cow = 0;
    for (block, place) in all.iter_mut() {
        let block = BlockId(*block);
        match place.hold {
            Hold::Own(owner) if owner == arena.mine() => {
                match CowBuffer::of_private_block(arena, block) {
                    Ok((cow_buffer, attachments)) => {
                        place.hold =
                            Hold::CopyOnWrite(CowHold::new(cow_buffer.into(), attachments));
                        cow += arena.capacity(block);
                        wanted.push(block);
                    }
                    // There is no memory for a copy-on-write buffer; moving the block out frees some.
                    Err(_) => arena.move_out(block, owner, place)?,
                }
            }
            // The last fork could not map it.
            Hold::CopyOnWrite(_) if !place.is_private => wanted.push(block),
            _ => {}
        }
    }
    crate::memory::trimmer::add_to_collapse(cow);
    views::make_private(arena, &mut all, &wanted)
}

/// For a process that leaves and gives up its blocks: nobody sees what it still writes.
pub(crate) fn withdraw_all(arena: &Arena) {
    let _no_fork = fork_guard();
    let mut all = all();
    // Copy-on-write blocks are private already, and have been written to.
    let is_own = |(block, place): (&u32, &Place)| {
        matches!(place.hold, Hold::Own(_)).then_some(BlockId(*block))
    };
    let wanted: Vec<_> = all.iter().filter_map(is_own).collect();
    // A block that cannot be made private is written to as before, until this process is gone: only then is it
    // released.
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
    /// The start of a block, if it shares no page with another.
    fn start_of_pages(&self, block: BlockId) -> Option<NonNull<u8>> {
        let (place, size) = self.file_range(block)?;
        let page = memfd::page();
        let alone = place.is_multiple_of(page) && size.is_multiple_of(page);
        alone.then(|| self.payload(block).ok()).flatten()
    }

    /// Remaps a block's payload at the address where its users see it.
    pub(crate) fn map_block_at(
        &self,
        block: BlockId,
        start: NonNull<u8>,
        sharing: memfd::Sharing,
    ) -> Result<()> {
        let (place, size) = self.file_range(block).ok_or(Error::BadHandle)?;
        // SAFETY: the payload of a block whose pages are its own; the file has what the mapping had, and whoever
        // reads it holds it.
        unsafe { self.map_file_over(start, place, size as usize, sharing) }
    }

    /// Discards what this process wrote to its private copies of a block's pages.
    fn drop_copies_of(&self, block: BlockId, start: NonNull<u8>) {
        if let Some((_, size)) = self.file_range(block) {
            // If they stay, they take memory until the address range is used again, which discards them.
            memfd::drop_copies(start, size as usize);
        }
    }

    /// Moves the bytes of a block of this process to private memory, and returns its pages to the system.
    fn move_out(&'static self, block: BlockId, owner: Owner, place: &mut Place) -> Result<()> {
        let (offset, size) = self.file_range(block).ok_or(Error::BadHandle)?;
        // SAFETY: the payload of a block whose pages are its own, and mapped there.
        unsafe { memfd::copy_over(place.start, size as usize)? };
        place.hold = Hold::Moved(owner, self.hold_contents(block));
        self.detach_all(block);
        place.is_private = true;
        self.return_pages(block, offset, size as usize);
        Ok(())
    }

    /// Returns the file's pages of a part of a block whose bytes are in private memory: a block of this process, or
    /// of a copy-on-write buffer that it alone holds.
    pub(crate) fn return_pages(&self, block: BlockId, offset: u64, length: usize) {
        // A process that counts as dead returns no pages: others may have the block by then.
        if let Some(_giving_back) = self.begin_page_release()
            && self.punch_file(offset, length)
            && let Ok(cell) = self.cell(block)
        {
            cell.take_committed();
        }
    }

    /// Reads a block's bytes from the file, whatever is mapped at its address.
    pub(crate) fn read_file(&self, block: BlockId, range: Range<usize>) -> Result<Vec<u8>> {
        let (place, _) = self.file_range(block).ok_or(Error::BadHandle)?;
        self.read_from_file(place + range.start as u64, range.len())
    }
}
