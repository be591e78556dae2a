//! How `qsize`, `task_done` and `join` are computed.
//!
//! Nothing is counted while messages move: a counter stays wrong for ever once a process died between two steps. The
//! numbers are read from the slots, and from words that name their process.

pub(crate) mod message_count;
pub(crate) mod task_done;
pub(crate) mod tasks_in_hand;
