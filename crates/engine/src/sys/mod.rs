//! The raw Linux calls, each behind a safe function whose documentation says what it promises.
//!
//! Every file here follows the same rules: no state of its own, errors as values, no knowledge of what lies in the
//! shared memory.

pub(crate) mod atomic;
#[cfg(not(loom))]
pub(crate) mod cpu;
#[cfg(not(loom))]
pub(crate) mod elevated;
#[cfg(not(loom))]
pub(crate) mod futex;
#[cfg(not(loom))]
pub(crate) mod known_fd;
#[cfg(not(loom))]
#[cfg_attr(miri, path = "memfd/miri.rs")]
pub(crate) mod memfd;
#[cfg(not(loom))]
pub(crate) mod memory_left;
#[cfg(not(loom))]
pub(crate) mod pagemap;
#[cfg(not(loom))]
pub(crate) mod pid;
#[cfg(not(loom))]
pub(crate) mod poll;
#[cfg(not(loom))]
pub(crate) mod robust_mutex;
#[cfg(not(loom))]
pub mod signals;
#[cfg(not(loom))]
pub mod stack;
#[cfg(not(loom))]
pub(crate) mod thread;
