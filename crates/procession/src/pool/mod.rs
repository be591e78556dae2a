//! Processes kept at hand that work on tasks.
//!
//! A [`Pool`] is a task_queue of tasks in shared memory ([`procession_engine::pool`]), a workers of worker
//! processes that claim from it ([`worker`]), and one thread that watches both: it passes results
//! on to those who wait for them and replaces workers that died ([`watcher`]).

mod builder;
mod calls;
mod imap;
mod job;
mod job_handle;
mod local;
mod options;
mod scope;
mod shared;
pub(crate) mod state;
mod task;
mod unordered;
mod watcher;
mod worker;
mod worker_set;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::error::Error;
use local::Local;
use shared::{Limits, PoolShared};

pub use builder::PoolBuilder;
pub use imap::{Imap, ImapUnordered};
pub use options::TaskOptions;
pub use scope::{Scope, ScopedTask, SendAs};
pub use task::Task;
pub use unordered::MapUnordered;

/// A number of worker processes that call functions.
///
/// A worker that dies is replaced; only the tasks it was working on fail, with
/// [`TaskError::WorkerDied`](crate::TaskError::WorkerDied). The workers die with this process, however
/// it ends: also by Ctrl-C, for which nothing has to be done.
///
/// A worker is a fresh run of this program that enters at [`init`](crate::init()): of what this process has, it sees
/// the environment, the directory and the standard streams as they are when it is started, its task, and what its
/// [initializer](PoolBuilder::initializer) was given; `std::env::args` shows the program's name only. A panic in a task is
/// printed nowhere: it is that task's error, with its backtrace.
///
/// Dropping a pool lets it finish the tasks it was given and waits for that;
/// [`terminate`](Pool::terminate) does not. Where a panic drops it, it is terminated. A pool that is
/// leaked with [`std::mem::forget`] keeps its workers, until this process ends.
///
/// A pool, and everything it gave out, is of use only in the process that made it. In a forked copy of that process
/// ([`Process::fork`](crate::Process::fork), `libc::fork`) each call fails with
/// [`TaskError::NotOurs`](crate::TaskError::NotOurs), or panics with that message where it has no error to return;
/// dropped there, it does nothing. Make a pool in each process that uses one.
///
/// `S` is what each worker keeps from task to task, if anything; see [`PoolBuilder::state`].
///
/// # What it holds
///
/// A task that is submitted takes memory until it ends. The oldest thousand lie in shared memory, the
/// others in this process's own; how many there may be, [`PoolBuilder::max_pending`] says.
///
/// [`map`](Pool::map), [`map_chunked`](Pool::map_chunked) and [`imap`](Pool::imap) submit more only while what is
/// submitted takes less than 16 MiB, or is less than two tasks for each worker (one for each, and one, where two take
/// more than 64 MiB). They serialise the rest as tasks end. [`map_unordered`](Pool::map_unordered) and
/// [`submit`](Pool::submit) do not wait for that: what they are given takes memory at once.
///
/// A result takes shared memory until it is taken or let go of: dropping a [`Task`] lets go of its
/// result, and dropping an iterator of those that were not taken, without doing what has not begun.
/// [`imap`](Pool::imap) takes only 32 items for each worker ahead of the results that were taken from
/// it. Results that are still there when the pool has ended are moved out of the shared memory.
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
pub struct Pool<S = ()> {
    inner: Local<PoolInner>,
    limits: Limits,
    _state: PhantomData<fn(&mut S)>,
}

/// What a pool has of its own.
struct PoolInner {
    shared: Arc<PoolShared>,
    watcher: Option<JoinHandle<()>>,
}

impl Pool {
    /// A pool of this many workers. `Pool::builder().build()` makes one for each CPU.
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
}

impl<S> Pool<S> {
    /// How many workers it has; while one that died is being replaced, how many it will have.
    ///
    /// # Panics
    /// In a forked copy of the process that made the pool.
    pub fn workers(&self) -> usize {
        self.shared().workers().wanted
    }

    /// Changes how many workers it has.
    ///
    /// New ones are started at once. If there are too many, the idle ones leave first, and others
    /// when they have finished the task they are at: no task is lost. This does not wait for them.
    ///
    /// # Errors
    /// When `workers` is zero, or the pool is closed, broken or another process's; and when the system has no room for
    /// so many: those that could be started stay then.
    ///
    /// # Examples
    /// ```
    /// # use procession::Pool;
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let pool = Pool::new(1)?;
    ///     pool.resize(3)?;
    ///     assert_eq!(pool.worker_ids().len(), 3);
    ///     pool.resize(1)?;
    ///     assert_eq!(pool.worker_ids().len(), 1);
    ///     Ok(())
    /// }
    /// ```
    pub fn resize(&self, workers: usize) -> Result<(), Error> {
        let workers = builder::at_least_one(workers)?;
        let shared = &self.inner.get()?.shared;
        let resized = shared.workers().resize(workers, &shared.task_queue);
        // There may be others to be watched.
        let _ = shared.task_queue.ring();
        resized
    }

    /// Process ids of the workers at the moment, without those that [`resize`](Pool::resize) sent
    /// away.
    ///
    /// # Panics
    /// In a forked copy of the process that made the pool.
    pub fn worker_ids(&self) -> Vec<u32> {
        self.shared().workers().ids()
    }

    /// Takes no more tasks. Those it was given are done.
    ///
    /// # Panics
    /// In a forked copy of the process that made the pool.
    pub fn close(&self) {
        self.shared().close();
    }

    /// Takes no more tasks, and waits until those it was given are done and the workers are gone; dropping the pool
    /// does the same.
    ///
    /// # Panics
    /// In a forked copy of the process that made the pool.
    pub fn join(mut self) {
        self.shared();
        self.finish();
    }

    /// Kills the workers. Tasks that are not done end with [`TaskError::PoolGone`](crate::TaskError::PoolGone).
    ///
    /// # Panics
    /// In a forked copy of the process that made the pool.
    pub fn terminate(mut self) {
        self.shared().terminate();
        self.finish();
    }

    #[track_caller]
    fn shared(&self) -> &Arc<PoolShared> {
        &self.inner.expect().shared
    }

    fn finish(&mut self) {
        if let Ok(PoolInner { shared, watcher }) = self.inner.get_mut()
            && let Some(watcher) = watcher.take()
        {
            shared.close();
            // It does not panic; if it did, the default hook said so.
            let _ = watcher.join();
            shared.detach_results();
        }
    }
}

impl<S> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Pool");
        match self.inner.get() {
            Ok(PoolInner { shared, .. }) => shown
                .field("workers", &shared.workers().ids())
                .field("outstanding", &shared.task_queue.outstanding())
                .finish(),
            Err(_) => shown.finish_non_exhaustive(),
        }
    }
}

impl<S> Drop for Pool<S> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(PoolInner { shared, .. }) = self.inner.get()
        {
            shared.terminate();
        }
        self.finish();
    }
}
