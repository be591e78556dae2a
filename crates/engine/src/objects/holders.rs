//! The ids of an object's holders.
//!
//! The first ones stand in the object's head. Further ones stand in tables, each larger than the last, and made when
//! the id finds its place in all the earlier ones taken. In a table, a process has one place: the number of its slot
//! modulo the size of the table. In the last table, every slot has a place of its own. So an id is added, found and
//! removed in a few steps, however many there are, and the memory of an object is proportional to the number of its
//! holders.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::owner::ProcId;
use crate::arena::size_class::{ALL_HOLDERS, FEW_HOLDERS, MANY_HOLDERS, SizeClass};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::objects::object::{ADDED, ObjectHead, SENT};
use crate::retries::Retries;

/// How many ids fit into the head.
pub(crate) const INLINE: usize = 10;
/// How many tables there can be.
pub(crate) const TABLES: usize = 3;

/// The size class of a part, if that part is a table of holders.
pub(crate) fn class_of(which: usize) -> Option<SizeClass> {
    [FEW_HOLDERS, MANY_HOLDERS, ALL_HOLDERS].get(which).copied()
}

impl Arena {
    /// Makes `owner` a holder, after that was recorded in its ownership log. The caller is a holder, or checks
    /// afterwards that the object still exists.
    pub(crate) fn add_hold(&self, block: BlockId, owner: ProcId) -> Result<()> {
        let head = self.head(block)?;
        let id = owner.as_u32();
        let is_there = |cell: &AtomicU32| cell.load(Ordering::Acquire) == id;
        if head.cells.iter().any(is_there) || self.places(head, owner).any(is_there) {
            if head.added.load(Ordering::SeqCst) & SENT != 0 {
                // As below: a hold that comes from an attachment list must show, though it adds no id.
                head.added.fetch_add(ADDED, Ordering::SeqCst);
            }
            return Ok(());
        }
        // Before and after: a scan of all holders that overlaps with this change sees the counter move.
        head.added.fetch_add(ADDED, Ordering::SeqCst);
        if !head.cells.iter().any(|cell| self.write_id(cell, id)) {
            self.write_to_table(block, head, owner)?;
        }
        failpoint::hit("object.held");
        head.added.fetch_add(ADDED, Ordering::SeqCst);
        Ok(())
    }

    /// Writes an id into a cell that is empty or belongs to a dead process.
    fn write_id(&self, cell: &AtomicU32, id: u32) -> bool {
        let seen = cell.load(Ordering::Acquire);
        let vacant = ProcId::from_u32(seen).is_none_or(|owner| self.is_dead(owner));
        vacant
            && cell
                .compare_exchange(seen, id, Ordering::SeqCst, Ordering::Acquire)
                .is_ok()
    }

    /// Writes an id into the first table whose place for it is free. Makes that table if need be.
    #[cold]
    fn write_to_table(&self, object: BlockId, head: &ObjectHead, owner: ProcId) -> Result<()> {
        let id = owner.as_u32();
        for which in 0..TABLES {
            let size = class_of(which).map_or(0, SizeClass::size);
            self.ensure_part(object, head, which, size)?;
            let place = self.place(head, which, owner).ok_or(Error::BadHandle)?;
            if self.write_id(place, id) {
                return Ok(());
            }
        }
        // In the last table, only a former process of the same slot can be in the place, and it is dead.
        let place = self
            .place(head, TABLES - 1, owner)
            .ok_or(Error::BadHandle)?;
        let mut retries = Retries::default();
        while place.load(Ordering::Acquire) != id && !self.write_id(place, id) {
            retries.again()?;
        }
        Ok(())
    }

    /// A table of further holders, if it was made.
    fn table(&self, head: &ObjectHead, which: usize) -> Option<&[AtomicU32]> {
        let size = class_of(which)?.size();
        let table = self.part(head, which, size)?;
        // SAFETY: the part is at least this large, 64-aligned, mapped for good; any bytes are atomics.
        Some(unsafe { std::slice::from_raw_parts(table.cast().as_ptr(), size as usize / 4) })
    }

    fn tables<'a>(&'a self, head: &'a ObjectHead) -> impl Iterator<Item = &'a [AtomicU32]> {
        (0..TABLES).filter_map(|which| self.table(head, which))
    }

    /// The place of a process in a table, if the table was made.
    fn place(&self, head: &ObjectHead, which: usize, owner: ProcId) -> Option<&AtomicU32> {
        let table = self.table(head, which)?;
        Some(&table[owner.slot() as usize % table.len()])
    }

    fn places(&self, head: &ObjectHead, owner: ProcId) -> impl Iterator<Item = &AtomicU32> {
        (0..TABLES).filter_map(move |which| self.place(head, which, owner))
    }

    /// Removes `owner` from an object's holders; false if it was not one.
    pub(crate) fn drop_hold(&self, block: BlockId, owner: ProcId) -> bool {
        let Ok(head) = self.head(block) else {
            return false;
        };
        let id = owner.as_u32();
        let mut held = false;
        for cell in head.cells.iter().chain(self.places(head, owner)) {
            held |= cell.load(Ordering::Acquire) == id
                && cell
                    .compare_exchange(id, 0, Ordering::SeqCst, Ordering::Acquire)
                    .is_ok();
        }
        failpoint::hit("object.dropped");
        held
    }

    /// Whether a living process other than `except` holds the object.
    pub(crate) fn has_holder_but(&self, head: &ObjectHead, except: Option<ProcId>) -> bool {
        self.living_holders(head).any(|owner| Some(owner) != except)
    }

    fn living_holders<'a>(&'a self, head: &'a ObjectHead) -> impl Iterator<Item = ProcId> + 'a {
        let cells = head.cells.iter().chain(self.tables(head).flatten());
        cells
            .filter_map(|cell| ProcId::from_u32(cell.load(Ordering::SeqCst)))
            .filter(|owner| !self.is_dead(*owner))
    }

    /// See [`TypedRef::find_holder`](crate::objects::object_ref::TypedRef::find_holder).
    pub(crate) fn find_holder<T>(
        &self,
        head: &ObjectHead,
        mut look: impl FnMut(ProcId) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut retries = Retries::default();
        loop {
            let added = head.added.load(Ordering::SeqCst);
            let found = self.living_holders(head).find_map(&mut look);
            if found.is_some() || head.added.load(Ordering::SeqCst) == added {
                return Ok(found);
            }
            retries.again()?;
        }
    }

    /// Whether other processes held the object, and none of them is left.
    pub(crate) fn others_are_gone(&self, head: &ObjectHead) -> bool {
        let were_there = head.added.load(Ordering::SeqCst) >= ADDED;
        were_there && !self.has_holder_but(head, Some(self.me()))
    }

    /// See [`TypedRef::watch_others`](crate::objects::object_ref::TypedRef::watch_others).
    pub(crate) fn watch_others(
        &'static self,
        head: &ObjectHead,
    ) -> Option<Vec<(&'static AtomicU32, u32)>> {
        let me = self.me();
        let mut words = Vec::with_capacity(head.cells.len());
        for cell in &head.cells {
            match ProcId::from_u32(cell.load(Ordering::SeqCst)) {
                Some(owner) if owner != me => words.push(self.watch_closely(owner)?),
                _ => {}
            }
        }
        self.tables(head).next().is_none().then_some(words)
    }
}
