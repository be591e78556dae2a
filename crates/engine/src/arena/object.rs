//! Objects: what several processes share, and who holds it.
//!
//! An object lives in a block whose owner is [`Owner::Shared`]. Who holds it is not a count (a count
//! is wrong for ever once somebody died between two steps) but a set of cells, each with the id of one
//! process. A process adds a cell for itself, or for a child it is about to start, and only who is in
//! the set already can do that; so the set never grows again once it was empty. Whoever takes out the
//! last living id frees the object:
//!
//! ```text
//! leaver:  cell := 0;       owner Shared -> Process(me);  set still empty?  free : give back
//! opener:  cell := me;      owner still Shared?           go on : take the cell back, "stale"
//! ```
//!
//! All four steps are sequentially consistent, so a leaver and an opener can't both be content.
//! Within a process, handles are counted in [`Arena::local`]; the cell stands for all of them.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Arena;
use super::block::BlockId;
use super::class::{Class, LARGE_PART, SMALL_PART};
use super::layout::SEATS;
use super::owner::{Owner, OwnerId};
use crate::error::{Error, Result};
use crate::id_map::IdMap;
use crate::kill;
use crate::retries::Retries;

const INLINE: usize = 13;
const SENT: u32 = 1;
const ADDED: u32 = 2;
/// The part that holds further holders, and the one that types may use.
const HOLDERS: usize = 0;
pub(crate) const EXTENSION: usize = 1;
/// So many further parts can a condition's extension name, in the words it begins with.
pub(crate) const FURTHER: usize = 1024;

/// What lies in a block. Zero, plain bytes, is what every free block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Bytes = 0,
    Strip = 1,
    Part = 2,
    Queue = 3,
    Pipe = 4,
    Lock = 5,
    RLock = 6,
    Semaphore = 7,
    Condition = 8,
    Event = 9,
    Barrier = 10,
    Value = 11,
    /// Bytes that hold objects: see [`super::envelope`].
    Envelope = 12,
    /// What holds a block that several processes use privately: see [`super::lent`].
    Lease = 13,
    RwLock = 14,
    /// See [`super::labels`].
    Label = 15,
}

impl Kind {
    pub(crate) fn from_u32(raw: u32) -> Kind {
        use Kind::*;
        let all = [
            Bytes, Strip, Part, Queue, Pipe, Lock, RLock, Semaphore, Condition, Event, Barrier,
            Value, Envelope, Lease, RwLock, Label,
        ];
        all.get(raw as usize).copied().unwrap_or(Bytes)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Bytes | Kind::Strip | Kind::Part | Kind::Envelope | Kind::Label => "block",
            Kind::Queue => "queue",
            Kind::Pipe => "pipe",
            Kind::Lock => "lock",
            Kind::RLock => "recursive lock",
            Kind::Semaphore => "semaphore",
            Kind::Condition => "condition",
            Kind::Event => "event",
            Kind::Barrier => "barrier",
            Kind::Value => "shared value",
            Kind::Lease => "lease",
            Kind::RwLock => "readers-writer lock",
        }
    }

    pub(super) fn is_channel(self) -> bool {
        matches!(self, Kind::Queue | Kind::Pipe)
    }

    /// Whether it is one of the kinds that start with an [`ObjectHead`].
    fn is_object(self) -> bool {
        !matches!(
            self,
            Kind::Bytes | Kind::Strip | Kind::Part | Kind::Envelope | Kind::Label
        )
    }
}

/// What every object starts with.
#[repr(C, align(64))]
pub(crate) struct ObjectHead {
    /// Blocks that belong to the object and are made when first needed: zero until then. The first
    /// is the table of further holders, one cell for each seat; the second is for the object's type.
    parts: [AtomicU32; 2],
    /// Moves by [`ADDED`] with every holder added, so that a look over all of them knows whether it saw one
    /// moment; and [`SENT`] once an envelope was a holder.
    added: AtomicU32,
    /// The first holders: owner ids, zero where nobody is.
    cells: [AtomicU32; INLINE],
}

impl ObjectHead {
    /// Makes its maker the first holder, before anybody else sees the object.
    pub(super) fn begin(&self, maker: OwnerId) {
        self.cells[0].store(maker.as_u32(), Ordering::Relaxed);
    }
}

/// A type that may lie in an object's block.
///
/// # Safety
/// `repr(C)`, beginning with an [`ObjectHead`], made of atomics (and memory reached only through raw
/// pointers), valid for any bytes and starting out as zeroes.
pub(crate) unsafe trait Layout: Sync + 'static {
    const KIND: Kind;
    fn head(&self) -> &ObjectHead;
}

