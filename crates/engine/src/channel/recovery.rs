//! Decides what happens to slots that a dead process had claimed or was reading.
//!
//! Every process that meets such a slot applies the same rule, in one compare-and-swap:
//!
//! | slot | its block | becomes |
//! |---|---|---|
//! | RESERVED(dead) | none, or not the slot's yet | SKIPPED; where tasks are counted LOST, then SKIPPED |
//! | RESERVED(dead) | the slot's: the message is complete | READY |
//! | RECEIVING(dead) | none, or still the slot's | READY, delivered again |
//! | RECEIVING(dead) | no longer the slot's: it was handed over | DONE, lost with its reader |

use std::sync::atomic::Ordering;

use crate::arena::cell::BlockId;
use crate::channel::chunk_list::chunk::Chunk;
use crate::channel::chunk_list::slot::{Phase, View};
use crate::channel::chunk_list::{JOINABLE, ListCursor};
use crate::channel::send::slot_owner;
use crate::failpoint;

/// The state of a slot, after a dead process's part in it was settled.
#[inline]
pub(super) fn look(cursor: &ListCursor<'_>, chunk: &Chunk<'_>, index: u32) -> View {
    match chunk.slot(index).word.look().view(chunk.inc()) {
        View::In(Phase::Reserved(_) | Phase::Receiving(_) | Phase::Lost) => {
            settle_owned(cursor, chunk, index)
        }
        view => view,
    }
}

#[inline(never)]
fn settle_owned(cursor: &ListCursor<'_>, chunk: &Chunk<'_>, index: u32) -> View {
    let slot = chunk.slot(index);
    loop {
        let view = slot.word.look().view(chunk.inc());
        let (from, owner) = match view {
            View::In(from @ (Phase::Reserved(owner) | Phase::Receiving(owner))) => (from, owner),
            View::In(Phase::Lost) => match cursor.discount(chunk, index) {
                Ok(()) => {
                    cursor.chain.finished.notify(u32::MAX);
                    continue;
                }
                Err(_) => return view,
            },
            _ => return view,
        };
        if !cursor.arena.is_dead(owner) {
            return view;
        }
        failpoint::hit("repair.found");
        let to = settled_phase(cursor, chunk, index, from);
        if slot.word.pass(chunk.inc(), from, to) {
            failpoint::hit("repair.settled");
            match to {
                Phase::Ready => cursor.chain.items.notify(1),
                _ => cursor.chain.space.notify(u32::MAX),
            }
            if to != Phase::Ready {
                cursor.chain.finished.notify(u32::MAX);
            }
        }
    }
}

fn settled_phase(cursor: &ListCursor<'_>, chunk: &Chunk<'_>, index: u32, from: Phase) -> Phase {
    let slot = chunk.slot(index);
    let block = BlockId::new(slot.block.load(Ordering::Acquire));
    let is_owned_by_slot = |block: BlockId| {
        cursor
            .arena
            .cell(block)
            .is_ok_and(|cell| cell.owner.is(slot_owner(chunk, index)))
    };
    match (from, block) {
        // The number may be left over from an earlier message; then the block is not this slot's.
        (Phase::Reserved(_), Some(block)) if is_owned_by_slot(block) => Phase::Ready,
        (Phase::Reserved(_), _) if cursor.has(JOINABLE) => Phase::Lost,
        (Phase::Reserved(_), _) => Phase::Skipped,
        (Phase::Receiving(_), Some(block)) if !is_owned_by_slot(block) => Phase::Done,
        _ => Phase::Ready,
    }
}
