//! What the arena must know about the things that lie in it: how to take them apart.
//!
//! This is the one module that calls upwards: a sweep that finds an object that a dead process left half made or half
//! freed asks the layer that the object belongs to.

use crate::channel::{chunk_list, pipe, retire};
use crate::memory::Arena;
use crate::memory::block::BlockId;
use crate::memory::owner::Owner;
use crate::objects::object::Kind;

/// Frees what an object owns besides its block. Another process may start it again.
pub(crate) fn contents(arena: &Arena, kind: Kind, block: BlockId) {
    if matches!(kind, Kind::Queue | Kind::Pipe) {
        chunk_list::dismantle_all(arena, kind, block);
    }
}

/// Tells the holders of an object that another holder is gone.
pub(crate) fn holder_is_gone(arena: &Arena, kind: Kind, block: BlockId) {
    if kind == Kind::Pipe {
        pipe::holder_is_gone(arena, block);
    }
}

/// Finishes the removal of a chunk from its queue that a dead process had begun.
pub(crate) fn retiring_chunk(arena: &Arena, chunk: BlockId, from: Owner) {
    retire::finish_retiring(arena, chunk, from);
}

/// Finishes or undoes the linking of a chunk that a dead process was about to link, or had just linked.
pub(crate) fn unfinished_chunk(arena: &Arena, chunk: BlockId, from: Owner) {
    chunk_list::finish_linking(arena, chunk, from);
}

/// Frees a chunk that a dead process had not begun to link, or had already taken out.
pub(crate) fn unlinked_chunk(arena: &Arena, chunk: BlockId, from: Owner) {
    chunk_list::free_unlinked(arena, chunk, from);
}

/// Runs before the pages of a free chunk are returned to the system, in the process that took the chunk: the chunk
/// has no generation until it is used again.
pub(crate) fn empty_chunk(arena: &Arena, chunk: BlockId) {
    chunk_list::empty(arena, chunk);
}
