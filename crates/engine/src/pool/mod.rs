//! Pool: tasks for workers that may die at any moment.
//!
//! The process that has tasks creates a [`TaskQueue`]. Each worker opens a [`WorkerEndpoint`]. Tasks are records in
//! shared memory; a worker claims one by a single compare-and-swap. Results come back through a queue.
//! A [`supervisor`] decides when workers are started, stopped and replaced. `README.md` beside this file describes the
//! protocol.
//!
//! Invariant: every submitted task ends exactly once, by one of: a result, an abandonment, a refusal, an overdue
//! report, a cancellation, or [`TaskQueue::lost_by`] naming it as not repeated.

mod assist;
mod chunking;
mod collector;
mod event;
mod layout;
mod message;
mod record;
mod ring;
mod room;
mod scheduler;
pub mod supervisor;
mod task_queue;
mod waiting;
mod worker;

pub use chunking::guided;
pub use collector::{Collector, Order};
pub use event::{Cancelled, Event, Lost, Results, Task};
pub use message::{HEADER as RESULT_HEAD, WorkerMessage};
pub use room::Room;
pub use task_queue::TaskQueue;
pub use worker::{Claim, WorkerEndpoint, WorkerStatus};
