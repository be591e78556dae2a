//! Objects: what several processes share, and which processes hold it.
//!
//! An object lies in a block whose owner is [`Owner::Shared`]. Its holders are not a count: a count stays wrong for
//! ever once a process died between two steps. They are a set of cells, each with the id of one process. A process
//! adds a cell for itself, or for a child that it is about to start. Only a member of the set can do that, so an
//! empty set never grows again. Whoever removes the last living id frees the object:
//!
//! ```text
//! leaver:  cell := 0;       owner Shared -> Process(me);  set still empty?  free : pass back
//! opener:  cell := me;      owner still Shared?           go on : clear the cell, "stale"
//! ```
//!
//! All four steps are sequentially consistent, so a leaver and an opener can't both succeed. Within a process,
//! handles are counted in [`local`](crate::objects::local); the cell stands for all of them.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::kind::Kind;
use crate::arena::owner::{Owner, ProcId};
use crate::arena::size_class::{ATTACHMENT_INDEX, LARGE_PART, SizeClass};
use crate::arena::upcalls::{KindOps, ops_of};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::objects::holders;
use crate::objects::holders::{INLINE, TABLES};

pub(crate) const SENT: u32 = 1;
pub(crate) const ADDED: u32 = 2;
/// The part that the object's type may use, and the part that indexes the attachment lists the object is in. The
/// parts before these are the tables of holders.
pub(crate) const EXTENSION: usize = TABLES;
pub(crate) const ATTACHED_TO: usize = TABLES + 1;
/// How many further parts a condition's extension can name, in the words at its start.
pub(crate) const FURTHER: usize = 1024;

/// What every object starts with.
#[repr(C, align(64))]
pub(crate) struct ObjectHead {
    /// Blocks that belong to the object and are made when first needed; zero until then. The first are tables of
    /// further holders (`holders.rs`), then the part of the object's type, then the index of attachment lists
    /// (`attachment_index.rs`).
    pub(crate) parts: [AtomicU32; TABLES + 2],
    /// Grows by [`ADDED`] with every holder added, so that a scan of all holders can tell whether it saw one
    /// consistent moment. The bit [`SENT`] is set once an attachment list was a holder.
    pub(crate) added: AtomicU32,
    /// The first holders: process ids, zero in empty cells.
    pub(crate) cells: [AtomicU32; INLINE],
}

impl ObjectHead {
    /// Makes its maker the first holder, before others see the object.
    pub(crate) fn begin(&self, maker: ProcId) {
        self.cells[0].store(maker.as_u32(), Ordering::Relaxed);
    }
}

/// A type that may lie in an object's block.
///
/// # Safety
/// `repr(C)`, beginning with an [`ObjectHead`], made of atomics (and of memory that is reached through raw pointers
/// alone), valid for any bytes, and initially zero.
pub(crate) unsafe trait Layout: Sync + 'static {
    const KIND: Kind;
    fn head(&self) -> &ObjectHead;
}

pub(crate) fn too_large(asked: u64) -> Error {
    Error::OutOfMemory {
        asked,
        left: crate::arena::size_class::LARGEST,
        limit: "the largest object there is".into(),
    }
}

impl Arena {
    /// Whether the block is an object in this generation.
    pub(crate) fn is_object(&self, block: BlockId, generation: u32) -> bool {
        self.cell(block).is_ok_and(|cell| {
            cell.owner.is(Owner::Shared) && cell.generation.load(Ordering::SeqCst) == generation
        })
    }

    /// Makes `owner` a holder of an object that may be gone already. Blocks that held objects only ever hold objects.
    /// So at worst, a later object in the same block has one holder too many for a moment.
    pub(crate) fn add_checked_hold(
        &self,
        block: BlockId,
        generation: u32,
        owner: ProcId,
    ) -> Result<()> {
        let class = self.segment(block.segment()).map(|segment| segment.class);
        if !class.is_some_and(SizeClass::is_of_objects) || !self.is_object(block, generation) {
            return Err(Error::StaleHandle);
        }
        match owner == self.me() {
            true => self.record_owned(block),
            false => self.log_for(owner, std::iter::once(block)),
        }
        self.add_hold(block, owner)?;
        if self.is_object(block, generation) {
            return Ok(());
        }
        // This process's own hold ends with its last handle: another thread may already have a newer object there.
        if owner != self.me() {
            self.drop_hold(block, owner);
        }
        Err(Error::StaleHandle)
    }

    pub(crate) fn head(&self, block: BlockId) -> Result<&ObjectHead> {
        let payload = self.payload(block)?;
        // SAFETY: within the mapped segment, 64-aligned, all atomics. The caller checked that it is an object; if it
        // is not, only stale words become visible.
        Ok(unsafe { payload.cast::<ObjectHead>().as_ref() })
    }

