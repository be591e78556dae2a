//! Growing the arena by a segment. `arena/segment.rs` says how a segment is described.

use std::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::arena::cell::BLOCKS_PER_SEGMENT;
use crate::arena::layout::{ROOT_BYTES, SEGMENTS};
use crate::arena::segment::Segment;
use crate::arena::size_class::{OWNERSHIP_LOG, SizeClass};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::memory::memory_limit;
use crate::retries::Retries;

/// The payload bytes of a class's first segment, and of its largest ones.
const FIRST_PAYLOAD: u64 = 256 << 10;
const LAST_PAYLOAD: u64 = 64 << 20;

impl Arena {
    /// Checks that this process can map every segment of a class. If it cannot, another segment would only be one more
    /// that it cannot map.
    pub(crate) fn check_mapped(&self, class: SizeClass) -> Result<()> {
        self.segments()
            .filter(|(_, segment)| segment.class == class)
            .try_for_each(|(number, _)| self.mapped(number).map(drop))
    }

    /// Adds a segment of `class`, and makes it the one that new blocks are taken from.
    pub(crate) fn grow(&self, class: SizeClass) -> Result<()> {
        let mut end = ROOT_BYTES;
        let mut siblings = 0;
        let mut number = 1;
        let mut retries = Retries::default();
        loop {
            while let Some(segment) = self.segment(number) {
                siblings += u32::from(segment.class == class);
                end = segment.start + segment.length();
                number += 1;
            }
            if number as usize >= SEGMENTS {
                return Err(Error::TableFull("segment"));
            }
            let order = order_of(class, siblings);
            let word = Segment::word(class, order, end);
            let segment = Segment::from_word(word).expect("just made");
            // Only the cells take memory at once; payload is charged when it is taken.
            if class != OWNERSHIP_LOG {
                memory_limit::check(self, segment.payload_offset())?;
            }
            self.ensure_length(end + segment.length())?;
            failpoint::hit("arena.grow");
            let entry = &self.root().segments[number as usize];
            if entry
                .compare_exchange(0, word, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                failpoint::hit("arena.grown");
                self.root().classes[class.index()]
                    .open
                    .store(number, Ordering::Release);
                return Ok(());
            }
            retries.again()?;
        }
    }
}

/// Each further segment of a class is twice as large as the last, so that few are needed and little is wasted.
fn order_of(class: SizeClass, siblings: u32) -> u32 {
    let payload = (FIRST_PAYLOAD << siblings.min(16)).min(LAST_PAYLOAD);
    let count = (payload / class.size()).clamp(1, u64::from(BLOCKS_PER_SEGMENT));
    count.ilog2()
}
