//! Process ids of the engine, and the one word that says who owns a block.
//!
//! Every change of ownership is one compare-and-swap of an [`OwnerCell`] from the exact word seen to the exact word
//! wanted. So a process that dies, or a helper that comes second, never leaves a block between two owners, and
//! repairing twice has the same effect as repairing once.

use crate::sys::atomic::{AtomicU64, Ordering};

pub(crate) const EPOCH_BITS: u32 = 19;
pub(crate) const EPOCH_MASK: u32 = (1 << EPOCH_BITS) - 1;

/// A process, as the shared memory identifies it: its slot in the process table and the slot's epoch.
///
/// 31 bits and never zero. A slot's epoch changes with every new occupant, so an id is not reused for another process
/// until the same slot was taken half a million times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcId(u32);

impl ProcId {
    /// Stands for a process that exited in order while it held a lock: never dead, and never back.
    pub(crate) const ABANDONED: ProcId = ProcId(0x7fff_ffff);

    pub(crate) fn new(slot: u32, epoch: u32) -> ProcId {
        ProcId(slot << EPOCH_BITS | epoch & EPOCH_MASK)
    }

    /// The id as a number that other processes understand.
    pub fn as_u32(self) -> u32 {
        self.0
    }

    /// The id behind a number; `None` for numbers that are not an id.
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

/// Who owns a block. Bits 61-63 are the tag, the rest is the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody: may be allocated.
    Free,
    /// A process: it is making, filling, or reading the block.
    Process(ProcId),
    /// A waiting message: the block belongs to one slot of one generation of a chunk.
    Slot { chunk: u32, index: u32, inc: u32 },
    /// The processes that hold the object in it; it lives while one does.
    Shared,
    /// A chunk, in this generation, that is part of the queue in this block.
    Linked { queue: u32, inc: u32 },
    /// A chunk that this process is preparing for a queue, or has just linked.
    Making { by: ProcId, inc: u32 },
    /// A chunk that this process is taking out of its queue.
    Retiring { by: ProcId, inc: u32 },
    /// The object in this block: the block is one of its tables.
    Part(u32),
}

const TAG: u32 = 61;
const SLOT_INC: u32 = 19;
const SLOT_INDEX: u32 = 10;
const LINK_INC: u32 = 29;

fn truncate(inc: u32, bits: u32) -> u64 {
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
                (2, truncate(inc, SLOT_INC) << 42 | place)
            }
            Owner::Shared => (3, 0),
            Owner::Linked { queue, inc } => (4, truncate(inc, LINK_INC) << 32 | u64::from(queue)),
            Owner::Retiring { by, inc } => (5, truncate(inc, LINK_INC) << 32 | u64::from(by.0)),
            Owner::Part(object) => (6, u64::from(object)),
            Owner::Making { by, inc } => (7, truncate(inc, LINK_INC) << 32 | u64::from(by.0)),
        };
        tag << TAG | rest
    }

    /// The same owner as it reads back from a word, where generations are truncated.
    pub(crate) fn truncated(self) -> Owner {
        Owner::from_word(self.word())
    }

    /// Whether two generations are equal as far as a word can store them.
    pub(crate) fn same_inc(inc: u32, told: u32) -> bool {
        truncate(inc, LINK_INC) == truncate(told, LINK_INC)
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

/// The word that says who owns a block.
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

    /// Passes the block on; false when `from` did not own it any more.
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
