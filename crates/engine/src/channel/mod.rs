//! Messages between processes: [`Queue`] and [`pipe`]. See README.md in this folder for the protocol.

mod bell;
pub(crate) mod chain;
mod draft;
mod link;
mod message;
mod newest;
mod over;
mod pads;
pub(crate) mod pipe;
mod queue;
mod queue_bell;
mod queue_pipe;
mod receive;
mod repair;
pub(crate) mod retire;
mod send;
pub(crate) mod slot;
mod strip;
mod taker;
mod tally;
mod tasks;

pub use draft::Draft;
pub use message::Message;
pub use pipe::{End, pipe};
pub use queue::Queue;
pub use receive::Watched;
