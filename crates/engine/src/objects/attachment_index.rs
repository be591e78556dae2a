//! The index of the attachment lists that an object is in: see `attachments.rs`.
//!
//! ```text
//! part   next page | next empty entry (page, number) | next look (page, number) | entries
//! page   next page | unused                          | unused                   | entries
//! entry  zero, or a stamp u32 | the block of an attachment list u32
//! ```
//!
//! The maker of an attachment list adds it to the index of each of its objects before it releases them. Nothing
//! removes an entry. An entry is *over* when its block is no longer an attachment list that lists the object. Whoever
//! adds the next one checks two old entries, and replaces one that is over. So there are at most about three times as
//! many entries as there were attachment lists at a time. An entry that is over stays over, since the next attachment
//! list in the same block has another stamp: an entry found to be over is replaced from exactly that word.
//!
//! Only the last holder that releases the object reads these entries. Only holders add pages, which are freed with
//! the object.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::size_class::ATTACHMENT_INDEX;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::objects::object::{ATTACHED_TO, ObjectHead};
use crate::retries::Retries;

const ENTRIES: u32 = 13;
/// How many old entries to check for one that is over.
const CHECKS: u32 = 2;

#[repr(C)]
pub(crate) struct Page {
    pub(crate) next: AtomicU32,
    _unused: AtomicU32,
    /// Used in the first page only: a page and an entry number there.
    empty: AtomicU64,
    look: AtomicU64,
    entries: [AtomicU64; ENTRIES as usize],
}

const _: () = assert!(size_of::<Page>() == 128);

/// A page, and the number of an entry in it.
#[derive(Debug, Clone, Copy)]
struct Position(BlockId, u32);

impl Position {
    fn word(self) -> u64 {
        u64::from(self.0.0) << 8 | u64::from(self.1)
    }

    /// Decodes a place; the beginning of the first page for an invalid word.
    fn of(word: u64, first: BlockId) -> Position {
        match BlockId::new((word >> 8) as u32) {
            Some(page) => Position(page, word as u32 & 0xff),
            None => Position(first, 0),
        }
    }

    fn after(self) -> Position {
        Position(self.0, self.1 + 1)
    }
}

impl Arena {
    /// Adds an attachment list to the index of an object that it holds. The caller is a holder, and owns the list.
    pub(crate) fn index_attachment(
        &self,
        object: BlockId,
        generation: u32,
        head: &ObjectHead,
        (attachments, stamp): (BlockId, u32),
    ) -> Result<()> {
        self.ensure_part(object, head, ATTACHED_TO, size_of::<Page>() as u64)?;
        let first = self.linked_part(head, ATTACHED_TO).ok_or(Error::Damaged)?;
        let page = self.index_page(first)?;
        let new_entry = u64::from(stamp) << 32 | u64::from(attachments.0);
        if self.reuse_entry(object, generation, first, page, new_entry)? {
            return Ok(());
        }
        let mut retries = Retries::default();
        loop {
            retries.again()?;
            let word = page.empty.load(Ordering::Acquire);
            let position = Position::of(word, first);
            let last = self.index_page(position.0)?;
            let (next, done) = match last.entries.get(position.1 as usize) {
                Some(entry) => (position.after(), swap_entry(entry, 0, new_entry)),
                None => (self.page_after(object, last)?, false),
            };
            // Another thread may have advanced it.
            let _ =
                page.empty
                    .compare_exchange(word, next.word(), Ordering::AcqRel, Ordering::Acquire);
            if done {
                return Ok(());
            }
        }
    }

