//! What can be set about a pool before it is started.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use procession_engine::pool::Board;
use procession_engine::process::child::Function as PlainFunction;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::local::Local;
use super::shared::{Limits, PoolShared};
use super::worker::Initializer;
use super::worker_set::{WorkerConfig, WorkerSet};
use super::{Pool, PoolInner, state, watcher};
use crate::Function;
use crate::error::Error;
use crate::transfer::call;

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
    /// How many workers; unless said otherwise one for each CPU that this process may use
    /// ([`available_parallelism`](std::thread::available_parallelism)).
    #[must_use]
    pub fn workers(mut self, workers: usize) -> PoolBuilder<S> {
        self.workers = Some(workers);
        self
    }

    /// The name of the pool: its workers' names begin with it.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder<S> {
        self.name = Some(name.into());
        self
    }

    /// Has every worker call `function` before its first task.
    ///
    /// Its arguments may refer to shared objects, which tasks' arguments may not. When it panics,
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

    /// Has every worker make a state of its own by calling `make`, after the initializer and before
    /// its first task: a connection, a large table, a cache. It can be of any type, since it never
    /// leaves its worker.
    ///
    /// A task gets at it as the first argument of its function, which is a `&mut S`; functions that
    /// need no state do without.
    ///
    /// A panic may leave the state half changed. So the state that a panicking function had is
    /// dropped, and the next that asks for it gets a new one. When `make` panics then, that call
    /// fails with its panic; when it panics as a worker begins, all tasks fail with
    /// [`TaskError::NoWorkers`](crate::TaskError::NoWorkers). When a worker ends in order, as when the
    /// pool is joined, dropped or made smaller, its state is dropped; when it is killed, it is not.
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
    /// A function that asks for another state does not compile:
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
        let encode = move || state::init_request(make, &args);
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

    /// Replaces each worker after this many tasks (chunks, for [`Pool::map`]).
    ///
    /// # Panics
    /// When `tasks` is zero.
    #[must_use]
    pub fn max_tasks(mut self, tasks: u64) -> PoolBuilder<S> {
        assert!(tasks > 0, "a worker that does no tasks is of no use");
        self.max_tasks = Some(tasks);
        self
    }

    /// How many tasks may be pending, which is to say submitted and not ended. Without a bound, they
    /// are as many as are submitted.
    ///
    /// Who submits more waits until there is room, but for [`try_submit`](Pool::try_submit) and
    /// [`submit_timeout`](Pool::submit_timeout). A chunk of [`Pool::map`] is one task.
    ///
    /// # Panics
    /// When `tasks` is zero.
    #[must_use]
    pub fn max_pending(mut self, tasks: usize) -> PoolBuilder<S> {
        assert!(tasks > 0, "a pool without room for tasks is of no use");
        self.max_pending = Some(tasks);
        self
    }

    /// How long a task may run by the clock once it has begun, also when it sleeps or is stuck in a system call. Its
    /// worker is killed then, and it fails with [`TaskError::TimedOut`](crate::TaskError::TimedOut). In
    /// [`Pool::map`] each item has that time.
    #[must_use]
    pub fn task_timeout(mut self, timeout: Duration) -> PoolBuilder<S> {
        self.limits.timeout = Some(timeout);
        self
    }

    /// How many times a task is tried again when its worker dies over it; not when its time was up.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> PoolBuilder<S> {
        self.limits.retries = retries;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// As for [`Pool::new`].
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
        let task_queue = Board::new()?;
        let mut worker_set = WorkerSet::new(workers, config);
        worker_set.fill(&task_queue)?;
        let shared = Arc::new(PoolShared::new(task_queue, worker_set, self.max_pending));
        let watched = Arc::clone(&shared);
        let watcher = thread
            .spawn(move || watcher::watch(&watched))
            .map_err(|source| procession_engine::Error::Os {
                what: "start a thread",
                source,
            })?;
        Ok(Pool {
            inner: Local::new(PoolInner {
                shared,
                watcher: Some(watcher),
            }),
            limits: self.limits,
            _state: PhantomData,
        })
    }
}

/// The number of workers, unless it is none.
pub(super) fn at_least_one(workers: usize) -> Result<usize, Error> {
    if workers == 0 {
        let message = "a pool needs at least one worker".to_owned();
        return Err(procession_engine::Error::Invalid(message).into());
    }
    Ok(workers)
}
