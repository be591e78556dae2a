//! The word of a seat: how far its occupant is, in which epoch, and who that is. `seat.rs` draws the changes.

use super::owner::{EPOCH_BITS, EPOCH_MASK};
use crate::sys::number::Number;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Free = 0,
    Reserved = 1,
    Awaited = 2,
    Sitting = 3,
    Live = 4,
    Leaving = 5,
    Burying = 6,
    /// As `Burying`, of one that had left in order.
    Clearing = 7,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) stage: Stage,
    pub(super) epoch: u32,
    /// Who reserved the seat, or which process it is about.
    pub(super) who: u64,
}

const EPOCH_AT: u32 = 60 - EPOCH_BITS;
const _: () = assert!(Number::BITS == EPOCH_AT);

impl State {
    pub(super) fn epoch(self) -> u32 {
        self.epoch
    }

    pub(super) fn word(self) -> u64 {
        (self.stage as u64) << 60 | u64::from(self.epoch) << EPOCH_AT | self.who
    }

    pub(super) fn from_word(word: u64) -> State {
        State {
            stage: match word >> 60 {
                1 => Stage::Reserved,
                2 => Stage::Awaited,
                3 => Stage::Sitting,
                4 => Stage::Live,
                5 => Stage::Leaving,
                6 => Stage::Burying,
                7 => Stage::Clearing,
                _ => Stage::Free,
            },
            epoch: (word >> EPOCH_AT) as u32 & EPOCH_MASK,
            who: word & ((1 << EPOCH_AT) - 1),
        }
    }

    pub(super) fn at(self, stage: Stage) -> State {
        State { stage, ..self }
    }

    pub(super) fn of(self, stage: Stage, number: Number) -> State {
        State {
            stage,
            who: number.bits(),
            ..self
        }
    }

    /// The process, from AWAITED on.
    pub(super) fn number(self) -> Number {
        Number::from_bits(self.who)
    }
}
