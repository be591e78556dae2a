//! What the arena must know about the things that lie in it: how to take them apart.
//!
//! The one place where an arrow points up: a sweep that finds a dead process's half-made or half-freed
//! thing asks the layer it belongs to.

use crate::arena::Arena;
use crate::arena::block::BlockId;
use crate::arena::object::Kind;
use crate::arena::owner::Owner;
use crate::channel::{chain, pipe, retire};

/// Frees what an object owns beside its block. May be begun again by another process.
pub(crate) fn contents(arena: &Arena, kind: Kind, block: BlockId) {
    if matches!(kind, Kind::Queue | Kind::Pipe) {
        chain::dismantle_all(arena, kind, block);
    }
}

/// Tells those who hold an object that a process that held it too is gone.
pub(crate) fn holder_is_gone(arena: &Arena, kind: Kind, block: BlockId) {
    if kind == Kind::Pipe {
        pipe::holder_is_gone(arena, block);
    }
}

/// Finishes what a dead process began when it took a strip out of its queue.
pub(crate) fn retiring_strip(arena: &Arena, strip: BlockId, from: Owner) {
    retire::finish_retiring(arena, strip, from);
}

/// Decides about a strip that a dead process was about to link, or had just linked.
pub(crate) fn unfinished_strip(arena: &Arena, strip: BlockId, from: Owner) {
    chain::finish_linking(arena, strip, from);
}

/// Frees a strip that a dead process had not begun to make, or had taken out already.
pub(crate) fn unlinked_strip(arena: &Arena, strip: BlockId, from: Owner) {
    chain::free_unlinked(arena, strip, from);
}

/// Before the memory of a free strip is given back, by whoever took it: it has no life until it is used again.
pub(crate) fn empty_strip(arena: &Arena, strip: BlockId) {
    chain::empty(arena, strip);
}
