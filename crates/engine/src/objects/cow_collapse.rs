//! Collapses copy-on-write blocks whose other holders are gone.
//!
//! What a process writes to a copy-on-write block goes to private pages; the file's pages stay for the others. Once
//! there are no others, those pages would take memory for as long as the block is in use. So the rest of the bytes is
//! copied to private pages as well, piece by piece, and the file's pages are returned to the system. The
//! copy-on-write buffer stays, to reserve the block's place.
//!
//! The thread that returns memory to the system (`memory/trimmer.rs`) does this. It begins a moment after a fork, and
//! checks less and less often for as long as the others live. Reaping a process makes it check sooner.

use std::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::failpoint;
use crate::memory::trimmer;
use crate::objects::object::{Layout, SENT};
use crate::objects::private_mapping;
use crate::objects::private_mapping::{Hold, Place};
use crate::process_table::identity::fork_guard;
use crate::sys::memfd;

/// How many bytes are copied at a time. In between, blocks can be mapped and dropped.
const PIECE: usize = 1 << 20;

impl Arena {
    /// Takes the blocks that only this process still holds out of the file, until `must_stop`.
    pub(crate) fn collapse_unshared(&self, must_stop: impl Fn() -> bool) {
        let mut next = 0;
        let mut left = 0;
        while !must_stop() {
            let _no_fork = fork_guard();
            let mut all = private_mapping::all();
            let Some((&number, place)) = all.range_mut(next..).next() else {
                trimmer::set_to_collapse(left);
                return;
            };
            let block = BlockId(number);
            match self.collapse_piece(block, place) {
                Progress::More => next = number,
                Progress::Done => next = number + 1,
                Progress::StillHeld => {
                    left += self.capacity(block);
                    next = number + 1;
                }
            }
        }
    }

    fn collapse_piece(&self, block: BlockId, place: &mut Place) -> Progress {
        let (Hold::CopyOnWrite(cow), true) = (&mut place.hold, place.is_private) else {
            return Progress::Done;
        };
        let Some((offset, size)) = self.file_range(block) else {
            return Progress::Done;
        };
        if cow.copied as u64 >= size {
            return Progress::Done;
        }
        let head = cow.cow_buffer.head();
        // If its handle was ever sent, others may open it later.
        if head.added.load(Ordering::SeqCst) & SENT != 0 {
            return Progress::Done;
        }
        if self.has_holder_but(head, Some(self.me())) {
            return Progress::StillHeld;
        }
        let from = cow.copied;
        let length = PIECE.min(size as usize - from);
        // SAFETY: a part of the block, whose place is mapped privately; it consists of whole pages.
        unsafe { memfd::copy_pages(place.start.add(from), length) };
        failpoint::hit("private_mapping.copied");
        self.return_pages(block, offset + from as u64, length);
        cow.copied += length;
        match cow.copied as u64 >= size {
            true => Progress::Done,
            false => Progress::More,
        }
    }
}

/// The result of one step with one block.
enum Progress {
    More,
    Done,
    /// Others still hold it.
    StillHeld,
}
