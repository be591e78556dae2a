//! The state word of an entry: its stage, its epoch, and its process. `process_table/mod.rs` shows the transitions.

use crate::arena::owner::{EPOCH_BITS, EPOCH_MASK};
use crate::sys::pid::Number;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Free = 0,
    Reserved = 1,
    Awaited = 2,
    Claimed = 3,
    Live = 4,
    Leaving = 5,
    Reaping = 6,
    /// As `Reaping`, for a process that exited in order.
    Clearing = 7,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) stage: Stage,
    pub(crate) epoch: u32,
    /// The process that reserved the entry, or the PID of the entry's process.
    pub(crate) who: u64,
}

const EPOCH_AT: u32 = 60 - EPOCH_BITS;
const _: () = assert!(Number::BITS == EPOCH_AT);

impl State {
    pub(crate) fn epoch(self) -> u32 {
        self.epoch
    }

    pub(crate) fn word(self) -> u64 {
        (self.stage as u64) << 60 | u64::from(self.epoch) << EPOCH_AT | self.who
    }

    pub(crate) fn from_word(word: u64) -> State {
        State {
            stage: match word >> 60 {
                1 => Stage::Reserved,
                2 => Stage::Awaited,
                3 => Stage::Claimed,
                4 => Stage::Live,
                5 => Stage::Leaving,
                6 => Stage::Reaping,
                7 => Stage::Clearing,
                _ => Stage::Free,
            },
            epoch: (word >> EPOCH_AT) as u32 & EPOCH_MASK,
            who: word & ((1 << EPOCH_AT) - 1),
        }
    }

    pub(crate) fn at(self, stage: Stage) -> State {
        State { stage, ..self }
    }

    pub(crate) fn of(self, stage: Stage, number: Number) -> State {
        State {
            stage,
            who: number.bits(),
            ..self
        }
    }

    /// The PID of the entry's process, from AWAITED on.
    pub(crate) fn number(self) -> Number {
        Number::from_bits(self.who)
    }
}
