//! Queues and pipes: messages between processes.

#[cfg(feature = "async")]
pub(crate) mod futures;
pub(crate) mod joinable;
pub(crate) mod loan;
pub(crate) mod pipe;
pub(crate) mod queue;
#[cfg(feature = "async")]
pub(crate) mod reactor;
pub(crate) mod select;
