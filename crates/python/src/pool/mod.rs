//! The native part of `Pool`: what has to be fast, and what has to go on without the interpreter.
//!
//! [`ledger`] knows the open jobs and [`job`] collects a job's results; both serve process pools and
//! thread pools. [`board`] is the submitting side of a process pool and [`bench`] its workers' side,
//! with [`payload`] between them and [`chunks`] before them. The loops that run once a task are here; what runs once
//! a job, once a worker or once an error is in `procession/pool.py` and its helpers.

mod buffer_cache;
mod chunks;
mod errors;
mod functions;
mod job;
mod jobs;
mod payload;
mod result;
mod snapshot;
mod task_queue;
mod worker;

pub use chunks::PoolRemainder;
pub use job::{NoValue, PoolJob};
pub use jobs::PoolJobs;
pub use payload::PoolFunction;
pub use task_queue::PoolTaskQueue;
pub use worker::PoolWorker;
