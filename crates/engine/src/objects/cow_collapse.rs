//! Leased blocks whose other holders are gone.
//!
//! What a process writes to a copy-on-write block goes to pages of its own, and the file's stay for the others. Once there are
//! none, they would take memory for as long as the block is lent. So the rest of the bytes is copied to private pages as
//! well, piece by piece, and the file's pages are given back; the copy-on-write buffer stays, for the block's place.
//!
//! The thread that gives memory back (`trim.rs`) does it; it begins a moment after a fork, and looks less and less often
//! for as long as the others live. What is reaped hastens it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::failpoint;
use crate::memory::Arena;
use crate::memory::block::BlockId;
use crate::objects::object::{Layout, SENT};
use crate::objects::private_mapping;
use crate::objects::private_mapping::{Hold, Place};
use crate::process::fork::fork_guard;
use crate::sys::memfd;

/// So little is not worth a thread.
const WORTH_IT: u64 = 1 << 20;
/// How much is copied at a time, between which blocks can be lent and dropped.
const PIECE: usize = 1 << 20;

/// Bytes that were copy-on-write to children and not copied since, about.
static LEASED: AtomicU64 = AtomicU64::new(0);

/// So many bytes more are copy-on-write by a fork.
pub(crate) fn note_leased(bytes: u64) {
    LEASED.fetch_add(bytes, Ordering::Relaxed);
}

/// Whether there is enough to be worth waiting for the others' end.
pub(crate) fn is_waiting() -> bool {
    LEASED.load(Ordering::Relaxed) >= WORTH_IT
}

impl Arena {
    /// Takes the blocks that this process alone holds by now out of the file, until `must_stop`.
    pub(crate) fn take_out_what_is_alone(&self, must_stop: impl Fn() -> bool) {
        let mut next = 0;
        let mut left = 0;
        while !must_stop() {
            let _no_fork = fork_guard();
            let mut all = private_mapping::all();
            let Some((&number, place)) = all.range_mut(next..).next() else {
                LEASED.store(left, Ordering::Relaxed);
                return;
            };
            let block = BlockId(number);
            match self.take_out_a_piece(block, place) {
                Progress::More => next = number,
                Progress::Done => next = number + 1,
                Progress::ObjectRef => {
                    left += self.capacity(block);
                    next = number + 1;
                }
            }
        }
    }

    fn take_out_a_piece(&self, block: BlockId, place: &mut Place) -> Progress {
        let (Hold::Leased(cow), true) = (&mut place.hold, place.is_private) else {
            return Progress::Done;
        };
        let Some((offset, size)) = self.file_range(block) else {
            return Progress::Done;
        };
        if cow.copied as u64 >= size {
            return Progress::Done;
        }
        let head = cow.cow_buffer.head();
        // Whose handle travelled may be opened by others later.
        if head.added.load(Ordering::SeqCst) & SENT != 0 {
            return Progress::Done;
        }
        if self.has_holder_but(head, Some(self.me())) {
            return Progress::ObjectRef;
        }
        let from = cow.copied;
        let length = PIECE.min(size as usize - from);
        // SAFETY: a part of the block, whose place is mapped privately; it consists of whole pages.
        unsafe { memfd::copy_pages(place.start.add(from), length) };
        failpoint::hit("private_mapping.copied");
        self.give_up_pages(block, offset + from as u64, length);
        cow.copied += length;
        match cow.copied as u64 >= size {
            true => Progress::Done,
            false => Progress::More,
        }
    }
}

/// What became of one step with one block.
enum Progress {
    More,
    Done,
    /// Others hold it still.
    ObjectRef,
}
