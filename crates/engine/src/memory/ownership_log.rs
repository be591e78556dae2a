//! Records of what a process may own, used to release it when the process is dead.
//!
//! Without them, each death would visit every block that ever existed, and cost as much as the largest burst of the
//! tree. So before a process takes a block, or a hold, it records where: each group of [`GROUP`] blocks once.
//!
//! ```text
//! root   a word for each entry:  scan everything? | owner of the records (id) | newest page
//! page   next page u32 | records begun u32 | records: a group each, zero where none was written
//! ```
//!
//! A record says that something may be there, never what: readers check the owner words. A record is written before
//! the thing is taken, so a process that is killed in between leaves a superfluous record. If no page can be had,
//! everything is scanned when the process is dead.
//!
//! A page becomes `Part(id)` before it is linked. Pages are freed one by one after everything that the process owned
//! was released. If a page's maker dies before linking it, or its last reader dies before freeing it, the page names
//! a process that is no longer in the process table. Such pages are searched for before new ones are allocated.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::arena::Arena;
use crate::arena::cell::{BlockId, Cell};
use crate::arena::entry_state::Stage;
use crate::arena::owner::{Owner, ProcId};
use crate::arena::segment::GROUP;
use crate::arena::size_class::OWNERSHIP_LOG;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::retries::Retries;

const RECORDS: usize = 126;

/// In an entry's word: not everything could be recorded.
const SCAN_ALL: u64 = 1 << 63;

#[repr(C)]
struct Page {
    next: AtomicU32,
    begun: AtomicU32,
    records: [AtomicU32; RECORDS],
}

const _: () = assert!(size_of::<Page>() == 512);

/// The word of an entry whose records are `owner`'s.
fn word(owner: ProcId, page: u32) -> u64 {
    u64::from(owner.as_u32()) << 32 | u64::from(page)
}

fn is_of(word: u64, owner: ProcId) -> bool {
    (word & !SCAN_ALL) >> 32 == u64::from(owner.as_u32())
}

fn group_of(block: BlockId) -> u32 {
    block.0 / GROUP
}

impl Arena {
    /// Moves a block from `from` to this process, as its own or as its to finish. Records that first.
    #[inline(always)]
    pub(crate) fn claim(&self, block: BlockId, cell: &Cell, from: Owner, to: Owner) -> bool {
        self.record_owned(block);
        cell.owner.pass(from, to)
    }

    /// Call this before this process takes a hold on the object in a block. For the block itself, use
    /// [`Arena::claim`].
    #[inline]
    pub(crate) fn record_owned(&self, block: BlockId) {
        let me = self.me();
        if let Ok(mapped) = self.mapped(block.segment())
            && let Some(logged) = mapped.logged(block.index() / GROUP)
            && logged.load(Ordering::Relaxed) != me.as_u32()
        {
            self.write_record(me, group_of(block));
            logged.store(me.as_u32(), Ordering::Relaxed);
        }
    }

