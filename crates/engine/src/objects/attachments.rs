//! Attachment lists: blocks of bytes that keep objects alive while they travel.
//!
//! A message may refer to objects. Neither its sender nor its receiver needs to live while it waits. So the block of
//! such a message, an *attachment list*, begins with a list of the objects. Every attachment list that lists an
//! object holds it, as a process does. The object only records where to look. An attachment list holds its objects
//! for as long as its block has the kind `Attachments` and is not free. That is a single fact, whoever owns the block
//! and whoever died.
//!
//! ```text
//! sender:   holds the object;  added += 2, sent := 1;  list;  kind := Attachments;  indexed;  added += 2;  may release
//! receiver: owns the attachment list;  opens the object (its cell, added += 2);  frees the attachment list
//! leaver:   added?  cells?  sent: attachment lists?  added unchanged?          held if any says so
//! ```
//!
//! The leaver scans the cells before the attachment lists. The scan sees a holder that stays for all of it. A hold
//! may move from a cell into an attachment list meanwhile: the scan sees it in the list if it had left the cell
//! before the cells were scanned, and in the cell otherwise. A hold that moves from an attachment list into a cell
//! changes `added` before the list is gone. Only a holder makes an attachment list, so an empty set stays empty.
//!
//! The object has an index of the attachment lists that it may be in (`attachment_index.rs`). Only the last process
//! that releases an object that was ever sent reads the index.
//!
//! ```text
//! payload   count u32 | stamp u32 | (block u32, generation u32) for each object | bytes, 64-aligned
//! ```

use std::cell::{Cell as Local, RefCell};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::Arena;
use crate::arena::cell::{BlockId, Cell};
use crate::arena::kind::Kind;
use crate::arena::owner::Owner;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::objects::object_ref::ObjectRef;

const HEADER: usize = 8;
const ENTRY: usize = 8;

thread_local! {
    /// Objects still to be released, while this thread is already releasing some. Taking a queue apart frees its
    /// messages, which may be attachment lists with further queues, to any depth.
    static TO_RELEASE: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
    static RELEASING: Local<bool> = const { Local::new(false) };
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    block: BlockId,
    generation: u32,
}

/// Where the bytes begin in an attachment list for this many objects.
pub(crate) fn offset(objects: usize) -> usize {
    (HEADER + objects * ENTRY).next_multiple_of(64)
}

impl Arena {
    /// Makes a block of this process an attachment list that holds `objects`. The block has room for the list.
    pub(crate) fn attach_objects(&self, block: BlockId, objects: &[ObjectRef]) -> Result<()> {
        let cell = self.cell(block)?;
        let words = self.list_words(block, objects.len())?;
        for (held, entry) in objects.iter().zip(words[2..].as_chunks::<2>().0) {
            self.note_sent(held.block())?;
            entry[0].store(held.block().0, Ordering::Relaxed);
            entry[1].store(held.generation(), Ordering::Relaxed);
        }
        let stamp = self.root().stamps.fetch_add(1, Ordering::Relaxed);
        words[0].store(objects.len() as u32, Ordering::Relaxed);
        words[1].store(stamp, Ordering::Relaxed);
        failpoint::hit("attachments.listed");
        cell.kind.store(Kind::Attachments as u32, Ordering::SeqCst);
        failpoint::hit("attachments.made");
        let indexed = objects.iter().try_for_each(|held| {
            let (object, head) = (held.block(), self.head(held.block())?);
            self.index_attachment(object, held.generation(), head, (block, stamp))?;
            self.note_sent(object)
        });
        if indexed.is_err() {
            cell.kind.store(Kind::Bytes as u32, Ordering::SeqCst);
        }
        failpoint::hit("attachments.indexed");
        indexed
    }

    /// Where the bytes of an attachment list begin; `None` for any other block.
    pub(crate) fn attachment_offset(&self, block: BlockId) -> Option<usize> {
        let cell = self.cell(block).ok()?;
        let is_one = cell.kind.load(Ordering::Acquire) == Kind::Attachments as u32;
        is_one.then(|| offset(self.list(block).len()))
    }

