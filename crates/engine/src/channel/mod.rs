//! Messages between processes: [`Queue`] and [`pipe()`]. README.md in this folder has the protocol.

pub(crate) mod chunk_list;
mod counting;
mod latest;
mod message;
pub(crate) mod pipe;
pub(crate) mod queue;
mod readiness;
mod receive;
mod recovery;
mod send;

pub use message::Message;
pub use message::message_buf::MessageBuf;
pub use pipe::{End, pipe};
pub use queue::Queue;
pub use receive::Watched;
