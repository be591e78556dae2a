//! Messages between processes: [`Queue`] and [`pipe`]. See README.md in this folder for the protocol.

mod bell;
pub(crate) mod chain;
mod draft;
mod message;
mod newest;
pub(crate) mod pipe;
mod queue;
mod queue_bell;
mod receive;
mod repair;
mod send;
pub(crate) mod slot;
mod strip;
mod tally;

pub use draft::Draft;
pub use message::Message;
pub use pipe::{End, pipe};
pub use queue::Queue;
pub use receive::Watched;
