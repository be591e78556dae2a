//! Processes kept at hand that work on tasks.
//!
//! A [`Pool`] is a board of tasks in shared memory ([`procession_engine::pool`]), a crew of worker
//! processes that claim from it ([`worker`]), and one thread that watches both: it passes results
//! on to those who wait for them and replaces workers that died ([`watcher`]).

mod builder;
mod crew;
mod imap;
mod job;
mod task;
mod watcher;
mod worker;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use procession_engine::{Deadline, pool as board};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Function;
use crate::call;
use crate::error::{Error, TaskError};
use crew::Crew;
use job::{Job, Results};

pub use builder::PoolBuilder;
pub use imap::{Imap, ImapUnordered};
pub use task::Task;

/// A number of worker processes that call functions.
///
/// A worker that dies is replaced; only the tasks it was working on fail, with
/// [`TaskError::WorkerDied`]. The workers die with this process, however it ends.
///
/// Dropping a pool lets it finish the tasks it was given and waits for that;
/// [`terminate`](Pool::terminate) does not. Where a panic drops it, it is terminated.
///
/// # Examples
/// ```
/// use procession::Pool;
///
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// fn add(a: u64, b: u64) -> u64 {
///     a + b
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let pool = Pool::new(3)?;
///     assert_eq!(pool.map(square, 1..=5)?, [1, 4, 9, 16, 25]);
///     // Functions of several arguments take tuples.
///     assert_eq!(pool.map(add, [(1, 2), (3, 4)])?, [3, 7]);
///     assert_eq!(pool.apply(add, (40, 2))?, 42);
///     Ok(())
/// }
/// ```
pub struct Pool {
    hall: Arc<Hall>,
    watcher: Option<JoinHandle<()>>,
}

/// What the pool, its watcher and its tasks share.
struct Hall {
    board: board::Board,
    crew: Mutex<Crew>,
    jobs: Mutex<HashMap<u64, Arc<Job>>>,
    last_job: AtomicU64,
    limits: Limits,
}

/// What holds for every task.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    timeout: Option<std::time::Duration>,
    retries: u32,
}

impl Pool {
    /// A pool of this many workers.
    ///
    /// # Errors
    /// When this program did not call [`init`](crate::init()), when `workers` is zero, or when
    /// the system has no room for them.
    pub fn new(workers: usize) -> Result<Pool, Error> {
        Pool::builder().workers(workers).build()
    }

    /// Sets up a pool before it is started.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    /// How many workers it has.
    pub fn workers(&self) -> usize {
        self.hall.crew().wanted
    }

    /// Process ids of the workers at the moment.
    pub fn worker_ids(&self) -> Vec<u32> {
        self.hall.crew().ids()
    }

