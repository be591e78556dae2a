//! The engine of Procession: shared memory, locks, channels and processes that survive each other.
//!
//! It knows bytes and processes, but no types and no language. The layers, from the top. Each uses only those below it:
//!
//! ```text
//! pool          tasks, claims, deadlines, retries, results
//! select        the first of several queues, pipes and processes
//! diagnostics   which process holds what and waits for what
//! process       join, fork, exit, reap; starting children
//! channel       Queue, Pipe                     store   tables of bytes
//! sync          Lock ... Barrier                value   SharedBytes
//! objects       what lies in blocks: handles, holders, attachments, copy-on-write buffers
//! memory        taking and freeing blocks, limits, returning idle memory
//! process_table who is in the tree, and who is alive
//! arena         where everything lies: file, root, segments, blocks, owners
//! sys           the raw Linux calls
//! ```
//!
//! What a layer needs of those above it, it calls through a table, `arena/upcalls.rs`, which is filled below.
//!
//! Every layer follows one rule: a process takes something by ONE compare-and-swap whose new value names the taker. So
//! if a process is killed, stopped or replaced between any two instructions, the others can go on. `memory/README.md`,
//! `channel/README.md` and `pool/README.md` describe the protocols.

#[cfg(not(loom))]
mod arena;
#[cfg(not(loom))]
pub mod channel;
#[cfg(not(loom))]
mod deadline;
#[cfg(not(loom))]
pub mod diagnostics;
#[cfg(not(loom))]
pub mod error;
mod eventcount;
#[cfg(all(not(loom), feature = "kill-points"))]
pub mod failpoint;
#[cfg(all(not(loom), not(feature = "kill-points")))]
pub(crate) mod failpoint;
#[cfg(not(loom))]
mod id_map;
#[cfg(not(loom))]
pub mod in_place;
#[cfg(not(loom))]
pub(crate) mod memory;
#[cfg(not(loom))]
mod numbered;
#[cfg(not(loom))]
pub(crate) mod objects;
#[cfg(not(loom))]
pub mod pool;
#[cfg(not(loom))]
pub mod process;
#[cfg(not(loom))]
mod process_table;
#[cfg(not(loom))]
mod retries;
#[cfg(not(loom))]
pub mod select;
#[cfg(not(loom))]
pub mod store;
#[cfg(not(loom))]
pub mod sync;
mod sys;
#[cfg(not(loom))]
pub mod value;

#[cfg(not(loom))]
pub use arena::owner::ProcId;
#[cfg(not(loom))]
pub use deadline::Deadline;
#[cfg(not(loom))]
pub use error::{Error, Result};
#[cfg(not(loom))]
pub use id_map::{IdMap, IdSet};
#[cfg(not(loom))]
pub use in_place::InPlace;
#[cfg(not(loom))]
pub use objects::cow_buffer::CowBuffer;
#[cfg(not(loom))]
pub use objects::handle::Handle;
#[cfg(not(loom))]
pub use objects::object_ref::{ObjectRef, Opened};
#[cfg(not(loom))]
pub use objects::private_mapping::BorrowedBuffer;
#[cfg(not(loom))]
pub use sys::known_fd::FileId;
#[cfg(not(loom))]
pub use sys::poll::PollSet;
#[cfg(not(loom))]
pub use sys::{signals, stack};

/// What lower layers ask of upper ones. Here, because only the root knows all layers.
#[cfg(not(loom))]
static UPCALLS: arena::upcalls::Upcalls = arena::upcalls::Upcalls {
    join: process::join::join,
    claim_new_entry: arena::Arena::claim_new_entry,
    reap_dead: arena::Arena::sweep,
    free_attachments: arena::Arena::free_attachments,
    empty_chunk: channel::chunk_list::empty,
    collapse_unshared: |arena, must_stop| arena.collapse_unshared(must_stop),
    kind_ops,
};

#[cfg(not(loom))]
fn kind_ops(kind: arena::kind::Kind) -> &'static arena::upcalls::KindOps {
    use arena::kind::Kind;
    match kind {
        Kind::Bytes | Kind::Attachments => &memory::block::BYTES,
        Kind::Label => &objects::labels::LABEL,
        Kind::Part => &objects::object::PART,
        Kind::Lock | Kind::RLock => &sync::robust_lock::LOCK,
        Kind::Chunk => &channel::chunk_list::CHUNK,
        Kind::Queue => &channel::queue::QUEUE,
        Kind::Pipe => &channel::pipe::PIPE,
        Kind::Semaphore
        | Kind::Condition
        | Kind::Event
        | Kind::Barrier
        | Kind::Value
        | Kind::CowBuffer
        | Kind::RwLock => &objects::object::OBJECT,
    }
}

// The models compile only the words of the protocols, over loom's atomics.
#[cfg(loom)]
#[allow(dead_code)]
mod arena {
    pub(crate) mod owner;
}
#[cfg(loom)]
#[allow(dead_code)]
mod channel {
    pub(crate) mod chunk_list {
        pub(crate) mod link;
        pub(crate) mod skipped;
        pub(crate) mod slot;
    }
    pub(crate) mod counting {
        pub(crate) mod tasks_in_hand;
    }
    pub(crate) mod readiness;
}
#[cfg(loom)]
#[allow(dead_code)]
mod pool {
    pub(crate) mod record;
    pub(crate) mod ring;
}
#[cfg(loom)]
#[allow(dead_code)]
mod sync {
    pub(crate) mod lock_state;
}
#[cfg(all(loom, test))]
mod models;