    /// As [`Arena::record_owned`], for another process, which is yet to be started.
    pub(crate) fn log_for(&self, owner: ProcId, blocks: impl Iterator<Item = BlockId>) {
        let mut groups: Vec<u32> = blocks.map(group_of).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            if !self.is_on_newest_page(owner, group) {
                self.write_record(owner, group);
            }
        }
    }

    fn log_of(&self, owner: ProcId) -> &AtomicU64 {
        &self.root().ownership_logs[owner.slot() as usize]
    }

    fn is_on_newest_page(&self, owner: ProcId, group: u32) -> bool {
        let seen = self.log_of(owner).load(Ordering::Acquire);
        let page = BlockId::new(seen as u32).filter(|_| is_of(seen, owner));
        page.and_then(|page| self.page(page).ok())
            .is_some_and(|page| {
                let is_it = |record: &AtomicU32| record.load(Ordering::Relaxed) == group;
                page.records.iter().any(is_it)
            })
    }

    #[cold]
    fn write_record(&self, owner: ProcId, group: u32) {
        if self.try_write_record(owner, group).is_err() {
            let log = self.log_of(owner);
            let _ = log.fetch_update(Ordering::SeqCst, Ordering::Acquire, |seen| {
                let kept = if is_of(seen, owner) {
                    seen
                } else {
                    word(owner, 0)
                };
                Some(kept | SCAN_ALL)
            });
        }
    }

    fn try_write_record(&self, owner: ProcId, group: u32) -> Result<()> {
        let log = self.log_of(owner);
        let mut retries = Retries::default();
        loop {
            retries.again()?;
            let seen = log.load(Ordering::Acquire);
            let newest = match is_of(seen, owner) {
                true => BlockId::new(seen as u32),
                false => None,
            };
            if let Some(page) = newest {
                let page = self.page(page)?;
                let at = page.begun.fetch_add(1, Ordering::AcqRel) as usize;
                if let Some(record) = page.records.get(at) {
                    record.store(group, Ordering::SeqCst);
                    failpoint::hit("ownership_log.written");
                    return Ok(());
                }
                // Keeps the counter from wrapping round on a full page.
                page.begun.store(RECORDS as u32, Ordering::Relaxed);
            }
            let block = self.new_page(owner, newest, group)?;
            let kept = if is_of(seen, owner) {
                seen & SCAN_ALL
            } else {
                0
            };
            let linked = log.compare_exchange(
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

    /// Makes a page with one record in it, to be linked before `next`.
    fn new_page(&self, owner: ProcId, next: Option<BlockId>, group: u32) -> Result<BlockId> {
        let block = self.alloc_page()?;
        failpoint::hit("ownership_log.page_taken");
        let page = self.page(block)?;
        page.next
            .store(next.map_or(0, |next| next.0), Ordering::Relaxed);
        for record in &page.records {
            record.store(0, Ordering::Relaxed);
        }
        page.records[0].store(group, Ordering::Relaxed);
        page.begun.store(1, Ordering::Release);
        let part = Owner::Part(owner.as_u32());
        self.cell(block)?.owner.pass(self.mine(), part);
        failpoint::hit("ownership_log.page_made");
        Ok(block)
    }

    /// Takes a block for a page. Does not call `alloc_class`, which searches for dead processes and frees their
    /// records.
    fn alloc_page(&self) -> Result<BlockId> {
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
        // A few bytes for thousands of blocks: no memory limit applies, so that a process that is out of memory can
        // still receive, which frees memory.
        if self.mapped(block.segment())?.class != OWNERSHIP_LOG {
            return Err(Error::Damaged);
        }
        self.cell(block)?.set_committed(OWNERSHIP_LOG.size());
        Ok(block)
    }

    /// A page that is free though no hint names it, or that names a process that is gone.
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

    /// The groups that a process recorded, each once; `None` where everything has to be scanned.
    fn logged_groups(&self, owner: ProcId) -> Option<Vec<u32>> {
        let seen = self.log_of(owner).load(Ordering::SeqCst);
        if !is_of(seen, owner) {
            return Some(Vec::new());
        }
        if seen & SCAN_ALL != 0 {
            return None;
        }
        let mut groups = Vec::new();
        let mut next = BlockId::new(seen as u32);
        let mut retries = Retries::default();
        while let Some(block) = next {
            retries.again().ok()?;
            let page = self.page(block).ok()?;
            let records = page
                .records
                .iter()
                .map(|record| record.load(Ordering::SeqCst));
            groups.extend(records.filter(|&group| group != 0));
            next = BlockId::new(page.next.load(Ordering::Acquire));
        }
        groups.sort_unstable();
        groups.dedup();
        Some(groups)
    }

    /// Calls `look` with every block that the process may own, or whose object it may hold, until `look` returns
    /// false. Returns false then, and also when there may be blocks that this process cannot map.
    pub(crate) fn visit_owned(
        &self,
        owner: ProcId,
        mut look: impl FnMut(BlockId, &Cell) -> bool,
    ) -> bool {
        let Some(groups) = self.logged_groups(owner) else {
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

    /// Frees the pages of a process after everything it owned was released.
    pub(crate) fn drop_ownership_log(&self, owner: ProcId) {
        let log = self.log_of(owner);
        let mut retries = Retries::default();
        loop {
            let seen = log.load(Ordering::Acquire);
            if !is_of(seen, owner) || retries.again().is_err() {
                return;
            }
            let Some(block) = BlockId::new(seen as u32) else {
                return;
            };
            let next = self
                .page(block)
                .map_or(0, |page| page.next.load(Ordering::Acquire));
            let unlinked = log.compare_exchange(
                seen,
                word(owner, next) | seen & SCAN_ALL,
                Ordering::SeqCst,
                Ordering::Acquire,
            );
            if unlinked.is_ok() {
                failpoint::hit("ownership_log.taken_off");
                self.free(block, Owner::Part(owner.as_u32()));
            }
        }
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;
    use crate::process_table::home;
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
        // Groups on the newest page are not written again.
        arena.log_for(child.id(), groups.clone().skip(990));
        let logged = arena.logged_groups(child.id()).expect("all were logged");
        assert!(logged.into_iter().eq(groups.map(group_of)));
        let pages = || {
            let part = Owner::Part(child.id().as_u32());
            arena
                .blocks()
                .filter(|(_, cell)| cell.owner.is(part))
                .count()
        };
        assert_eq!(pages(), 999usize.div_ceil(RECORDS));
        arena.drop_ownership_log(child.id());
        assert_eq!(pages(), 0);
        assert_eq!(arena.logged_groups(child.id()), Some(Vec::new()));
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
            .log_of(child.id())
            .store(word(child.id(), 0) | SCAN_ALL, Ordering::SeqCst);
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
