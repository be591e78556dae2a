//! Records of what a process may own, from which its things are given back when it is dead.
//!
//! To look at every block there ever was would make each death as dear as the largest burst of the tree. So before a
//! process takes a block, or a hold, it records where: each group of [`GROUP`] blocks once.
//!
//! ```text
//! root   a word for each slot:  walk everything? | whose records (id) | newest page
//! page   next page u32 | entries begun u32 | entries: a group each, zero where none was written
//! ```
//!
//! A record says that something may be there, and never what: whoever reads it looks at the owner words. It is written
//! before the thing is taken, so a process that is killed in between leaves a record too many. Where a page cannot be
//! had, everything is looked at when the process is dead.
//!
//! A page is `Part(id)` before it is linked, and freed page by page after all that the process owned was given back. A
//! page whose maker died before it was linked, or whose last reader died before it was freed, names somebody who is
//! in the process table no more; such pages are looked for before there are more of them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::failpoint;
use crate::memory::Arena;
use crate::memory::block::{BlockId, Cell};
use crate::memory::owner::{Owner, ProcId};
use crate::memory::size_class::OWNERSHIP_LOG;
use crate::process::entry_state::Stage;
use crate::retries::Retries;

/// Blocks of a segment that are logged together.
pub(crate) const GROUP: u32 = 64;
const ENTRIES: usize = 126;

/// On a slot's word: not all could be logged.
const EVERYTHING: u64 = 1 << 63;

#[repr(C)]
struct Page {
    next: AtomicU32,
    begun: AtomicU32,
    entries: [AtomicU32; ENTRIES],
}

const _: () = assert!(size_of::<Page>() == 512);

/// The word of a slot whose records are `owner`'s.
fn word(owner: ProcId, page: u32) -> u64 {
    u64::from(owner.as_u32()) << 32 | u64::from(page)
}

fn is_of(word: u64, owner: ProcId) -> bool {
    (word & !EVERYTHING) >> 32 == u64::from(owner.as_u32())
}

fn group_of(block: BlockId) -> u32 {
    block.0 / GROUP
}

impl Arena {
    /// Makes a block this process's own, or this process's to finish, if it is `from`'s; logged before.
    #[inline(always)]
    pub(crate) fn claim(&self, block: BlockId, cell: &Cell, from: Owner, to: Owner) -> bool {
        self.record_owned(block);
        cell.owner.pass(from, to)
    }

    /// To be called before this process has a hold on the object in a block; for the block itself there is
    /// [`Arena::claim`].
    #[inline]
    pub(crate) fn record_owned(&self, block: BlockId) {
        let me = self.me();
        if let Ok(mapped) = self.mapped(block.segment())
            && let Some(logged) = mapped.logged(block.index() / GROUP)
            && logged.load(Ordering::Relaxed) != me.as_u32()
        {
            self.write_note(me, group_of(block));
            logged.store(me.as_u32(), Ordering::Relaxed);
        }
    }

