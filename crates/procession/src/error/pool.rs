//! The errors of pools.

use super::{Panic, debug_as_display};

/// Why a task of a pool returned no result.
///
/// # Examples
/// ```
/// use procession::{Error, Pool, TaskError};
///
/// fn crash() {
///     std::process::abort();
/// }
///
/// # fn main() -> procession::Result<()> {
/// # procession::init();
/// let pool = Pool::new(1)?;
/// match pool.apply(crash, ()) {
///     Err(Error::Task(TaskError::WorkerDied { how, .. })) => assert!(how.contains("SIGABRT")),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Its function panicked.
    #[error(transparent)]
    Panicked(#[from] Panic),
    /// The worker running it died. Other tasks are not affected.
    #[error("the worker {pid} died while it worked on this task: {how}")]
    WorkerDied {
        /// The worker's process id; 0 if unknown.
        pid: u32,
        /// How it ended, as text.
        how: String,
    },
    /// No worker can be started, for example because an initializer fails.
    #[error("the pool has no workers: {0}")]
    NoWorkers(String),
    /// It exceeded its time limit, and its worker was killed.
    #[error("the task did not finish in time")]
    TimedOut,
    /// It was cancelled.
    #[error("the task was cancelled")]
    Cancelled,
    /// The pool ended before it ran.
    #[error("the pool was terminated before this task ran")]
    PoolGone,
    /// Its arguments or its result could not be transferred.
    #[error("the task could not be done: {0}")]
    Undelivered(String),
    /// The result was already returned.
    #[error("the result of this task was already taken")]
    Taken,
    /// The pool was created by another process, and this one is a forked copy of that.
    #[error(
        "this pool, or its task, belongs to process {pid}, which created it: its workers respond only to \
         that process, so process {}, a forked copy of it, would wait for ever; make a pool in each process that uses one",
        std::process::id()
    )]
    NotOurs {
        /// The id of the process that created the pool.
        pid: u32,
    },
}

debug_as_display!(TaskError);
