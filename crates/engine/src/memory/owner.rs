//! Who owns what: owner ids, and the one word that says whose a block is.
//!
//! Every change of ownership is one compare-and-swap of an [`OwnerCell`] from the exact word seen to
//! the exact word wanted. A process that dies, or a helper that comes second, therefore never leaves
//! a block between two owners, and repairing twice is the same as repairing once.

use crate::sys::atomic::{AtomicU64, Ordering};

pub(crate) const EPOCH_BITS: u32 = 19;
pub(crate) const EPOCH_MASK: u32 = (1 << EPOCH_BITS) - 1;

/// A process, as the shared memory knows it: its slot in the process table and the slot's epoch.
///
/// 31 bits and never zero. A slot's epoch changes with every new occupant, so an id is not used
/// again for another process (before the same slot was taken half a million times).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcId(u32);

impl ProcId {
    /// Stands for a process that left in order with a lock held: never dead, never back.
    pub(crate) const ABANDONED: ProcId = ProcId(0x7fff_ffff);

    pub(crate) fn new(slot: u32, epoch: u32) -> ProcId {
        ProcId(slot << EPOCH_BITS | epoch & EPOCH_MASK)
    }

    /// The id as a number that other processes understand.
    pub fn as_u32(self) -> u32 {
        self.0
    }

    /// The id behind a number; `None` for numbers that are no id.
    pub fn from_u32(raw: u32) -> Option<ProcId> {
        (raw >> EPOCH_BITS != 0 && raw >> 31 == 0).then_some(ProcId(raw))
    }

    pub(crate) fn slot(self) -> u32 {
        self.0 >> EPOCH_BITS
    }

    pub(crate) fn epoch(self) -> u32 {
        self.0 & EPOCH_MASK
    }
}

/// Whose a block is. Bits 61-63 tell which, the rest says who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody's: may be allocated.
    Free,
    /// A process's own: being made, being filled, or being read after it was received.
    Process(ProcId),
    /// A message's: belongs to one slot of one incarnation of a chunk.
    Slot { chunk: u32, index: u32, inc: u32 },
    /// An object's: lives while a process holds it.
    Shared,
    /// A chunk, in this incarnation, that is part of the queue in this block.
    Linked { queue: u32, inc: u32 },
    /// A chunk being made ready for a queue, or just linked to it, by this process.
    Making { by: ProcId, inc: u32 },
    /// A chunk being taken out of its queue by this process.
    Retiring { by: ProcId, inc: u32 },
    /// The table of holds of the object in this block.
    Part(u32),
}

const TAG: u32 = 61;
const SLOT_INC: u32 = 19;
const SLOT_INDEX: u32 = 10;
const LINK_INC: u32 = 29;

fn cut(inc: u32, bits: u32) -> u64 {
    u64::from(inc & ((1 << bits) - 1))
}

impl Owner {
    pub(crate) fn word(self) -> u64 {
        let (tag, rest) = match self {
            Owner::Free => (0, 0),
            Owner::Process(id) => (1, u64::from(id.0)),
            Owner::Slot { chunk, index, inc } => {
                debug_assert!(index < 1 << SLOT_INDEX);
                let place = u64::from(index) << 32 | u64::from(chunk);
                (2, cut(inc, SLOT_INC) << 42 | place)
            }
            Owner::Shared => (3, 0),
            Owner::Linked { queue, inc } => (4, cut(inc, LINK_INC) << 32 | u64::from(queue)),
            Owner::Retiring { by, inc } => (5, cut(inc, LINK_INC) << 32 | u64::from(by.0)),
            Owner::Part(object) => (6, u64::from(object)),
            Owner::Making { by, inc } => (7, cut(inc, LINK_INC) << 32 | u64::from(by.0)),
        };
        tag << TAG | rest
    }

    /// As it comes out of a word, where generations_begun are cut short.
    pub(crate) fn cut(self) -> Owner {
        Owner::from_word(self.word())
    }

    /// Whether `inc` is what a word can tell of it.
    pub(crate) fn same_inc(inc: u32, told: u32) -> bool {
        cut(inc, LINK_INC) == cut(told, LINK_INC)
    }

    pub(crate) fn from_word(word: u64) -> Owner {
        let low = word as u32;
        let high = (word >> 32) as u32 & ((1 << LINK_INC) - 1);
        match word >> TAG {
            1 => Owner::Process(ProcId(low)),
            2 => Owner::Slot {
                chunk: low,
                index: (word >> 32) as u32 & ((1 << SLOT_INDEX) - 1),
                inc: (word >> 42) as u32 & ((1 << SLOT_INC) - 1),
            },
            3 => Owner::Shared,
            4 => Owner::Linked {
                queue: low,
                inc: high,
            },
            5 => Owner::Retiring {
                by: ProcId(low),
                inc: high,
            },
            6 => Owner::Part(low),
            7 => Owner::Making {
                by: ProcId(low),
                inc: high,
            },
            _ => Owner::Free,
        }
    }
}

/// The word that says whose a block is.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct OwnerCell(AtomicU64);

impl OwnerCell {
    #[cfg(loom)]
    pub(crate) fn new(owner: Owner) -> OwnerCell {
        OwnerCell(AtomicU64::new(owner.word()))
    }

    pub(crate) fn get(&self) -> Owner {
        Owner::from_word(self.0.load(Ordering::Acquire))
    }

    pub(crate) fn is(&self, owner: Owner) -> bool {
        self.0.load(Ordering::Acquire) == owner.word()
    }

    /// Hands the block over; false when it was not `from`'s any more.
    ///
    /// Acquire: the new owner sees what the former one did with the block (its Release is here too).
    pub(crate) fn pass(&self, from: Owner, to: Owner) -> bool {
        self.0
            .compare_exchange(from.word(), to.word(), Ordering::SeqCst, Ordering::Acquire)
            .is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_owner_survives_its_word() {
        let me = ProcId::new(4095, 77);
        assert_eq!(ProcId::from_u32(me.as_u32()), Some(me));
        assert_eq!((me.slot(), me.epoch()), (4095, 77));
        let slot = Owner::Slot {
            chunk: u32::MAX,
            index: 1023,
            inc: 12345,
        };
        for owner in [
            Owner::Free,
            Owner::Process(me),
            slot,
            Owner::Shared,
            Owner::Linked { queue: 7, inc: 8 },
            Owner::Retiring { by: me, inc: 9 },
            Owner::Making { by: me, inc: 10 },
            Owner::Part(9),
        ] {
            assert_eq!(Owner::from_word(owner.word()), owner);
        }
    }

    #[test]
    fn numbers_that_are_no_owner_are_refused() {
        assert_eq!(ProcId::from_u32(0), None);
        assert_eq!(ProcId::from_u32(5), None);
        assert_eq!(ProcId::from_u32(u32::MAX), None);
    }
}