    /// As [`Arena::record`], for another process, which is yet to be started.
    pub(crate) fn log_for(&self, owner: ProcId, blocks: impl Iterator<Item = BlockId>) {
        let mut groups: Vec<u32> = blocks.map(group_of).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            if !self.is_on_newest_page(owner, group) {
                self.write_note(owner, group);
            }
        }
    }

    fn notes_of(&self, owner: ProcId) -> &AtomicU64 {
        &self.root().ownership_logs[owner.slot() as usize]
    }

    fn is_on_newest_page(&self, owner: ProcId, group: u32) -> bool {
        let seen = self.notes_of(owner).load(Ordering::Acquire);
        let page = BlockId::new(seen as u32).filter(|_| is_of(seen, owner));
        page.and_then(|page| self.page(page).ok())
            .is_some_and(|page| {
                let is_it = |entry: &AtomicU32| entry.load(Ordering::Relaxed) == group;
                page.entries.iter().any(is_it)
            })
    }

    #[cold]
    fn write_note(&self, owner: ProcId, group: u32) {
        if self.try_to_note(owner, group).is_err() {
            let records = self.notes_of(owner);
            let _ = records.fetch_update(Ordering::SeqCst, Ordering::Acquire, |seen| {
                let kept = if is_of(seen, owner) {
                    seen
                } else {
                    word(owner, 0)
                };
                Some(kept | EVERYTHING)
            });
        }
    }

    fn try_to_note(&self, owner: ProcId, group: u32) -> Result<()> {
        let records = self.notes_of(owner);
        let mut retries = Retries::default();
        loop {
            retries.again()?;
            let seen = records.load(Ordering::Acquire);
            let newest = match is_of(seen, owner) {
                true => BlockId::new(seen as u32),
                false => None,
            };
            if let Some(page) = newest {
                let page = self.page(page)?;
                let at = page.begun.fetch_add(1, Ordering::AcqRel) as usize;
                if let Some(entry) = page.entries.get(at) {
                    entry.store(group, Ordering::SeqCst);
                    failpoint::hit("ownership_log.written");
                    return Ok(());
                }
                // Not to come round again for a page that is full.
                page.begun.store(ENTRIES as u32, Ordering::Relaxed);
            }
            let block = self.new_page(owner, newest, group)?;
            let kept = if is_of(seen, owner) {
                seen & EVERYTHING
            } else {
                0
            };
            let linked = records.compare_exchange(
                seen,
                word(owner, block.0) | kept,
                Ordering::SeqCst,
                Ordering::Acquire,
            );
            if linked.is_ok() {
                failpoint::hit("ownership_log.linked");
                return Ok(());
            }
            self.free(block, Owner::Part(owner.as_u32()));
        }
    }

    /// A page that has one record already, to be linked before another.
    fn new_page(&self, owner: ProcId, next: Option<BlockId>, group: u32) -> Result<BlockId> {
        let block = self.take_page()?;
        failpoint::hit("ownership_log.page_taken");
        let page = self.page(block)?;
        page.next
            .store(next.map_or(0, |next| next.0), Ordering::Relaxed);
        for entry in &page.entries {
            entry.store(0, Ordering::Relaxed);
        }
        page.entries[0].store(group, Ordering::Relaxed);
        page.begun.store(1, Ordering::Release);
        let part = Owner::Part(owner.as_u32());
        self.cell(block)?.owner.pass(self.mine(), part);
        failpoint::hit("ownership_log.page_made");
        Ok(block)
    }

    /// Not by way of `alloc_class`, which looks for the dead, and gives back what they logged.
    fn take_page(&self) -> Result<BlockId> {
        let mut grown = 0;
        let block = loop {
            let found = self
                .pop(OWNERSHIP_LOG)
                .or_else(|| self.take_unused(OWNERSHIP_LOG));
            if let Some(block) = found.or_else(|| self.find_lost_page()) {
                break block;
            }
            grown += 1;
            if grown > 8 {
                return Err(Error::Damaged);
            }
            self.grow(OWNERSHIP_LOG)?;
        };
        // A handful of bytes for thousands of blocks: no limit holds them up, so that who is out of memory can
        // receive, which makes room.
        if self.mapped(block.segment())?.class != OWNERSHIP_LOG {
            return Err(Error::Damaged);
        }
        self.cell(block)?.set_committed(OWNERSHIP_LOG.size());
        Ok(block)
    }

    /// A page that is free though no hint names it, or names somebody who is gone.
    fn find_lost_page(&self) -> Option<BlockId> {
        let is_gone = |owner: ProcId| {
            let entry = self.root().processes.get(owner.slot() as usize);
            entry.is_none_or(|entry| {
                let state = entry.state();
                state.epoch() != owner.epoch() || state.stage == Stage::Free
            })
        };
        let is_lost = |cell: &Cell| match cell.owner.get() {
            Owner::Free => true,
            Owner::Process(by) => is_gone(by),
            Owner::Part(of) => ProcId::from_u32(of).is_none_or(is_gone),
            _ => false,
        };
        let pages = self
            .segments()
            .filter(|(_, segment)| segment.class == OWNERSHIP_LOG);
        let mut blocks = pages.flat_map(|(number, _)| self.blocks_of(number));
        let found = blocks.find(|(_, cell)| {
            let owner = cell.owner.get();
            is_lost(cell) && cell.owner.pass(owner, self.mine())
        });
        found.map(|(block, _)| block)
    }

    fn page(&self, block: BlockId) -> Result<&Page> {
        if self.capacity(block) < size_of::<Page>() as u64 {
            return Err(Error::BadHandle);
        }
        // SAFETY: within the block's payload (just checked), which is 64-aligned and mapped for good; all fields
        // are atomics.
        Ok(unsafe { self.payload(block)?.cast::<Page>().as_ref() })
    }

    /// The groups that a process logged, each once; `None` where everything has to be looked at.
    fn groups_noted_by(&self, owner: ProcId) -> Option<Vec<u32>> {
        let seen = self.notes_of(owner).load(Ordering::SeqCst);
        if !is_of(seen, owner) {
            return Some(Vec::new());
        }
        if seen & EVERYTHING != 0 {
            return None;
        }
        let mut groups = Vec::new();
        let mut next = BlockId::new(seen as u32);
        let mut retries = Retries::default();
        while let Some(block) = next {
            retries.again().ok()?;
            let page = self.page(block).ok()?;
            let entries = page
                .entries
                .iter()
                .map(|entry| entry.load(Ordering::SeqCst));
            groups.extend(entries.filter(|&group| group != 0));
            next = BlockId::new(page.next.load(Ordering::Acquire));
        }
        groups.sort_unstable();
        groups.dedup();
        Some(groups)
    }

    /// Calls `look` with every block that may be a process's, or have an object that it holds, until that says
    /// false; false as well where some may be that this process cannot see.
    pub(crate) fn visit_owned(
        &self,
        owner: ProcId,
        mut look: impl FnMut(BlockId, &Cell) -> bool,
    ) -> bool {
        let Some(groups) = self.groups_noted_by(owner) else {
            return self.can_map_all() && self.blocks().all(|(block, cell)| look(block, cell));
        };
        let mut sees_all = true;
        for group in groups {
            let first = BlockId(group * GROUP);
            if self.mapped(first.segment()).is_err() {
                sees_all = false;
                continue;
            }
            let from = first.index();
            let mut blocks = self.blocks_in(first.segment(), from..from + GROUP);
            if !blocks.all(|(block, cell)| look(block, cell)) {
                return false;
            }
        }
        sees_all
    }

    /// Gives back the pages of a process all of whose things were given back.
    pub(crate) fn drop_ownership_log(&self, owner: ProcId) {
        let records = self.notes_of(owner);
        let mut retries = Retries::default();
        loop {
            let seen = records.load(Ordering::Acquire);
            if !is_of(seen, owner) || retries.again().is_err() {
                return;
            }
            let Some(block) = BlockId::new(seen as u32) else {
                return;
            };
            let next = self
                .page(block)
                .map_or(0, |page| page.next.load(Ordering::Acquire));
            let taken_off = records.compare_exchange(
                seen,
                word(owner, next) | seen & EVERYTHING,
                Ordering::SeqCst,
                Ordering::Acquire,
            );
            if taken_off.is_ok() {
                failpoint::hit("ownership_log.taken_off");
                self.free(block, Owner::Part(owner.as_u32()));
            }
        }
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;
    use crate::memory::home;
    use crate::value::SharedBytes;

    #[test]
    fn only_what_a_process_noted_is_looked_at() {
        let arena = home().expect("an arena");
        let many: Vec<_> = (0..5_000)
            .map(|_| SharedBytes::new(64).expect("memory"))
            .collect();
        let child = crate::process::Reservation::reserve().expect("a slot");
        let handle = many[1_234].handle();
        child.hold(&handle).expect("it is held here");
        let mut looked_at = Vec::new();
        let all = arena.visit_owned(child.id(), |block, _| {
            looked_at.push(block.0);
            true
        });
        assert!(all && looked_at.len() <= GROUP as usize);
        assert!(looked_at.contains(&handle.block()));
    }

    #[test]
    fn more_notes_than_a_page_takes_are_all_there_and_go_when_they_are_dropped() {
        let arena = home().expect("an arena");
        let child = crate::process::Reservation::reserve().expect("a slot");
        let groups = (1..1_000).map(|group| BlockId::at(1, group * GROUP));
        arena.log_for(child.id(), groups.clone());
        // Noted again, they are not written again as long as they are on the newest page.
        arena.log_for(child.id(), groups.clone().skip(990));
        let logged = arena.groups_noted_by(child.id()).expect("all were logged");
        assert!(logged.into_iter().eq(groups.map(group_of)));
        let pages = || {
            let part = Owner::Part(child.id().as_u32());
            arena
                .blocks()
                .filter(|(_, cell)| cell.owner.is(part))
                .count()
        };
        assert_eq!(pages(), 999usize.div_ceil(ENTRIES));
        arena.drop_ownership_log(child.id());
        assert_eq!(pages(), 0);
        assert_eq!(arena.groups_noted_by(child.id()), Some(Vec::new()));
    }

    #[test]
    fn a_page_of_somebody_who_is_gone_is_found() {
        let arena = home().expect("an arena");
        let child = crate::process::Reservation::reserve().expect("a slot");
        let gone = child.id();
        let page = arena.new_page(gone, None, 70_000).expect("a page");
        drop(child);
        let lost = Owner::Part(gone.as_u32());
        assert!(arena.cell(page).expect("a cell").owner.is(lost));
        let mut found = Vec::new();
        while arena.cell(page).expect("a cell").owner.is(lost) {
            found.push(arena.find_lost_page().expect("one at least"));
        }
        found
            .into_iter()
            .for_each(|page| assert!(arena.free(page, arena.mine())));
    }

    #[test]
    fn where_nothing_could_be_noted_everything_is_looked_at() {
        let arena = home().expect("an arena");
        let many: Vec<_> = (0..300)
            .map(|_| SharedBytes::new(64).expect("memory"))
            .collect();
        let child = crate::process::Reservation::reserve().expect("a slot");
        arena
            .notes_of(child.id())
            .store(word(child.id(), 0) | EVERYTHING, Ordering::SeqCst);
        let mut looked_at = Vec::new();
        arena.visit_owned(child.id(), |block, _| {
            looked_at.push(block.0);
            true
        });
        assert!(
            many.iter()
                .all(|bytes| looked_at.contains(&bytes.handle().block()))
        );
        arena.drop_ownership_log(child.id());
    }
}
