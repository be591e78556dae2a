//! Messages between processes: [`Queue`] and [`pipe()`]. README.md in this folder has the protocol.

mod chunk;
pub(crate) mod chunk_list;
mod done_marks;
mod latest;
mod link;
mod message;
mod message_buf;
mod message_count;
pub(crate) mod pipe;
pub(crate) mod queue;
mod queue_pipe;
mod queue_readiness;
mod readiness;
mod receive;
mod recovery;
mod retire;
mod send;
mod skipped;
pub(crate) mod slot;
mod task_done;
mod tasks_in_hand;

pub use message::Message;
pub use message_buf::MessageBuf;
pub use pipe::{End, pipe};
pub use queue::Queue;
pub use receive::Watched;
