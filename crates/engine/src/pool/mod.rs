//! Pool: tasks for workers that may die at any moment.
//!
//! A [`Board`] is made by the process that has tasks, a [`Workbench`] opened by each worker. Tasks are
//! records in shared memory that workers claim by one compare-and-swap each; results come back through
//! a queue. `README.md` beside this file holds the protocol.
//!
//! Invariant: a task that was submitted ends exactly once, by one of: a result, an abandonment, a
//! refusal, an overdue report, a cancellation, or [`Board::lost_by`] naming it as not repeated.

mod aside;
mod bench;
mod board;
mod desk;
mod ground;
mod guided;
mod record;
mod reply;
mod room;
mod tickets;
mod waiting;

pub use bench::{Claim, Standing, Workbench};
pub use board::{Board, Cancelled, Event, Lost, Task};
pub use guided::guided;
pub use reply::{HEADER as RESULT_HEAD, Reply};
pub use room::Room;
