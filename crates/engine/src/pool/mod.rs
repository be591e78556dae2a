//! Pool: tasks for workers that may die at any moment.
//!
//! A [`TaskQueue`] is made by the process that has tasks, a [`WorkerEndpoint`] opened by each worker. Tasks are
//! records in shared memory that workers claim by one compare-and-swap each; results come back through
//! a queue. `README.md` beside this file holds the protocol.
//!
//! Invariant: a task that was submitted ends exactly once, by one of: a result, an abandonment, a
//! refusal, an overdue report, a cancellation, or [`TaskQueue::lost_by`] naming it as not repeated.

mod assist;
mod chunking;
mod layout;
mod message;
mod record;
mod ring;
mod room;
mod scheduler;
mod task_queue;
mod waiting;
mod worker;

pub use chunking::guided;
pub use message::{HEADER as RESULT_HEAD, WorkerMessage};
pub use room::Room;
pub use task_queue::{Cancelled, Event, Lost, Task, TaskQueue};
pub use worker::{Claim, WorkerEndpoint, WorkerStatus};
