//! Queues and pipes: messages between processes.
//!
//! Messages are values that serde carries, or [`loan`]s, which are written and read in place.

#[cfg(feature = "async")]
pub(crate) mod futures;
pub(crate) mod joinable;
pub(crate) mod loan;
pub(crate) mod pipe;
pub(crate) mod queue;
