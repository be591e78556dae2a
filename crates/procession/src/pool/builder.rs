//! The settings of a pool.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use procession_engine::pool::TaskQueue;
use procession_engine::process::child::Function as PlainFunction;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Pool;
use super::handle::PoolHandle;
use super::local::Local;
use super::shared::{Limits, PoolShared};
use super::worker::Initializer;
use super::workers::WorkerConfig;
use crate::error::Error;
use crate::transfer::call;
use crate::transfer::function::Function;
use crate::transfer::worker_state;

/// Configures and starts a [`Pool`].
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
#[derive(Debug)]
pub struct PoolBuilder<S = ()> {
    workers: Option<usize>,
    name: Option<String>,
    initializer: Option<Initializer>,
    state: Option<Initializer>,
    max_tasks: Option<u64>,
    max_pending: Option<usize>,
    limits: Limits,
    _state: PhantomData<fn(&mut S)>,
}

impl Default for PoolBuilder {
    fn default() -> PoolBuilder {
        PoolBuilder {
            workers: None,
            name: None,
            initializer: None,
            state: None,
            max_tasks: None,
            max_pending: None,
            limits: Limits::default(),
            _state: PhantomData,
        }
    }
}

impl<S: 'static> PoolBuilder<S> {
    /// Sets the number of workers. The default is one for each CPU that this process may use
    /// ([`available_parallelism`](std::thread::available_parallelism)).
    ///
    /// # Examples
    /// ```
    /// use procession::Pool;
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let pool = Pool::builder().workers(2).build()?;
    /// assert_eq!(pool.worker_ids().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn workers(mut self, workers: usize) -> PoolBuilder<S> {
        self.workers = Some(workers);
        self
    }

    /// Sets the name of the pool, with which the names of its workers begin.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder<S> {
        self.name = Some(name.into());
        self
    }

    /// Makes every worker call `function` before its first task.
    ///
    /// The arguments may refer to shared objects; the arguments of tasks may not. When `function` panics,
    /// all tasks fail with [`TaskError::NoWorkers`](crate::TaskError::NoWorkers).
    #[must_use]
    pub fn initializer<F, Args, Shape>(mut self, function: F, args: Args) -> PoolBuilder<S>
    where
        F: Function<Args, Shape, Output = ()> + Send + Sync,
        Args: Serialize + DeserializeOwned + Send + Sync + 'static,
        Shape: 'static,
    {
        let args = [args];
        self.initializer = Some(Initializer::Encode(Arc::new(move || {
            call::request(&function, &args)
        })));
        self
    }

    /// Makes every worker create a state by calling `make`, after the initializer and before its first
    /// task: a connection, a large table, a cache. The state never leaves its worker, so it may be of any
    /// type.
    ///
    /// A task receives the state as the first argument of its function, a `&mut S`. Functions without that
    /// argument run as usual.
    ///
    /// A panic may leave the state half changed. The state of a panicking function is therefore dropped,
    /// and the next task that needs a state gets a new one. When `make` panics in that case, the task fails
    /// with the panic. When `make` panics as a worker starts, all tasks fail with
    /// [`TaskError::NoWorkers`](crate::TaskError::NoWorkers). A worker that ends normally (the pool is
    /// joined, dropped or made smaller) drops its state; a killed worker does not.
    ///
    /// # Examples
    /// ```
    /// use procession::Pool;
    /// use std::collections::HashMap;
    ///
    /// struct Squares(HashMap<u64, u64>);
    ///
    /// fn make(room: usize) -> Squares {
    ///     Squares(HashMap::with_capacity(room))
    /// }
    ///
    /// fn square(known: &mut Squares, n: u64) -> u64 {
    ///     *known.0.entry(n).or_insert_with(|| n * n)
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let pool = Pool::builder().workers(2).state(make, 100).build()?;
    ///     assert_eq!(pool.map(square, [1, 2, 3, 2, 1])?, [1, 4, 9, 4, 1]);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// A function that takes another type of state does not compile:
    ///
    /// ```compile_fail,E0277
    /// use procession::Pool;
    ///
    /// fn make() -> String {
    ///     String::new()
    /// }
    ///
    /// fn push(numbers: &mut Vec<u64>, n: u64) {
    ///     numbers.push(n);
    /// }
    ///
    /// let pool = Pool::builder().state(make, ()).build().unwrap();
    /// pool.apply(push, 1u64).unwrap();
    /// ```
    #[must_use]
    pub fn state<F, Args, Shape>(self, make: F, args: Args) -> PoolBuilder<F::Output>
    where
        F: PlainFunction<Args, Shape>,
        F::Output: 'static,
        Args: Serialize + DeserializeOwned + Send + Sync + 'static,
        Shape: 'static,
    {
        let encode = move || worker_state::init_request(make, &args);
        PoolBuilder {
            workers: self.workers,
            name: self.name,
            initializer: self.initializer,
            state: Some(Initializer::Encode(Arc::new(encode))),
            max_tasks: self.max_tasks,
            max_pending: self.max_pending,
            limits: self.limits,
            _state: PhantomData,
        }
    }

    /// Replaces each worker after `tasks` tasks. A chunk of [`map`](PoolHandle::map) counts as one task.
    ///
    /// # Panics
    /// Panics when `tasks` is zero.
    ///
    /// # Examples
    /// ```
    /// use procession::Pool;
    ///
    /// fn id() -> u32 {
    ///     std::process::id()
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let pool = Pool::builder().workers(1).max_tasks(1).build()?;
    /// assert_ne!(pool.apply(id, ())?, pool.apply(id, ())?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_tasks(mut self, tasks: u64) -> PoolBuilder<S> {
        assert!(tasks > 0, "a worker that runs no tasks is of no use");
        self.max_tasks = Some(tasks);
        self
    }

    /// Bounds the number of pending tasks, that is, tasks submitted and not yet finished. The default is no
    /// bound.
    ///
    /// Submitting more waits for room, except with [`try_submit`](PoolHandle::try_submit) and
    /// [`submit_timeout`](PoolHandle::submit_timeout). A chunk of [`map`](PoolHandle::map) counts as one task.
    ///
    /// # Panics
    /// Panics when `tasks` is zero.
    #[must_use]
    pub fn max_pending(mut self, tasks: usize) -> PoolBuilder<S> {
        assert!(tasks > 0, "a pool without room for tasks is of no use");
        self.max_pending = Some(tasks);
        self
    }

    /// Limits the time each task may run, measured by the clock from its start, including time spent
    /// sleeping or in system calls. After that time its worker is killed and the task fails with
    /// [`TaskError::TimedOut`](crate::TaskError::TimedOut). In [`map`](PoolHandle::map) the limit applies to each item.
    ///
    /// # Examples
    /// ```
    /// use procession::{Error, Pool, TaskError};
    /// use std::time::Duration;
    ///
    /// fn sleep(time: Duration) {
    ///     std::thread::sleep(time);
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let pool = Pool::builder().workers(1).task_timeout(Duration::from_millis(50)).build()?;
    /// let error = pool.apply(sleep, Duration::from_secs(60)).unwrap_err();
    /// assert!(matches!(error, Error::Task(TaskError::TimedOut)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn task_timeout(mut self, timeout: Duration) -> PoolBuilder<S> {
        self.limits.timeout = Some(timeout);
        self
    }

    /// Sets how often a task is retried when its worker dies while running it. A task that exceeds its time
    /// limit is not retried.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> PoolBuilder<S> {
        self.limits.retries = retries;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// The same as for [`Pool::new`].
    pub fn build(self) -> Result<Pool<S>, Error> {
        static POOLS: AtomicU32 = AtomicU32::new(0);

        let per_cpu = || std::thread::available_parallelism().map_or(1, usize::from);
        let workers = at_least_one(self.workers.unwrap_or_else(per_cpu))?;
        let name = self
            .name
            .unwrap_or_else(|| format!("Pool-{}", POOLS.fetch_add(1, Ordering::Relaxed) + 1));
        let thread = std::thread::Builder::new().name(format!("{name}-watcher"));
        let config = WorkerConfig {
            name,
            initializers: self.initializer.into_iter().chain(self.state).collect(),
            max_tasks: self.max_tasks,
        };
        procession_engine::process::ensure()?;
        let task_queue = TaskQueue::new()?;
        let shared = PoolShared::new(task_queue, workers, config, self.max_pending);
        shared.start_missing()?;
        let handle = PoolHandle::new(shared, self.limits);
        let watched = Arc::clone(handle.shared.expect());
        let watcher = thread.spawn(move || watched.watch()).map_err(|source| {
            procession_engine::Error::Os {
                what: "start a thread",
                source,
            }
        })?;
        Ok(Pool {
            handle,
            watcher: Local::new(Some(watcher)),
        })
    }
}

/// Returns `workers`, or an error when it is zero.
pub(super) fn at_least_one(workers: usize) -> Result<usize, Error> {
    if workers == 0 {
        let message = "a pool needs at least one worker".to_owned();
        return Err(procession_engine::Error::Invalid(message).into());
    }
    Ok(workers)
}
