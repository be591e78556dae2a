//! The names of an object's holders.
//!
//! The first stand in the object's head. Further ones stand in tables, each larger than the last and made when a
//! name finds its place in those before taken. In a table a slot has one place, its number modulo the size; in the
//! last, every slot has its own. So a name is entered, found and taken out in a few steps, however many there
//! are, and an object takes memory for about as many holders as it has.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};
use crate::failpoint;
use crate::memory::Arena;
use crate::memory::block::BlockId;
use crate::memory::owner::ProcId;
use crate::memory::size_class::{ALL_HOLDERS, FEW_HOLDERS, MANY_HOLDERS, SizeClass};
use crate::objects::object::{ADDED, ObjectHead, SENT};
use crate::retries::Retries;

/// How many names the head has room for.
pub(crate) const INLINE: usize = 10;
/// How many tables there can be.
pub(crate) const TABLES: usize = 3;

/// The block that a part of an object lies in, if it is a table of holders.
pub(crate) fn class_of(which: usize) -> Option<SizeClass> {
    [FEW_HOLDERS, MANY_HOLDERS, ALL_HOLDERS].get(which).copied()
}

impl Arena {
    /// Makes `owner` a holder, who noted that. The caller is one, or checks afterwards that the object is still there.
    pub(crate) fn add_hold(&self, block: BlockId, owner: ProcId) -> Result<()> {
        let head = self.head(block)?;
        let id = owner.as_u32();
        let is_there = |cell: &AtomicU32| cell.load(Ordering::Acquire) == id;
        if head.cells.iter().any(is_there) || self.places(head, owner).any(is_there) {
            if head.added.load(Ordering::SeqCst) & SENT != 0 {
                // As below: a hold that comes from an attachment list shows, though it adds no name.
                head.added.fetch_add(ADDED, Ordering::SeqCst);
            }
            return Ok(());
        }
        // On both sides: a look over all holders that overlaps with this one sees it move.
        head.added.fetch_add(ADDED, Ordering::SeqCst);
        if !head.cells.iter().any(|cell| self.enter_name(cell, id)) {
            self.enter_in_table(block, head, owner)?;
        }
        failpoint::hit("object.held");
        head.added.fetch_add(ADDED, Ordering::SeqCst);
        Ok(())
    }

    /// Writes a name into a cell that is empty or a dead process's.
    fn enter_name(&self, cell: &AtomicU32, id: u32) -> bool {
        let seen = cell.load(Ordering::Acquire);
        let vacant = ProcId::from_u32(seen).is_none_or(|owner| self.is_dead(owner));
        vacant
            && cell
                .compare_exchange(seen, id, Ordering::SeqCst, Ordering::Acquire)
                .is_ok()
    }

    /// Writes a name into the first table that has its place free, which is made if need be.
    #[cold]
    fn enter_in_table(&self, object: BlockId, head: &ObjectHead, owner: ProcId) -> Result<()> {
        let id = owner.as_u32();
        for which in 0..TABLES {
            let size = class_of(which).map_or(0, SizeClass::size);
            self.ensure_part(object, head, which, size)?;
            let place = self.place(head, which, owner).ok_or(Error::BadHandle)?;
            if self.enter_name(place, id) {
                return Ok(());
            }
        }
        // Only one who held the slot before can stand in the last table, and it is dead.
        let place = self
            .place(head, TABLES - 1, owner)
            .ok_or(Error::BadHandle)?;
        let mut retries = Retries::default();
        while place.load(Ordering::Acquire) != id && !self.enter_name(place, id) {
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

    /// Where the name of a process stands in a table, if it stands there.
    fn place(&self, head: &ObjectHead, which: usize, owner: ProcId) -> Option<&AtomicU32> {
        let table = self.table(head, which)?;
        Some(&table[owner.slot() as usize % table.len()])
    }

    fn places(&self, head: &ObjectHead, owner: ProcId) -> impl Iterator<Item = &AtomicU32> {
        (0..TABLES).filter_map(move |which| self.place(head, which, owner))
    }

    /// Takes `owner` out of an object's holders; false if it was none.
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

    /// Whether a living process holds the object, other than `except`.
    pub(crate) fn has_holder_but(&self, head: &ObjectHead, except: Option<ProcId>) -> bool {
        self.living_holders(head).any(|owner| Some(owner) != except)
    }

    fn living_holders<'a>(&'a self, head: &'a ObjectHead) -> impl Iterator<Item = ProcId> + 'a {
        let cells = head.cells.iter().chain(self.tables(head).flatten());
        cells
            .filter_map(|cell| ProcId::from_u32(cell.load(Ordering::SeqCst)))
            .filter(|owner| !self.is_dead(*owner))
    }

    /// See [`Shared::find_holder`](crate::objects::object_ref::Shared::find_holder).
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

    /// See [`Shared::watch_others`](crate::objects::object_ref::Shared::watch_others).
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