/// The objects open in this process: which generation of the block, and how often.
pub(crate) type Local = IdMap<BlockId, (u32, usize)>;

pub(super) fn too_large(asked: u64) -> Error {
    Error::OutOfMemory {
        asked,
        left: super::class::LARGEST,
        limit: "the largest object there is".into(),
    }
}

impl Arena {
    pub(super) fn enter_local(&self, block: BlockId, generation: u32) {
        let mut local = self.lock_local();
        let entry = local.entry(block).or_insert((generation, 0));
        *entry = (generation, entry.1 + 1);
    }

    pub(super) fn leave_local(&self, block: BlockId) {
        // Before the lock: a child that no handler gave a seat takes one here, under the same lock.
        let me = self.me();
        let mut local = self.lock_local();
        let Some((_, count)) = local.get_mut(&block) else {
            return;
        };
        *count -= 1;
        if *count > 0 {
            return;
        }
        local.remove(&block);
        // Still under the lock: a fork must see the object either held here or not at all.
        self.drop_hold(block, me);
        drop(local);
        self.free_if_unheld(block);
    }

    /// Whether the block is an object in this generation.
    pub(super) fn is_object(&self, block: BlockId, generation: u32) -> bool {
        self.cell(block).is_ok_and(|cell| {
            cell.owner.is(Owner::Shared) && cell.generation.load(Ordering::SeqCst) == generation
        })
    }

    /// Makes `owner` a holder of an object that may be gone already. Object memory is always objects, so
    /// that at worst a later object in the same block had one holder too many for a moment.
    pub(crate) fn add_checked_hold(
        &self,
        block: BlockId,
        generation: u32,
        owner: OwnerId,
    ) -> Result<()> {
        let class = self.segment(block.segment()).map(|segment| segment.class);
        if !class.is_some_and(Class::is_of_objects) || !self.is_object(block, generation) {
            return Err(Error::StaleHandle);
        }
        self.add_hold(block, owner)?;
        if self.is_object(block, generation) {
            return Ok(());
        }
        // This process's own hold goes with its last handle: another thread may have a newer object there.
        if owner != self.me() {
            self.drop_hold(block, owner);
        }
        Err(Error::StaleHandle)
    }

    fn head(&self, block: BlockId) -> Result<&ObjectHead> {
        let payload = self.payload(block)?;
        // SAFETY: within the mapped segment, 64-aligned, all atomics; whether it really is an object
        // was checked by the caller or makes only stale words visible.
        Ok(unsafe { payload.cast::<ObjectHead>().as_ref() })
    }

    /// Makes `owner` a holder. The caller is one, or checks afterwards that the object is still there.
    pub(crate) fn add_hold(&self, block: BlockId, owner: OwnerId) -> Result<()> {
        let head = self.head(block)?;
        let id = owner.as_u32();
        if head.cells.iter().any(|c| c.load(Ordering::Acquire) == id) {
            if head.added.load(Ordering::SeqCst) & SENT != 0 {
                // As below: a hold that comes from an envelope shows, though it adds no name.
                head.added.fetch_add(ADDED, Ordering::SeqCst);
            }
            return Ok(());
        }
        // On both sides: a look over all holders that overlaps with this one sees it move.
        head.added.fetch_add(ADDED, Ordering::SeqCst);
        if !head.cells.iter().any(|cell| self.enter_name(cell, id)) {
            let table = self.hold_table(block, head)?;
            let cell = &table[owner.seat() as usize];
            // Only one who held the seat before can stand there, and it is dead.
            let mut retries = Retries::default();
            while cell.load(Ordering::Acquire) != id && !self.enter_name(cell, id) {
                retries.again()?;
            }
        }
        kill::point("object.held");
        head.added.fetch_add(ADDED, Ordering::SeqCst);
        Ok(())
    }

    /// Writes a name into a cell that is empty or a dead process's.
    fn enter_name(&self, cell: &AtomicU32, id: u32) -> bool {
        let seen = cell.load(Ordering::Acquire);
        let vacant = OwnerId::from_u32(seen).is_none_or(|owner| self.is_dead(owner));
        vacant
            && cell
                .compare_exchange(seen, id, Ordering::SeqCst, Ordering::Acquire)
                .is_ok()
    }

    /// The cells for holders beyond the first, one for each seat; made when first needed.
    #[cold]
    fn hold_table(&self, object: BlockId, head: &ObjectHead) -> Result<&[AtomicU32]> {
        self.ensure_part(object, head, HOLDERS, (SEATS * 4) as u64)?;
        self.holders(head).ok_or(Error::BadHandle)
    }

