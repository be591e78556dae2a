//! The native part of `Pool`: the loops that run once a task, and what must work without the interpreter.
//!
//! Code that runs once a job, once a worker or once an error is in `procession/pool.py` and the modules it uses.
//!
//! | module | contents |
//! |---|---|
//! | [`jobs`], [`job`], [`result`] | the open jobs of a pool, one job, one result; of process and thread pools |
//! | [`task_queue`], [`chunks`] | the submitting side of a process pool |
//! | [`supervisor`] | what a process pool does about its workers |
//! | [`payload`], [`buffer_cache`] | what a task carries |
//! | [`worker`], [`functions`], [`snapshot`], [`errors`] | the worker's side |

mod buffer_cache;
mod chunks;
mod errors;
mod functions;
mod job;
mod jobs;
mod payload;
mod result;
mod snapshot;
mod supervisor;
mod task_queue;
mod worker;

pub use chunks::PoolRemainder;
pub use job::{NoValue, PoolJob};
pub use jobs::PoolJobs;
pub use payload::PoolFunction;
pub use supervisor::PoolSupervisor;
pub use task_queue::PoolTaskQueue;
pub use worker::PoolWorker;
