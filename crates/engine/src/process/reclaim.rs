//! What the arena must know about the things that lie in it: how to take them apart.
//!
//! The one place where an arrow points up: a sweep that finds a dead process's half-made or half-freed
//! thing asks the layer it belongs to.

use crate::channel::{chunk_list, pipe, retire};
use crate::memory::Arena;
use crate::memory::block::BlockId;
use crate::memory::owner::Owner;
use crate::objects::object::Kind;

/// Frees what an object owns beside its block. May be begun again by another process.
pub(crate) fn contents(arena: &Arena, kind: Kind, block: BlockId) {
    if matches!(kind, Kind::Queue | Kind::Pipe) {
        chunk_list::dismantle_all(arena, kind, block);
    }
}

/// Tells those who hold an object that a process that held it too is gone.
pub(crate) fn holder_is_gone(arena: &Arena, kind: Kind, block: BlockId) {
    if kind == Kind::Pipe {
        pipe::holder_is_gone(arena, block);
    }
}

/// Finishes what a dead process began when it took a chunk out of its queue.
pub(crate) fn retiring_chunk(arena: &Arena, chunk: BlockId, from: Owner) {
    retire::finish_retiring(arena, chunk, from);
}

/// Decides about a chunk that a dead process was about to link, or had just linked.
pub(crate) fn unfinished_chunk(arena: &Arena, chunk: BlockId, from: Owner) {
    chunk_list::finish_linking(arena, chunk, from);
}

/// Frees a chunk that a dead process had not begun to make, or had taken out already.
pub(crate) fn unlinked_chunk(arena: &Arena, chunk: BlockId, from: Owner) {
    chunk_list::free_unlinked(arena, chunk, from);
}

/// Before the memory of a free chunk is given back, by whoever took it: it has no life until it is used again.
pub(crate) fn empty_chunk(arena: &Arena, chunk: BlockId) {
    chunk_list::empty(arena, chunk);
}