    /// Calls `function` with each of `items` and returns what it returned, in their order.
    ///
    /// The items are cut into chunks: large ones first, single items at the end.
    ///
    /// # Errors
    /// The first item's, in their order, that gave no result; the others are done all the same.
    pub fn map<F, Args, Shape>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Vec<F::Output>, Error>
    where
        F: Function<Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        let items: Vec<Args> = items.into_iter().collect();
        // A time limit is a task's; alone in its chunk, an item has it for itself.
        if self.hall.limits.timeout.is_some() {
            return self.map_chunked(function, items, 1);
        }
        let chunks: Vec<_> = board::guided(items.len(), self.workers()).collect();
        self.map_ranges(function, &items, &chunks)
    }

    /// As [`map`](Pool::map), in chunks of `chunk` items.
    ///
    /// # Errors
    /// As for [`map`](Pool::map).
    ///
    /// # Panics
    /// When `chunk` is zero.
    pub fn map_chunked<F, Args, Shape>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
        chunk: usize,
    ) -> Result<Vec<F::Output>, Error>
    where
        F: Function<Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        assert!(chunk > 0, "chunks of no items would never end");
        let items: Vec<Args> = items.into_iter().collect();
        let starts = (0..items.len()).step_by(chunk);
        let chunks: Vec<_> = starts.map(|at| at..items.len().min(at + chunk)).collect();
        self.map_ranges(function, &items, &chunks)
    }

    fn map_ranges<F, Args, Shape>(
        &self,
        function: F,
        items: &[Args],
        chunks: &[std::ops::Range<usize>],
    ) -> Result<Vec<F::Output>, Error>
    where
        F: Function<Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        let results = self.hall.open_job(Job::in_order());
        for (index, chunk) in (0..).zip(chunks) {
            let order = call::order(&function, &items[chunk.clone()]);
            let submitted = order.and_then(|order| self.hall.submit(&results, index, &order));
            if let Err(error) = submitted {
                results.withdraw();
                return Err(error);
            }
        }
        results.job().wait_for(chunks.len());
        let mut outputs = Vec::with_capacity(items.len());
        for chunk in chunks {
            let (_, answer) = results
                .job()
                .take(Deadline::NEVER)
                .ok_or(TaskError::PoolGone)?;
            let answer = answer?;
            let mut bytes = answer.bytes();
            for _ in chunk.clone() {
                outputs.push(job::next_output(&mut bytes)?);
            }
        }
        Ok(outputs)
    }

    /// Calls `function` with each of `items` and gives the results one by one, in their order.
    ///
    /// Items are taken only as fast as results are: an endless iterator will do.
    ///
    /// # Errors
    /// When `function` is a closure. What concerns one item is that item's result.
    ///
    /// # Examples
    /// ```
    /// # use procession::Pool;
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let pool = Pool::new(2)?;
    ///     let first: Result<Vec<u64>, _> = pool.imap(square, 1..)?.take(3).collect();
    ///     assert_eq!(first?, [1, 4, 9]);
    ///     Ok(())
    /// }
    /// ```
    pub fn imap<'a, F, Args, Shape, I>(
        &'a self,
        function: F,
        items: I,
    ) -> Result<Imap<'a, F::Output>, Error>
    where
        F: Function<Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
        I: IntoIterator<Item = Args>,
        I::IntoIter: 'a,
    {
        Ok(Imap::new(self.feed(function, items, Job::in_order())?))
    }

    /// As [`imap`](Pool::imap), but gives the results as they come, each with its item's place.
    ///
    /// # Errors
    /// As for [`imap`](Pool::imap).
    pub fn imap_unordered<'a, F, Args, Shape, I>(
        &'a self,
        function: F,
        items: I,
    ) -> Result<ImapUnordered<'a, F::Output>, Error>
    where
        F: Function<Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
        I: IntoIterator<Item = Args>,
        I::IntoIter: 'a,
    {
        Ok(ImapUnordered::new(self.feed(
            function,
            items,
            Job::as_they_come(),
        )?))
    }

    fn feed<'a, F, Args, Shape, I>(
        &'a self,
        function: F,
        items: I,
        job: Job,
    ) -> Result<imap::Feed<'a>, Error>
    where
        F: Function<Args, Shape>,
        F::Output: Serialize,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
        I: IntoIterator<Item = Args>,
        I::IntoIter: 'a,
    {
        // Refuses what cannot run before the first item is taken.
        call::order::<F, Args, Shape>(&function, &[])?;
        let orders = items
            .into_iter()
            .map(move |item| call::order(&function, &[item]));
        Ok(imap::Feed::new(
            &self.hall,
            self.hall.open_job(job),
            Box::new(orders),
        ))
    }

    /// Calls `function` once in a worker and waits for what it returns.
    ///
    /// # Errors
    /// When the task gave no result; see [`TaskError`].
    pub fn apply<F, Args, Shape>(&self, function: F, args: Args) -> Result<F::Output, Error>
    where
        F: Function<Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        Ok(self.apply_async(function, args)?.join()?)
    }

    /// Calls `function` once in a worker and does not wait for it.
    ///
    /// # Errors
    /// When `function` is a closure, the arguments cannot be serialised, or the pool is closed.
    ///
    /// # Examples
    /// ```
    /// # use procession::Pool;
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let pool = Pool::new(2)?;
    ///     let task = pool.apply_async(square, 12)?;
    ///     // ... something else ...
    ///     assert_eq!(task.join()?, 144);
    ///     Ok(())
    /// }
    /// ```
    pub fn apply_async<F, Args, Shape>(
        &self,
        function: F,
        args: Args,
    ) -> Result<Task<F::Output>, Error>
    where
        F: Function<Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        let order = call::order(&function, &[args])?;
        let results = self.hall.open_job(Job::in_order());
        self.hall.submit(&results, 0, &order)?;
        Ok(Task::new(results))
    }

    /// Takes no more tasks. Those it was given are done.
    pub fn close(&self) {
        self.hall.close();
    }

    /// Takes no more tasks, and waits until those it was given are done and the workers are gone.
    pub fn join(mut self) {
        self.finish();
    }

    /// Kills the workers. Tasks that are not done end with [`TaskError::PoolGone`].
    pub fn terminate(mut self) {
        self.hall.terminate();
        self.finish();
    }

    fn finish(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            self.hall.close();
            // It does not panic; if it did, the default hook said so.
            let _ = watcher.join();
        }
    }
}

impl Hall {
    fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<u64, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_job(self: &Arc<Hall>, job: Job) -> Results {
        let id = self.last_job.fetch_add(1, Ordering::Relaxed) + 1;
        let job = Arc::new(job);
        self.jobs().insert(id, Arc::clone(&job));
        Results::new(Arc::clone(self), id, job)
    }

    fn submit(&self, results: &Results, index: u64, order: &[u8]) -> Result<(), Error> {
        // Under the crew's lock, so that no task slips in behind the pool's end.
        let crew = self.crew();
        crew.check_open()?;
        let task = board::Task {
            job: results.id(),
            index,
            timeout: self.limits.timeout,
            retries: self.limits.retries,
        };
        Ok(self.board.submit(task, &[order])?)
    }

    fn close(&self) {
        self.crew().close();
        self.board.close();
        // The watcher looks at least twice a second on its own.
        let _ = self.board.ring();
    }

    fn terminate(&self) {
        let mut crew = self.crew();
        crew.terminate();
        self.board.close();
        drop(crew);
        self.fail_all(&TaskError::PoolGone);
        let _ = self.board.ring();
    }

    /// Ends all tasks that have not ended.
    fn fail_all(&self, error: &TaskError) {
        for job in self.jobs().values() {
            job.fail(error.clone());
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("workers", &self.worker_ids())
            .field("outstanding", &self.hall.board.outstanding())
            .finish()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.hall.terminate();
        }
        self.finish();
    }
}