    /// The table of further holders, if there is one.
    fn holders(&self, head: &ObjectHead) -> Option<&[AtomicU32]> {
        let table = self.part(head, HOLDERS, (SEATS * 4) as u64)?;
        // SAFETY: the part is at least this large, 64-aligned, mapped for good; any bytes are atomics.
        Some(unsafe { std::slice::from_raw_parts(table.cast().as_ptr(), SEATS) })
    }

    /// Where a part of an object lies, if it was made, checked to hold `size` bytes.
    pub(crate) fn part(&self, head: &ObjectHead, which: usize, size: u64) -> Option<NonNull<u8>> {
        self.linked(&head.parts[which], size)
    }

    /// The block that is linked as a part of an object.
    pub(super) fn linked_part(&self, head: &ObjectHead, which: usize) -> Option<BlockId> {
        BlockId::new(head.parts[which].load(Ordering::Acquire))
    }

    /// Makes a part of an object, of `size` zero bytes, unless it is there. The caller is a holder.
    #[cold]
    pub(crate) fn ensure_part(
        &self,
        object: BlockId,
        head: &ObjectHead,
        which: usize,
        size: u64,
    ) -> Result<()> {
        let class = if which == HOLDERS {
            SMALL_PART
        } else {
            LARGE_PART
        };
        self.ensure_linked(object, &head.parts[which], class, size)
    }

    /// Makes one of the further parts that a condition's extension names, of `size` zero bytes, unless it is there.
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
        class: Class,
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

    /// Where the block lies that a link names, if it names one, checked to hold `size` bytes.
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

    /// Makes a block of this process's own a part of an object that has none there yet; false when it has.
    pub(super) fn make_part(
        &self,
        part: BlockId,
        object: BlockId,
        head: &ObjectHead,
        which: usize,
    ) -> bool {
        self.link_part(part, object, &head.parts[which])
    }

    fn link_part(&self, part: BlockId, object: BlockId, link: &AtomicU32) -> bool {
        let Ok(cell) = self.cell(part) else {
            return false;
        };
        // Names its object, so that a sweep can tell whether it was linked: see `reclaim_part`.
        cell.generation.store(object.0, Ordering::Relaxed);
        cell.kind.store(Kind::Part as u32, Ordering::Release);
        kill::point("object.part");
        let linked = link
            .compare_exchange(0, part.0, Ordering::SeqCst, Ordering::Acquire)
            .is_ok();
        if linked {
            kill::point("object.linked");
            cell.owner.pass(self.mine(), Owner::Part(object.0));
        } else {
            cell.generation.store(0, Ordering::Release);
            cell.kind.store(Kind::Bytes as u32, Ordering::Release);
        }
        linked
    }

    /// Whether `part` is linked to `object`.
    pub(super) fn has_part(&self, object: BlockId, part: BlockId) -> bool {
        let is_object = self.cell(object).is_ok_and(|cell| {
            let kind = Kind::from_u32(cell.kind.load(Ordering::Acquire));
            kind.is_object()
        });
        is_object
            && self.head(object).is_ok_and(|head| {
                let linked = |link: &AtomicU32| link.load(Ordering::Acquire) == part.0;
                head.parts.iter().any(linked) || self.further_parts(object, head).iter().any(linked)
            })
    }

    /// Takes `owner` out of an object's holders; false if it was none.
    pub(crate) fn drop_hold(&self, block: BlockId, owner: OwnerId) -> bool {
        let Ok(head) = self.head(block) else {
            return false;
        };
        let id = owner.as_u32();
        let clear = |cell: &AtomicU32| {
            cell.load(Ordering::Acquire) == id
                && cell
                    .compare_exchange(id, 0, Ordering::SeqCst, Ordering::Acquire)
                    .is_ok()
        };
        let mut held = false;
        for cell in &head.cells {
            held |= clear(cell);
        }
        if let Some(table) = self.holders(head) {
            held |= clear(&table[owner.seat() as usize]);
        }
        kill::point("object.dropped");
        held
    }

    /// Whether a living process, or an envelope, holds the object in the block.
    fn is_held(&self, block: BlockId, head: &ObjectHead) -> bool {
        loop {
            let added = head.added.load(Ordering::SeqCst);
            let held = self.has_holder_but(head, None) || added & SENT != 0 && self.is_sent(block);
            if held || head.added.load(Ordering::SeqCst) == added {
                return held;
            }
        }
    }

