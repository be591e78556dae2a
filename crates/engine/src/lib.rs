//! The engine of Procession: shared memory, locks, channels and processes that survive each other.
//!
//! It knows bytes and processes, no types and no language. The layers, each using only those below:
//!
//! ```text
//! pool        tasks, claims, deadlines, retries, results
//! select      the first of several queues, pipes and processes
//! process     enter, leave, what became of whom    report  who holds what and waits for what
//! store       tables of bytes
//! channel     Queue, Pipe        sync  Lock ... Barrier        value  SharedBytes
//! arena       segments, blocks, process table, owners, giving back what the dead owned
//! sys         the raw Linux calls
//! ```
//!
//! What every layer keeps to: whoever takes something does it by ONE compare-and-swap whose new value
//! names the taker, so that a process that is killed, stopped or replaced between any two instructions
//! leaves the others going on. `arena/README.md` and `channel/README.md` hold the protocols.

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
pub use memory::owner::ProcId;
#[cfg(not(loom))]
pub use objects::cow_buffer::CowBuffer;
#[cfg(not(loom))]
pub use objects::handle::Handle;
#[cfg(not(loom))]
pub use objects::object_ref::{ObjectRef, Opened};
#[cfg(not(loom))]
pub use objects::private_mapping::{BorrowedBuffer, BufferView};
#[cfg(not(loom))]
pub use sys::{signals, stack};

// The models compile the words of the protocols alone, over loom's atomics.
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
