//! Queues and pipes.

mod batch;
pub mod pipe;
pub mod queue;
