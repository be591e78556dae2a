//! What can be set about a pool before it is started.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use procession_engine::pool::Board;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::crew::{Crew, Recipe};
use super::worker::Initializer;
use super::{Hall, Limits, Pool, watcher};
use crate::Function;
use crate::call;
use crate::error::Error;

/// Sets up a [`Pool`].
///
/// # Examples
/// ```
/// use procession::{Event, Pool};
/// use std::sync::OnceLock;
///
/// static STOP: OnceLock<Event> = OnceLock::new();
///
/// fn prepare(stop: Event) {
///     STOP.set(stop).unwrap();
/// }
///
/// fn is_stopped(_: u32) -> bool {
///     STOP.get().unwrap().is_set()
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let stop = Event::new()?;
///     let pool = Pool::builder().workers(2).initializer(prepare, stop.clone()).build()?;
///     assert!(!pool.apply(is_stopped, 0)?);
///     stop.set();
///     assert!(pool.apply(is_stopped, 0)?);
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
pub struct PoolBuilder {
    workers: Option<usize>,
    name: Option<String>,
    initializer: Option<Initializer>,
    max_tasks: Option<u64>,
    limits: Limits,
}

impl PoolBuilder {
    /// How many workers; one for each CPU unless said otherwise.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> PoolBuilder {
        self.workers = Some(workers);
        self
    }

    /// The name of the pool: its workers' names begin with it.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.name = Some(name.into());
        self
    }

    /// Has every worker call `function` before its first task.
    ///
    /// Its arguments may refer to shared objects, which tasks' arguments may not. When it panics,
    /// all tasks fail with [`TaskError::NoWorkers`](crate::TaskError::NoWorkers).
    #[must_use]
    pub fn initializer<F, Args, Shape>(mut self, function: F, args: Args) -> PoolBuilder
    where
        F: Function<Args, Shape, Output = ()> + Send + Sync,
        Args: Serialize + DeserializeOwned + Send + Sync + 'static,
        Shape: 'static,
    {
        let args = [args];
        self.initializer = Some(Initializer::Recipe(Arc::new(move || {
            call::order(&function, &args)
        })));
        self
    }

    /// Replaces each worker after this many tasks (chunks, for [`Pool::map`]).
    ///
    /// # Panics
    /// When `tasks` is zero.
    #[must_use]
    pub fn max_tasks(mut self, tasks: u64) -> PoolBuilder {
        assert!(tasks > 0, "a worker that does no tasks is of no use");
        self.max_tasks = Some(tasks);
        self
    }

    /// How long a task may run once it has begun. Its worker is killed then.
    #[must_use]
    pub fn task_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.limits.timeout = Some(timeout);
        self
    }

    /// How many times a task is tried again when its worker dies over it.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.limits.retries = retries;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// As for [`Pool::new`].
    pub fn build(self) -> Result<Pool, Error> {
        static POOLS: AtomicU32 = AtomicU32::new(0);

        let per_cpu = || std::thread::available_parallelism().map_or(1, usize::from);
        let workers = self.workers.unwrap_or_else(per_cpu);
        if workers == 0 {
            let message = "a pool needs at least one worker".to_owned();
            return Err(procession_engine::Error::Invalid(message).into());
        }
        let name = self
            .name
            .unwrap_or_else(|| format!("Pool-{}", POOLS.fetch_add(1, Ordering::Relaxed) + 1));
        let thread = std::thread::Builder::new().name(format!("{name}-watcher"));
        let recipe = Recipe {
            name,
            initializer: self.initializer,
            max_tasks: self.max_tasks,
        };
        procession_engine::process::ensure()?;
        let board = Board::new()?;
        let mut crew = Crew::new(workers, recipe);
        crew.fill(&board)?;
        let hall = Arc::new(Hall {
            board,
            crew: Mutex::new(crew),
            jobs: Mutex::new(HashMap::new()),
            last_job: AtomicU64::new(0),
            limits: self.limits,
        });
        let watched = Arc::clone(&hall);
        let watcher = thread
            .spawn(move || watcher::watch(&watched))
            .map_err(|source| procession_engine::Error::Os {
                what: "start a thread",
                source,
            })?;
        Ok(Pool {
            hall,
            watcher: Some(watcher),
        })
    }
}
