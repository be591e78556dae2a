//! The sizes that blocks come in.
//!
//! Powers of two up to a page, then four steps per doubling, so that a large block wastes at most a fifth of its
//! addresses (and no memory: untouched pages take none).

use crate::arena::layout::MAX_PROCESSES;

/// A size class: an index into the class heads of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SizeClass(u8);

const SMALL: u8 = 7;
const LARGEST_SHIFT: u32 = 41;
const SIZES: u8 = SMALL + 4 * (LARGEST_SHIFT - 12) as u8;

/// The number of classes: for bytes, for objects, and the special ones.
pub(crate) const CLASSES: usize = SIZES as usize * 2 + 9;

/// Type-stable memory. Other processes may still read this memory, or write their id into it, after it was freed. So it
/// is never used for anything else: a stalled process may see a newer chunk or object there, but never unrelated bytes.
pub(crate) const SHORT_CHUNK: SizeClass = SizeClass(2 * SIZES);
pub(crate) const LONG_CHUNK: SizeClass = SizeClass(2 * SIZES + 1);
/// Tables that belong to an object: tables of holders, the last of them with a place for each process, and tables for
/// the data of the object's type.
pub(crate) const ALL_HOLDERS: SizeClass = SizeClass(2 * SIZES + 2);
pub(crate) const FEW_HOLDERS: SizeClass = SizeClass(2 * SIZES + 5);
pub(crate) const MANY_HOLDERS: SizeClass = SizeClass(2 * SIZES + 6);
pub(crate) const LARGE_PART: SizeClass = SizeClass(2 * SIZES + 3);

/// Slots for messages of up to a kilobyte.
pub(crate) const WIDE_CHUNK: SizeClass = SizeClass(2 * SIZES + 4);

/// Pages of the ownership log: see `memory/ownership_log.rs`.
pub(crate) const OWNERSHIP_LOG: SizeClass = SizeClass(2 * SIZES + 7);

/// Pages that list the attachments an object is in: see `objects/attachment_index.rs`.
pub(crate) const ATTACHMENT_INDEX: SizeClass = SizeClass(2 * SIZES + 8);

/// The bytes of a chunk's header; its slots follow.
pub(crate) const CHUNK_HEADER: u64 = 192;

/// The bytes of a slot, its header included.
pub(crate) const NARROW_SLOT: u32 = 128;
pub(crate) const WIDE_SLOT: u32 = 1152;

/// The slots of a chunk: their number, and the bytes of each.
pub(crate) fn slots_of(class: SizeClass) -> Option<(u32, u32)> {
    match class {
        SHORT_CHUNK => Some((16, NARROW_SLOT)),
        LONG_CHUNK => Some((256, NARROW_SLOT)),
        WIDE_CHUNK => Some((64, WIDE_SLOT)),
        _ => None,
    }
}

/// The largest block there is.
pub(crate) const LARGEST: u64 = 1 << LARGEST_SHIFT;

impl SizeClass {
    /// The smallest class for an object of `size` bytes.
    pub(crate) fn of_object(size: u64) -> Option<SizeClass> {
        SizeClass::holding(size).map(|class| SizeClass(class.0 + SIZES))
    }

    /// The smallest class whose blocks hold `size` bytes; `None` beyond [`LARGEST`].
    pub(crate) fn holding(size: u64) -> Option<SizeClass> {
        if size > LARGEST {
            return None;
        }
        if size <= 4096 {
            let shift = size.max(64).next_power_of_two().trailing_zeros();
            return Some(SizeClass((shift - 6) as u8));
        }
        let below = 63 - (size - 1).leading_zeros();
        let quarter = ((size - 1) >> (below - 2)) & 3;
        Some(SizeClass(SMALL + ((below - 12) * 4) as u8 + quarter as u8))
    }

    /// Whether blocks of this class hold only objects.
    pub(crate) fn is_of_objects(self) -> bool {
        (SIZES..2 * SIZES).contains(&self.0)
    }

    /// Whether blocks of this class hold only chunks.
    pub(crate) fn is_of_chunks(self) -> bool {
        slots_of(self).is_some()
    }

    /// The number of bytes a block of this class holds.
    pub(crate) fn size(self) -> u64 {
        match self {
            SHORT_CHUNK | LONG_CHUNK | WIDE_CHUNK => {
                let (count, bytes) = slots_of(self).unwrap_or_default();
                CHUNK_HEADER + u64::from(count) * u64::from(bytes)
            }
            OWNERSHIP_LOG => 512,
            ATTACHMENT_INDEX => 128,
            FEW_HOLDERS => 128,
            MANY_HOLDERS => 1 << 10,
            ALL_HOLDERS => (MAX_PROCESSES * 4) as u64,
            LARGE_PART => 64 << 10,
            SizeClass(index) if index >= SIZES => SizeClass(index - SIZES).size(),
            SizeClass(index) if index < SMALL => 64 << index,
            SizeClass(index) => {
                let step = u32::from(index - SMALL);
                let base = 1u64 << (12 + step / 4);
                base + base / 4 * u64::from(step % 4 + 1)
            }
        }
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(crate) fn from_index(index: usize) -> SizeClass {
        debug_assert!(index < CLASSES);
        SizeClass(index as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "long, and nothing unsafe")]
    fn a_class_holds_what_it_is_chosen_for_and_the_one_below_does_not() {
        let sizes = (0..200_000u64).chain((17..=LARGEST_SHIFT).flat_map(|s| {
            let power = 1u64 << s;
            [power - 1, power, power + 1]
        }));
        for size in sizes.filter(|size| *size <= LARGEST) {
            let class = SizeClass::holding(size).unwrap();
            assert!(class.size() >= size, "{size} in {class:?}");
            if class.0 > 0 {
                assert!(SizeClass(class.0 - 1).size() < size, "{size} in {class:?}");
            }
        }
        assert_eq!(SizeClass::holding(LARGEST + 1), None);
    }
}
