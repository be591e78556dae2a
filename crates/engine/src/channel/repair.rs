//! Slots that the dead left claimed or taken.
//!
//! Whoever meets one decides its fate by the same rule, in one compare-and-swap:
//!
//! | slot | its block | becomes |
//! |---|---|---|
//! | CLAIMED(dead) | there is none, or not the slot's yet | PAD; where tasks are counted LOST, then PAD |
//! | CLAIMED(dead) | the slot's: the message is whole | READY |
//! | TAKEN(dead) | there is none, or still the slot's | READY, given again |
//! | TAKEN(dead) | not the slot's any more: it was handed over | DONE, lost with its reader |

use std::sync::atomic::Ordering;

use super::chain::{At, JOINABLE};
use super::send::slot_owner;
use super::slot::{Phase, View};
use super::strip::Strip;
use crate::arena::block::BlockId;
use crate::kill;

/// What is in a slot, after a dead process's part in it was settled.
#[inline]
pub(super) fn look(at: &At<'_>, strip: &Strip<'_>, index: u32) -> View {
    match strip.slot(index).word.look().view(strip.inc()) {
        View::In(Phase::Claimed(_) | Phase::Taken(_) | Phase::Lost) => {
            look_at_owned(at, strip, index)
        }
        view => view,
    }
}

#[inline(never)]
fn look_at_owned(at: &At<'_>, strip: &Strip<'_>, index: u32) -> View {
    let slot = strip.slot(index);
    loop {
        let view = slot.word.look().view(strip.inc());
        let (from, owner) = match view {
            View::In(from @ (Phase::Claimed(owner) | Phase::Taken(owner))) => (from, owner),
            View::In(Phase::Lost) => match at.discount(strip, index) {
                Ok(()) => {
                    at.chain.finished.notify(u32::MAX);
                    continue;
                }
                Err(_) => return view,
            },
            _ => return view,
        };
        if !at.arena.is_dead(owner) {
            return view;
        }
        kill::point("repair.found");
        let to = fate(at, strip, index, from);
        if slot.word.pass(strip.inc(), from, to) {
            kill::point("repair.settled");
            match to {
                Phase::Ready => at.chain.items.notify(1),
                _ => at.chain.space.notify(u32::MAX),
            }
            if to != Phase::Ready {
                at.chain.finished.notify(u32::MAX);
            }
        }
    }
}

fn fate(at: &At<'_>, strip: &Strip<'_>, index: u32, from: Phase) -> Phase {
    let slot = strip.slot(index);
    let block = BlockId::new(slot.block.load(Ordering::Acquire));
    let is_slots = |block: BlockId| {
        at.arena
            .cell(block)
            .is_ok_and(|cell| cell.owner.is(slot_owner(strip, index)))
    };
    match (from, block) {
        // The number may be left over from an earlier message; then the block is not this slot's.
        (Phase::Claimed(_), Some(block)) if is_slots(block) => Phase::Ready,
        (Phase::Claimed(_), _) if at.has(JOINABLE) => Phase::Lost,
        (Phase::Claimed(_), _) => Phase::Pad,
        (Phase::Taken(_), Some(block)) if !is_slots(block) => Phase::Done,
        _ => Phase::Ready,
    }
}