    /// Frees an attachment list that `from` owns, and releases the objects it held. False when `from` did not own it.
    ///
    /// This process takes the block before it reads the list and changes the kind. So a process that stalled while
    /// freeing it changes nothing of the block's next use. If this process is killed on the way, the sweep that reaps
    /// it finds the objects.
    #[cold]
    pub(crate) fn free_attachments(&self, block: BlockId, cell: &Cell, from: Owner) -> bool {
        let mine = self.mine();
        if from != mine && !self.claim(block, cell, from, mine) {
            return false;
        }
        if !cell.owner.is(mine) {
            return false;
        }
        failpoint::hit("attachments.taken");
        let objects = self.list(block);
        // If this process is killed on the way, whoever reaps it finds them.
        objects
            .iter()
            .for_each(|entry| self.record_owned(entry.block));
        cell.kind.store(Kind::Bytes as u32, Ordering::SeqCst);
        failpoint::hit("attachments.emptied");
        self.free(block, mine);
        self.release_objects(objects);
        true
    }

    /// Turns an attachment list of this process into plain bytes, and releases the objects it held.
    pub(crate) fn detach_all(&self, block: BlockId) {
        let Ok(cell) = self.cell(block) else { return };
        if cell.kind.load(Ordering::Acquire) == Kind::Attachments as u32
            && cell.owner.is(self.mine())
        {
            let objects = self.list(block);
            objects
                .iter()
                .for_each(|entry| self.record_owned(entry.block));
            cell.kind.store(Kind::Bytes as u32, Ordering::SeqCst);
            failpoint::hit("attachments.emptied");
            self.release_objects(objects);
        }
    }

    /// The objects that an attachment list holds, now held by this process as well; empty for any other block.
    pub(crate) fn hold_contents(&'static self, block: BlockId) -> Vec<ObjectRef> {
        if self.attachment_offset(block).is_none() {
            return Vec::new();
        }
        let entries = self.list(block).into_iter();
        entries
            .filter_map(|entry| ObjectRef::checked(self, entry.block, entry.generation).ok())
            .collect()
    }

    fn release_objects(&self, objects: Vec<Entry>) {
        let free = |entry: Entry| {
            if self.is_object(entry.block, entry.generation) {
                self.free_if_unheld(entry.block);
            }
        };
        // A thread that is ending has no such list any more.
        let listed = TO_RELEASE.try_with(|list| list.borrow_mut().extend(&objects));
        if listed.is_err() {
            return objects.into_iter().for_each(free);
        }
        if RELEASING.replace(true) {
            return;
        }
        while let Some(entry) = TO_RELEASE.with_borrow_mut(Vec::pop) {
            free(entry);
        }
        RELEASING.set(false);
    }

    /// Whether a block is an attachment list with that stamp, and lists the object.
    pub(crate) fn lists(
        &self,
        block: BlockId,
        stamp: u32,
        object: BlockId,
        generation: u32,
    ) -> bool {
        let is_one = self.cell(block).is_ok_and(|cell| {
            cell.kind.load(Ordering::SeqCst) == Kind::Attachments as u32
                && !cell.owner.is(Owner::Free)
        });
        let is_stamped = |words: &[AtomicU32]| words[1].load(Ordering::Relaxed) == stamp;
        is_one
            && self.list_words(block, 0).is_ok_and(is_stamped)
            && self.entries(block).is_some_and(|mut entries| {
                entries.any(|entry| entry.block == object && entry.generation == generation)
            })
    }

    /// The entries of an attachment list. For a block that is no longer one, these can be any values; treat them as
    /// hints.
    fn list(&self, block: BlockId) -> Vec<Entry> {
        self.entries(block)
            .map(Iterator::collect)
            .unwrap_or_default()
    }

    fn entries(&self, block: BlockId) -> Option<impl Iterator<Item = Entry> + '_> {
        let head = self.list_words(block, 0).ok()?;
        let count = head[0].load(Ordering::Relaxed) as usize;
        let words = self.list_words(block, count).ok()?;
        let entries = words[2..].as_chunks::<2>().0.iter();
        Some(entries.filter_map(|[block, generation]| {
            Some(Entry {
                block: BlockId::new(block.load(Ordering::Relaxed))?,
                generation: generation.load(Ordering::Relaxed),
            })
        }))
    }

    /// The words of a list of this many objects, if the block can hold one.
    fn list_words(&self, block: BlockId, objects: usize) -> Result<&[AtomicU32]> {
        let capacity = self.capacity(block) as usize;
        if objects > capacity / ENTRY || offset(objects) > capacity {
            return Err(Error::BadHandle);
        }
        let words = self.payload(block)?.cast::<AtomicU32>();
        // SAFETY: within the block's payload (just checked), which is 64-aligned and mapped for good; any
        // bytes are atomics.
        Ok(unsafe { std::slice::from_raw_parts(words.as_ptr(), 2 + 2 * objects) })
    }
}