    /// The address of a part of an object, if it was made. Checks that it holds `size` bytes.
    pub(crate) fn part(&self, head: &ObjectHead, which: usize, size: u64) -> Option<NonNull<u8>> {
        self.linked(&head.parts[which], size)
    }

    /// The block that is linked as a part of an object.
    pub(crate) fn linked_part(&self, head: &ObjectHead, which: usize) -> Option<BlockId> {
        BlockId::new(head.parts[which].load(Ordering::Acquire))
    }

    /// Makes a part of an object, of `size` zero bytes, unless it exists. The caller is a holder.
    #[cold]
    pub(crate) fn ensure_part(
        &self,
        object: BlockId,
        head: &ObjectHead,
        which: usize,
        size: u64,
    ) -> Result<()> {
        let class = match which {
            ATTACHED_TO => ATTACHMENT_INDEX,
            _ => holders::class_of(which).unwrap_or(LARGE_PART),
        };
        self.ensure_linked(object, &head.parts[which], class, size)
    }

    /// Makes one of the further parts that a condition's extension names, of `size` zero bytes, unless it exists.
    #[cold]
    pub(crate) fn ensure_further(
        &self,
        object: BlockId,
        link: &AtomicU32,
        size: u64,
    ) -> Result<()> {
        self.ensure_linked(object, link, LARGE_PART, size)
    }

    fn ensure_linked(
        &self,
        object: BlockId,
        link: &AtomicU32,
        class: SizeClass,
        size: u64,
    ) -> Result<()> {
        if link.load(Ordering::Acquire) != 0 {
            return Ok(());
        }
        if class.size() < size {
            return Err(too_large(size));
        }
        let part = self.alloc_class(class, size)?;
        // SAFETY: just taken, this many bytes, seen by nobody else.
        unsafe { self.payload(part)?.write_bytes(0, size as usize) };
        if !self.link_part(part, object, link) {
            self.free(part, self.mine());
        }
        Ok(())
    }

    /// The address of the block that a link names, if any. Checks that it holds `size` bytes.
    pub(crate) fn linked(&self, link: &AtomicU32, size: u64) -> Option<NonNull<u8>> {
        let block = BlockId::new(link.load(Ordering::Acquire))?;
        (self.capacity(block) >= size)
            .then(|| self.payload(block).ok())
            .flatten()
    }

    /// The links to further parts in a condition's extension.
    fn further_parts(&self, object: BlockId, head: &ObjectHead) -> &[AtomicU32] {
        let is_condition = self
            .cell(object)
            .is_ok_and(|cell| cell.kind.load(Ordering::Acquire) == Kind::Condition as u32);
        match self.part(head, EXTENSION, (FURTHER * 4) as u64) {
            // SAFETY: the part is at least this large, 64-aligned, mapped for good; any bytes are atomics.
            Some(links) if is_condition => unsafe {
                std::slice::from_raw_parts(links.cast().as_ptr(), FURTHER)
            },
            _ => &[],
        }
    }

    /// Makes a block that this process owns a part of an object; false when the object already has that part.
    pub(crate) fn make_part(
        &self,
        part: BlockId,
        object: BlockId,
        head: &ObjectHead,
        which: usize,
    ) -> bool {
        self.link_part(part, object, &head.parts[which])
    }

    /// As [`Arena::make_part`], for a link in the object or in one of its parts.
    pub(crate) fn link_part(&self, part: BlockId, object: BlockId, link: &AtomicU32) -> bool {
        let Ok(cell) = self.cell(part) else {
            return false;
        };
        // The part names its object, so that a sweep can tell whether it was linked: see `reclaim_part`.
        cell.generation.store(object.0, Ordering::Relaxed);
        cell.kind.store(Kind::Part as u32, Ordering::Release);
        failpoint::hit("object.part");
        let linked = link
            .compare_exchange(0, part.0, Ordering::SeqCst, Ordering::Acquire)
            .is_ok();
        if linked {
            failpoint::hit("object.linked");
            cell.owner.pass(self.mine(), Owner::Part(object.0));
        } else {
            cell.generation.store(0, Ordering::Release);
            cell.kind.store(Kind::Bytes as u32, Ordering::Release);
        }
        linked
    }

    /// Whether `part` is linked to `object`.
    fn has_part(&self, object: BlockId, part: BlockId) -> bool {
        let is_object = self.cell(object).is_ok_and(|cell| {
            let kind = Kind::from_u32(cell.kind.load(Ordering::Acquire));
            kind.is_object()
        });
        is_object
            && self.head(object).is_ok_and(|head| {
                let linked = |link: &AtomicU32| link.load(Ordering::Acquire) == part.0;
                head.parts.iter().any(linked)
                    || self.is_further_page(head, part)
                    || self.further_parts(object, head).iter().any(linked)
            })
    }