    /// Whether a living process holds the object, other than `except`.
    fn has_holder_but(&self, head: &ObjectHead, except: Option<OwnerId>) -> bool {
        let living = |cell: &AtomicU32| {
            let holder = OwnerId::from_u32(cell.load(Ordering::SeqCst));
            holder.is_some_and(|owner| holder != except && !self.is_dead(owner))
        };
        head.cells.iter().any(living)
            || self
                .holders(head)
                .is_some_and(|table| table.iter().any(living))
    }

    /// Whether other processes held the object, and none of them is left.
    pub(super) fn others_are_gone(&self, head: &ObjectHead) -> bool {
        let were_there = head.added.load(Ordering::SeqCst) >= ADDED;
        were_there && !self.has_holder_but(head, Some(self.me()))
    }

    /// See [`Shared::watch_others`](super::open::Shared::watch_others).
    pub(super) fn watch_others(
        &'static self,
        head: &ObjectHead,
    ) -> Option<Vec<(&'static AtomicU32, u32)>> {
        let me = self.me();
        let mut words = Vec::with_capacity(head.cells.len());
        for cell in &head.cells {
            match OwnerId::from_u32(cell.load(Ordering::SeqCst)) {
                Some(owner) if owner != me => words.push(self.watch_closely(owner)?),
                _ => {}
            }
        }
        self.holders(head).is_none().then_some(words)
    }

    fn is_sent(&self, block: BlockId) -> bool {
        self.cell(block)
            .is_ok_and(|cell| self.is_in_an_envelope(block, cell.generation.load(Ordering::SeqCst)))
    }

    /// Says that an envelope holds the object, or is about to; the caller is a holder.
    pub(super) fn note_sent(&self, block: BlockId) -> Result<()> {
        let head = self.head(block)?;
        head.added.fetch_or(SENT, Ordering::SeqCst);
        head.added.fetch_add(ADDED, Ordering::SeqCst);
        Ok(())
    }

    /// Frees an object that nobody holds.
    pub(crate) fn free_if_unheld(&self, block: BlockId) {
        let (Ok(head), Ok(cell)) = (self.head(block), self.cell(block)) else {
            return;
        };
        if !cell.owner.is(Owner::Shared) || self.is_held(block, head) {
            return;
        }
        if !cell.owner.pass(Owner::Shared, self.mine()) {
            return;
        }
        kill::point("object.dying");
        self.dismantle_unless_held(block);
    }

    /// Frees an object that was moved to this process, unless somebody turns out to hold it.
    pub(super) fn dismantle_unless_held(&self, block: BlockId) {
        let (Ok(head), Ok(cell)) = (self.head(block), self.cell(block)) else {
            return;
        };
        if self.is_held(block, head) {
            cell.owner.pass(self.mine(), Owner::Shared);
        } else {
            self.dismantle(block);
        }
    }

    /// Frees an object that is this process's alone: first what it owns, then its block.
    ///
    /// Whoever takes over from a process that died in here begins again; each step can be repeated.
    fn dismantle(&self, block: BlockId) {
        let Ok(cell) = self.cell(block) else { return };
        let kind = Kind::from_u32(cell.kind.load(Ordering::Acquire));
        crate::reclaim::contents(self, kind, block);
        if kind.is_object()
            && let Ok(head) = self.head(block)
        {
            for link in self.further_parts(block, head).iter().chain(&head.parts) {
                self.free_part(block, link);
            }
        }
        kill::point("object.emptied");
        cell.kind.store(Kind::Bytes as u32, Ordering::Release);
        self.free(block, self.mine());
        if kind.is_channel() {
            self.channel_gone();
        }
    }

    fn free_part(&self, object: BlockId, link: &AtomicU32) {
        if let Some(part) = BlockId::new(link.load(Ordering::Acquire))
            && let Ok(cell) = self.cell(part)
            && cell.kind.load(Ordering::Acquire) == Kind::Part as u32
            && cell.generation.load(Ordering::Acquire) == object.0
        {
            let mine = self.mine();
            let owner = cell.owner.get();
            // A maker that died before it handed the part over left it its own.
            let ours = match owner {
                Owner::Part(whose) => whose == object.0,
                Owner::Process(by) => owner == mine || self.is_dead(by),
                _ => false,
            };
            if ours && (owner == mine || cell.owner.pass(owner, mine)) {
                kill::point("object.part_taken");
                link.store(0, Ordering::Release);
                cell.generation.store(0, Ordering::Release);
                cell.kind.store(Kind::Bytes as u32, Ordering::Release);
                self.free(part, mine);
            }
        }
        link.store(0, Ordering::Release);
    }
}
