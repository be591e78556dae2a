//! The native part of `Pool`: what has to be fast, and what has to go on without the interpreter.
//!
//! [`ledger`] knows the open jobs and [`job`] collects a job's results; both serve process pools and
//! thread pools. [`board`] is the submitting side of a process pool and [`bench`] its workers' side,
//! with [`payload`] between them and [`chunks`] before them. The loops that run once a task are here; what runs once
//! a job, once a worker or once an error is in `procession/pool.py` and its helpers.

mod bench;
mod board;
mod chunks;
mod common;
mod failure;
mod functions;
mod job;
mod ledger;
mod part;
mod payload;
mod unchanged;

pub use bench::PoolBench;
pub use board::PoolBoard;
pub use chunks::PoolRest;
pub use job::{NoValue, PoolJob};
pub use ledger::PoolLedger;
pub use payload::PoolFunction;