    /// Whether a living process, or an attachment list, holds the object in the block.
    fn is_held(&self, block: BlockId, head: &ObjectHead) -> bool {
        loop {
            let added = head.added.load(Ordering::SeqCst);
            let held =
                self.has_holder_but(head, None) || added & SENT != 0 && self.is_sent(block, head);
            if held || head.added.load(Ordering::SeqCst) == added {
                return held;
            }
        }
    }

    fn is_sent(&self, block: BlockId, head: &ObjectHead) -> bool {
        self.cell(block)
            .is_ok_and(|cell| self.is_attached(block, cell.generation.load(Ordering::SeqCst), head))
    }

    /// Records that an attachment list holds the object, or is about to. The caller is a holder.
    pub(crate) fn note_sent(&self, block: BlockId) -> Result<()> {
        let head = self.head(block)?;
        head.added.fetch_or(SENT, Ordering::SeqCst);
        head.added.fetch_add(ADDED, Ordering::SeqCst);
        Ok(())
    }

    /// Frees the object if nobody holds it.
    pub(crate) fn free_if_unheld(&self, block: BlockId) {
        let (Ok(head), Ok(cell)) = (self.head(block), self.cell(block)) else {
            return;
        };
        if !cell.owner.is(Owner::Shared) || self.is_held(block, head) {
            return;
        }
        if !self.claim(block, cell, Owner::Shared, self.mine()) {
            return;
        }
        failpoint::hit("object.dying");
        self.dismantle_unless_held(block);
    }

    /// Frees an object that this process took over, unless it turns out to be held.
    fn dismantle_unless_held(&self, block: BlockId) {
        let (Ok(head), Ok(cell)) = (self.head(block), self.cell(block)) else {
            return;
        };
        if self.is_held(block, head) {
            cell.owner.pass(self.mine(), Owner::Shared);
        } else {
            self.dismantle(block);
        }
    }

    /// Frees an object that this process alone owns: first its contents and parts, then its block.
    ///
    /// A process that takes over from one that died in here starts again; each step can be repeated.
    fn dismantle(&self, block: BlockId) {
        let Ok(cell) = self.cell(block) else { return };
        let kind = Kind::from_u32(cell.kind.load(Ordering::Acquire));
        (ops_of(kind).take_apart)(self, block);
        if kind.is_object()
            && let Ok(head) = self.head(block)
        {
            self.free_further_pages(block, head);
            for link in self.further_parts(block, head).iter().chain(&head.parts) {
                self.free_part(block, link, 0);
            }
        }
        failpoint::hit("object.emptied");
        cell.kind.store(Kind::Bytes as u32, Ordering::Release);
        self.free(block, self.mine());
        if kind.is_channel() {
            self.channel_gone();
        }
    }

    /// Frees the part of an object that `link` names, and stores `next` in `link`.
    pub(crate) fn free_part(&self, object: BlockId, link: &AtomicU32, next: u32) {
        if let Some(part) = BlockId::new(link.load(Ordering::Acquire))
            && let Ok(cell) = self.cell(part)
            && cell.kind.load(Ordering::Acquire) == Kind::Part as u32
            && cell.generation.load(Ordering::Acquire) == object.0
        {
            let mine = self.mine();
            let owner = cell.owner.get();
            // A maker that died before it passed the part to the object still owns it.
            let ours = match owner {
                Owner::Part(whose) => whose == object.0,
                Owner::Process(by) => owner == mine || self.is_dead(by),
                _ => false,
            };
            if ours && (owner == mine || self.claim(part, cell, owner, mine)) {
                failpoint::hit("object.part_taken");
                link.store(next, Ordering::Release);
                cell.generation.store(0, Ordering::Release);
                cell.kind.store(Kind::Bytes as u32, Ordering::Release);
                self.free(part, mine);
            }
        }
        link.store(next, Ordering::Release);
    }
}

/// An object that owns nothing but its block and its parts.
pub(crate) const OBJECT: KindOps = KindOps::of_block(finish_freeing);
/// A part of an object.
pub(crate) const PART: KindOps = KindOps::of_block(reclaim_part);

/// Finishes freeing an object: its owner died while it made or freed it.
fn finish_freeing(arena: &Arena, block: BlockId, from: Owner) {
    let Ok(cell) = arena.cell(block) else { return };
    if arena.claim(block, cell, from, arena.mine()) {
        failpoint::hit("recovery.taken");
        arena.dismantle_unless_held(block);
    }
}

/// Keeps the part of a dead maker if it is linked to its object, and frees it otherwise.
fn reclaim_part(arena: &Arena, part: BlockId, from: Owner) {
    let Ok(cell) = arena.cell(part) else { return };
    let object = BlockId(cell.generation.load(Ordering::Acquire));
    if arena.has_part(object, part) {
        cell.owner.pass(from, Owner::Part(object.0));
    } else if arena.claim(part, cell, from, arena.mine()) {
        cell.generation.store(0, Ordering::Release);
        cell.kind.store(Kind::Bytes as u32, Ordering::Release);
        arena.free(part, arena.mine());
    }
}
