//! The storage for the keys and values of a table: extents of some eighty sizes.
//!
//! A released extent goes to the free list of its size, and is used again. So values that are replaced all the time
//! need no more room than their largest total, and nothing is copied for it.
//!
//! ```text
//! extent   a word: how often it was used (high half), the next free extent of its size (low half);  then the bytes
//! ```
//!
//! A large extent is written and read without the store's lock (`large.rs`). Such a reader notices by the extent's
//! count that it was used again meanwhile, and by the table's EPOCH that the log was reset.
//!
//! A process that dies under the lock leaves at most extents that nothing names; they are gone when the table is
//! copied.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::table::{EPOCH, FREE, LOG_END, Table, damaged};
use crate::error::Result;
use crate::failpoint;

pub(super) const UNIT: usize = 8;
/// The number of sizes.
pub(super) const SIZES: usize = 128;

/// The position and length of bytes in a table; zero for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent(pub(super) u64);

impl Extent {
    pub(super) const NONE: Extent = Extent(0);

    fn new(start: usize, length: usize) -> Extent {
        Extent((start / UNIT) as u64 | (length as u64) << 32)
    }

    pub(super) fn start(self) -> usize {
        (self.0 as u32) as usize * UNIT
    }

    pub(super) fn length(self) -> usize {
        (self.0 >> 32) as usize
    }
}

/// An extent, with its use count and epoch as they were under the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) extent: Extent,
    epoch: usize,
    count: u32,
}

/// The size that holds that many units, and its number: one size for each unit count up to eight, then four per
/// doubling.
fn size_of_units(units: usize) -> (usize, usize) {
    if units <= 8 {
        return (units, units - 1);
    }
    let shift = (units - 1).ilog2() - 2;
    let step = ((units - 1) >> shift) + 1;
    (step << shift, 8 + (shift as usize - 1) * 4 + step - 5)
}

/// The units of the extent for that many bytes, including its word, and the number of its size.
fn size_for(length: usize) -> (usize, usize) {
    size_of_units(1 + length.div_ceil(UNIT))
}

/// How many bytes the extent for that many bytes takes.
pub(super) fn bytes_for(length: usize) -> usize {
    size_for(length).0 * UNIT
}

impl Table {
    fn free_of(&self, size: usize) -> &AtomicU64 {
        self.word(FREE + size * 8)
    }

    /// Allocates an extent for that many bytes; `None` if there is no room.
    pub(super) fn allocate(&self, length: usize) -> Option<Extent> {
        let (units, size) = size_for(length);
        let free = self.free_of(size);
        let first = free.load(Ordering::Relaxed) as usize * UNIT;
        let at = if first != 0 && first + units * UNIT <= self.bytes().len() {
            let next = self.word(first).load(Ordering::Relaxed) as u32;
            free.store(next.into(), Ordering::Release);
            first
        } else {
            let end = self.load(LOG_END);
            if end + units * UNIT > self.bytes().len() {
                return None;
            }
            // Before a word points there: the extent must not be allocated twice.
            self.set(LOG_END, end + units * UNIT);
            end
        };
        let word = self.word(at);
        let count = (word.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        word.store(count << 32, Ordering::Relaxed);
        // A process that reads what is written there from now on, and then the word, notices that the extent was used
        // again.
        fence(Ordering::Release);
        Some(Extent::new(at + UNIT, length))
    }

    /// Writes to an extent that nobody reads yet.
    pub(super) fn write(&self, extent: Extent, bytes: &[u8]) {
        self.bytes().write_bytes(extent.start(), bytes);
    }

    /// As [`Table::allocate`], and writes the bytes.
    pub(super) fn log(&self, bytes: &[u8]) -> Option<Extent> {
        let extent = self.allocate(bytes.len())?;
        self.write(extent, bytes);
        failpoint::hit("store.logged");
        Some(extent)
    }

    /// Releases an extent that nothing names any more.
    pub(super) fn release(&self, extent: Extent) {
        let (units, size) = size_for(extent.length());
        let is_possible =
            extent.start() > UNIT && extent.start() - UNIT + units * UNIT <= self.bytes().len();
        if !is_possible {
            return;
        }
        let at = extent.start() - UNIT;
        let free = self.free_of(size);
        let word = self.word(at);
        let count = word.load(Ordering::Relaxed) >> 32 << 32;
        word.store(count | free.load(Ordering::Relaxed), Ordering::Release);
        free.store((at / UNIT) as u64, Ordering::Release);
    }

    /// Resets the log: nothing names an extent any more.
    pub(super) fn reset_log(&self) {
        self.set(EPOCH, self.load(EPOCH).wrapping_add(1));
        fence(Ordering::SeqCst);
        for size in 0..SIZES {
            self.free_of(size).store(0, Ordering::Release);
        }
        failpoint::hit("store.log_begun");
        self.set(LOG_END, self.log_offset());
    }

    /// Records the state of an extent while the lock is held.
    pub(super) fn use_of(&self, extent: Extent) -> Result<Use> {
        if !self.holds(extent) {
            return Err(damaged());
        }
        let word = self.word(extent.start() - UNIT).load(Ordering::Relaxed);
        Ok(Use {
            extent,
            epoch: self.load(EPOCH),
            count: (word >> 32) as u32,
        })
    }

    /// Whether an extent is unchanged since it was recorded.
    pub(super) fn is_unchanged(&self, seen: Use) -> bool {
        self.use_of(seen.extent).is_ok_and(|now| now == seen)
    }

    fn holds(&self, extent: Extent) -> bool {
        extent.start() >= UNIT
            && extent.start().saturating_add(extent.length()) <= self.bytes().len()
    }

    /// Appends the bytes of an extent to `out`.
    pub(super) fn copy(&self, extent: Extent, out: &mut Vec<u8>) -> Result<()> {
        if extent.length() > 0 && !self.holds(extent) {
            return Err(damaged());
        }
        // Most values are short, and an extent consists of whole words.
        if extent.length() <= UNIT && extent.start() + UNIT <= self.bytes().len() {
            let word = self.word(extent.start()).load(Ordering::Relaxed);
            out.extend_from_slice(&word.to_ne_bytes()[..extent.length()]);
            return Ok(());
        }
        let start = out.len();
        out.resize(start + extent.length(), 0);
        self.bytes().read_bytes(extent.start(), &mut out[start..]);
        Ok(())
    }

    /// As [`Table::copy`], without the lock; false when the extent was reused meanwhile.
    pub(super) fn copy_unlocked(&self, seen: Use, out: &mut Vec<u8>) -> Result<bool> {
        self.copy(seen.extent, out)?;
        fence(Ordering::Acquire);
        Ok(self.is_unchanged(seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_holds_what_it_is_for_and_the_one_before_does_not() {
        let (mut before, mut number) = (0, None);
        for units in 1..100_000 {
            let (holds, size) = size_of_units(units);
            assert!(holds >= units && holds <= units + units / 4 && size < SIZES);
            if Some(size) != number {
                assert!(before < units && number.is_none_or(|number| number + 1 == size));
                (before, number) = (holds, Some(size));
            }
            assert_eq!(holds, before);
        }
        assert!(size_of_units(u32::MAX as usize).1 < SIZES);
    }
}