    /// Replaces an entry that is over, if a few checks find one.
    fn reuse_entry(
        &self,
        object: BlockId,
        generation: u32,
        first: BlockId,
        page: &Page,
        new_entry: u64,
    ) -> Result<bool> {
        for _ in 0..CHECKS {
            let position = Position::of(page.look.load(Ordering::Relaxed), first);
            let at = self.index_page(position.0)?;
            let next = match BlockId::new(at.next.load(Ordering::Acquire)) {
                _ if position.1 + 1 < ENTRIES => position.after(),
                Some(next) => Position(next, 0),
                None => Position(first, 0),
            };
            // It only says where to look next; threads may meet there.
            page.look.store(next.word(), Ordering::Relaxed);
            let Some(entry) = at.entries.get(position.1 as usize) else {
                continue;
            };
            let seen = entry.load(Ordering::SeqCst);
            let is_over = seen != 0 && !self.still_lists(seen, object, generation);
            if is_over && swap_entry(entry, seen, new_entry) {
                failpoint::hit("attachments.replaced");
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first entry of the page after the last one, which is made if need be.
    fn page_after(&self, object: BlockId, last: &Page) -> Result<Position> {
        if let Some(next) = BlockId::new(last.next.load(Ordering::Acquire)) {
            return Ok(Position(next, 0));
        }
        let block = self.alloc_class(ATTACHMENT_INDEX, ATTACHMENT_INDEX.size())?;
        // SAFETY: just taken, this many bytes, seen by nobody else.
        unsafe { self.payload(block)?.write_bytes(0, size_of::<Page>()) };
        match self.link_part(block, object, &last.next) {
            true => Ok(Position(block, 0)),
            false => {
                self.free(block, self.mine());
                let next = last.next.load(Ordering::Acquire);
                Ok(Position(BlockId::new(next).ok_or(Error::Damaged)?, 0))
            }
        }
    }

    /// Whether an attachment list holds the object, or may hold it where this process cannot check.
    #[cold]
    pub(crate) fn is_attached(&self, object: BlockId, generation: u32, head: &ObjectHead) -> bool {
        let mut next = self.linked_part(head, ATTACHED_TO);
        let mut retries = Retries::default();
        while let Some(block) = next {
            let (Ok(page), Ok(())) = (self.index_page(block), retries.again()) else {
                return true;
            };
            let words = page
                .entries
                .iter()
                .map(|entry| entry.load(Ordering::SeqCst));
            let mut entries = words.filter(|&word| word != 0);
            if entries.any(|word| self.still_lists(word, object, generation)) {
                return true;
            }
            next = BlockId::new(page.next.load(Ordering::Acquire));
        }
        false
    }

    /// Whether the indexed attachment list still lists the object; true where that cannot be checked.
    fn still_lists(&self, entry: u64, object: BlockId, generation: u32) -> bool {
        BlockId::new(entry as u32).is_some_and(|attachments| {
            self.mapped(attachments.segment()).is_err()
                || self.lists(attachments, (entry >> 32) as u32, object, generation)
        })
    }

    pub(crate) fn index_page(&self, page: BlockId) -> Result<&Page> {
        if self.mapped(page.segment())?.class != ATTACHMENT_INDEX {
            return Err(Error::Damaged);
        }
        // SAFETY: blocks of this class only ever hold such pages, are as large, 64-aligned and mapped for good; all
        // fields are atomics.
        Ok(unsafe { self.payload(page)?.cast::<Page>().as_ref() })
    }

    /// Whether a block is one of the further pages of an object.
    pub(crate) fn is_further_page(&self, head: &ObjectHead, part: BlockId) -> bool {
        let mut next = self.linked_part(head, ATTACHED_TO);
        let mut retries = Retries::default();
        while let Some(page) = next.and_then(|block| self.index_page(block).ok()) {
            let linked = page.next.load(Ordering::Acquire);
            if linked == part.0 {
                return true;
            }
            next = BlockId::new(linked).filter(|_| retries.again().is_ok());
        }
        false
    }

    /// Frees all pages but the first of an object that this process owns. A process that takes over from one that
    /// died in here starts again.
    pub(crate) fn free_further_pages(&self, object: BlockId, head: &ObjectHead) {
        let first = self.linked_part(head, ATTACHED_TO);
        let Some(first) = first.and_then(|block| self.index_page(block).ok()) else {
            return;
        };
        let mut retries = Retries::default();
        while let Some(page) = BlockId::new(first.next.load(Ordering::Acquire))
            && retries.again().is_ok()
        {
            let next = self
                .index_page(page)
                .map_or(0, |page| page.next.load(Ordering::Acquire));
            self.free_part(object, &first.next, next);
        }
    }
}

fn swap_entry(entry: &AtomicU64, from: u64, to: u64) -> bool {
    entry
        .compare_exchange(from, to, Ordering::SeqCst, Ordering::Acquire)
        .is_ok()
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;
    use crate::channel::Queue;
    use crate::value::SharedBytes;
    use crate::{Deadline, Handle, ObjectRef};

    fn pages(handle: &Handle) -> usize {
        let arena = crate::process_table::home().expect("an arena");
        let object = BlockId::new(handle.block()).expect("a block");
        let head = arena.head(object).expect("an object");
        let mut next = arena.linked_part(head, ATTACHED_TO);
        let mut count = 0;
        while let Some(block) = next {
            count += 1;
            let page = arena.index_page(block).expect("a page");
            next = BlockId::new(page.next.load(Ordering::Acquire));
        }
        count
    }

    #[test]
    fn entries_of_messages_that_were_received_are_used_again() {
        let queue = Queue::new(0).expect("a queue");
        let bytes = SharedBytes::new(64).expect("memory");
        let handle = bytes.handle();
        let put = || {
            let held = [ObjectRef::of(&handle).expect("it is open here")];
            let put = queue.put_with(&[&handle.to_bytes()], &held, Deadline::NEVER);
            put.expect("no limit");
        };
        (0..100).for_each(|_| put());
        for _ in 0..5_000 {
            put();
            queue.get(Deadline::NOW).expect("a message");
        }
        assert!(
            pages(&handle) <= 300 / ENTRIES as usize + 1,
            "{}",
            pages(&handle)
        );
        // Every message holds it, the last one as much as the first.
        drop(bytes);
        for _ in 0..100 {
            let message = queue.get(Deadline::NOW).expect("a message");
            drop(SharedBytes::open(&handle).expect("the message holds it"));
            drop(message);
        }
        assert!(SharedBytes::open(&handle).is_err());
    }

    #[test]
    fn threads_that_send_one_object_enter_every_message() {
        let queue = Queue::new(0).expect("a queue");
        let bytes = SharedBytes::new(64).expect("memory");
        let handle = bytes.handle();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..500 {
                        let held = [ObjectRef::of(&handle).expect("it is open here")];
                        let put = queue.put_with(&[b"x"], &held, Deadline::NEVER);
                        put.expect("no limit");
                        if number % 3 > 0 {
                            queue.get(Deadline::NEVER).expect("a message");
                        }
                    }
                });
            }
        });
        drop(bytes);
        while let Ok(message) = queue.get(Deadline::NOW) {
            drop(SharedBytes::open(&handle).expect("the message holds it"));
            drop(message);
        }
        assert!(SharedBytes::open(&handle).is_err());
    }
}
