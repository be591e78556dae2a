//! Upcalls: what a layer asks of the layers above it.
//!
//! A layer knows only the layers below it. But memory is reclaimed from dead processes, and only the layer of an object
//! knows how to take it apart. So the types of such calls are here, at the bottom, and each upper layer provides the
//! functions. The root of the engine, which knows all layers, puts them together in one constant table. All of them are
//! cold: no message, lock or task passes here.

use crate::arena::Arena;
use crate::arena::cell::{BlockId, Cell};
use crate::arena::kind::Kind;
use crate::arena::owner::{Owner, ProcId};
use crate::error::Result;

/// What lower layers ask, apart from the [kinds](KindOps).
pub(crate) struct Upcalls {
    /// Gives this process an arena of its own, unless it has one.
    pub(crate) join: fn() -> Result<&'static Arena>,
    /// Gives an entry to the child of a raw `clone`.
    pub(crate) claim_new_entry: fn(&Arena) -> Result<ProcId>,
    /// Reaps every dead process. Returns their number.
    pub(crate) reap_dead: fn(&Arena) -> usize,
    /// Frees a block with attachments that `from` owns, and releases the objects it held.
    pub(crate) free_attachments: fn(&Arena, BlockId, &Cell, from: Owner) -> bool,
    /// Runs before the pages of a free block for chunks are returned to the system, in the process that took it.
    pub(crate) empty_chunk: fn(&Arena, BlockId),
    /// Moves pages out of the file that only this process still uses, until `must_stop`.
    pub(crate) collapse_unshared: fn(&Arena, must_stop: fn() -> bool),
    pub(crate) kind_ops: fn(Kind) -> &'static KindOps,
}

/// What blocks of one kind need of the layer that they belong to.
pub(crate) struct KindOps {
    /// Releases a block of which a dead process was the owner `from`. Does nothing if another process did it.
    pub(crate) reclaim: fn(&Arena, BlockId, from: Owner),
    /// Frees what an object owns besides its block and its parts. Another process may start it again.
    pub(crate) take_apart: fn(&Arena, BlockId),
    /// Tells the holders of an object that another holder has died.
    pub(crate) holder_died: fn(&Arena, BlockId),
    /// Prepares an object for the orderly exit of a holder, which is this process.
    pub(crate) holder_leaves: fn(&'static Arena, BlockId, ProcId),
}

impl KindOps {
    /// For a kind of which only the block matters.
    pub(crate) const fn of_block(reclaim: fn(&Arena, BlockId, Owner)) -> KindOps {
        KindOps {
            reclaim,
            take_apart: |_, _| (),
            holder_died: |_, _| (),
            holder_leaves: |_, _, _| (),
        }
    }
}

/// The table.
pub(crate) fn upcalls() -> &'static Upcalls {
    &crate::UPCALLS
}

/// What blocks of a kind need.
pub(crate) fn ops_of(kind: Kind) -> &'static KindOps {
    (upcalls().kind_ops)(kind)
}
