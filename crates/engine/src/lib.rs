//! The engine of Procession: shared memory, locks, channels and processes that survive each other.
//!
//! It knows bytes and processes, but no types and no language. The layers, from the top. Each uses those below it, with
//! these exceptions: `process`, `objects` and `memory` use each other, and `process` uses parts of `channel` and `sync`.
//!
//! ```text
//! pool        tasks, claims, deadlines, retries, results
//! select      the first of several queues, pipes and processes
//! diagnostics which process holds what and waits for what
//! store       tables of bytes
//! channel     Queue, Pipe        sync  Lock ... Barrier        value  SharedBytes
//! process     process table: join, fork, exit, reap; starting children
//! objects     what lies in blocks: handles, holders, attachments, copy-on-write buffers
//! memory      the arena: segments, blocks, owners, returning idle memory
//! sys         the raw Linux calls
//! ```
//!
//! Every layer follows one rule: a process takes something by ONE compare-and-swap whose new value names the taker. So
//! if a process is killed, stopped or replaced between any two instructions, the others can go on. `memory/README.md`,
//! `channel/README.md` and `pool/README.md` describe the protocols.

#[cfg(not(loom))]
pub mod channel;
#[cfg(not(loom))]
mod deadline;
#[cfg(not(loom))]
pub mod diagnostics;
#[cfg(not(loom))]
pub mod error;
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
pub(crate) mod objects;
#[cfg(not(loom))]
pub mod pool;
#[cfg(not(loom))]
pub mod process;
#[cfg(not(loom))]
mod retries;
#[cfg(not(loom))]
pub mod select;
#[cfg(all(test, not(loom)))]
mod single;
#[cfg(not(loom))]
pub mod store;
#[cfg(not(loom))]
pub mod sync;
mod sys;
#[cfg(not(loom))]
pub mod value;

#[cfg(not(loom))]
pub use deadline::Deadline;
#[cfg(not(loom))]
pub use error::{Error, Result};
#[cfg(not(loom))]
pub use id_map::{IdMap, IdSet};
#[cfg(not(loom))]
pub use in_place::InPlace;
#[cfg(not(loom))]
pub use memory::owner::ProcId;
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

// The models compile only the words of the protocols, over loom's atomics.
#[cfg(loom)]
#[allow(dead_code)]
mod memory {
    pub(crate) mod owner;
}
#[cfg(loom)]
#[allow(dead_code)]
mod channel {
    pub(crate) mod link;
    pub(crate) mod readiness;
    pub(crate) mod skipped;
    pub(crate) mod slot;
    pub(crate) mod tasks_in_hand;
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
    pub(crate) mod eventcount;
    pub(crate) mod lock_state;
}
#[cfg(all(loom, test))]
mod models;
