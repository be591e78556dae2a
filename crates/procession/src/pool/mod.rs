//! Pools of worker processes.
//!
//! A [`Pool`] is a queue of tasks in shared memory ([`procession_engine::pool`]), a set of worker processes
//! that claim tasks ([`worker`]), and one thread ([`watcher`]) that passes results on to waiting threads and
//! replaces workers that died.

mod builder;
mod calls;
mod handle;
mod imap;
mod job;
mod job_handle;
mod local;
mod scope;
mod shared;
mod task;
mod unordered;
mod watcher;
mod worker;
mod workers;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::error::Error;
use local::Local;
use shared::PoolShared;

pub use builder::PoolBuilder;
pub use handle::PoolHandle;
pub use imap::{Imap, ImapUnordered};
pub use scope::{Scope, ScopedTask, SendAs};
pub use task::Task;
pub use unordered::MapUnordered;

/// A set of worker processes that call functions.
///
/// A pool dereferences to its [`PoolHandle`], whose methods submit tasks: [`map`](PoolHandle::map),
/// [`imap`](PoolHandle::imap), [`apply`](PoolHandle::apply), [`submit`](PoolHandle::submit) and others.
/// [`with_timeout`](PoolHandle::with_timeout) and [`with_retries`](PoolHandle::with_retries) set options for some of
/// the tasks.
///
/// A worker that dies is replaced; only the task it was running fails, with
/// [`TaskError::WorkerDied`](crate::TaskError::WorkerDied). The workers die with this process, however it ends.
/// That includes Ctrl-C, which needs no handling.
///
/// A worker is a fresh run of this program that enters at [`init`](crate::init()). It sees the environment,
/// directory and standard streams that this process has when the worker starts, its tasks, and the arguments of
/// its [initializer](PoolBuilder::initializer). Its `std::env::args` contain only the program's name. A panic
/// in a task is not printed: it is the task's error, with a backtrace.
///
/// Dropping a pool waits until the submitted tasks are done; [`terminate`](Pool::terminate) does not wait. A
/// pool dropped during a panic is terminated. A pool leaked with [`std::mem::forget`] keeps its workers until
/// this process ends.
///
/// Only the process that created a pool can use it and its tasks. In a forked copy of that process
/// ([`Process::fork`](crate::Process::fork), `libc::fork`) each call fails with
/// [`TaskError::NotOurs`](crate::TaskError::NotOurs), or panics with that message if it returns no error.
/// Dropping the pool there does nothing. Create a pool in each process that needs one.
///
/// `S` is the state each worker keeps between tasks, if any; see [`PoolBuilder::state`].
///
/// # What it holds
///
/// A submitted task takes memory until it ends. The oldest thousand tasks lie in shared memory, the others in
/// this process's own memory. [`PoolBuilder::max_pending`] bounds their number.
///
/// [`map`](PoolHandle::map), [`map_chunked`](PoolHandle::map_chunked) and [`imap`](PoolHandle::imap) submit more
/// tasks only while the pending ones take less than 16 MiB, or are fewer than two per worker (one per worker plus
/// one, when two would take more than 64 MiB). They serialise the remaining items as tasks end.
/// [`map_unordered`](PoolHandle::map_unordered) and [`submit`](PoolHandle::submit) have no such bound: all their
/// arguments take memory at once.
///
/// A result takes shared memory until it is taken or discarded. Dropping a [`Task`] discards its result.
/// Dropping an iterator discards the results not yet taken and skips tasks that have not started.
/// [`imap`](PoolHandle::imap) runs at most 32 items per worker ahead of the results taken. When the pool ends,
/// remaining results are copied out of shared memory.
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
    handle: PoolHandle<S>,
    watcher: Local<Option<JoinHandle<()>>>,
}

impl Pool {
    /// Creates a pool of `workers` workers. `Pool::builder().build()` creates one worker per CPU.
    ///
    /// # Errors
    /// Returns an error when this program did not call [`init`](crate::init()), when `workers` is zero, or
    /// when the system cannot start them.
    pub fn new(workers: usize) -> Result<Pool, Error> {
        Pool::builder().workers(workers).build()
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }
}

impl<S> Pool<S> {
    /// Returns the number of workers. While a dead worker is being replaced, it counts.
    ///
    /// # Panics
    /// Panics in a forked copy of the process that created the pool.
    pub fn workers(&self) -> usize {
        self.shared().supervisor().wanted()
    }

    /// Changes the number of workers.
    ///
    /// New workers start at once. When there are too many, idle workers leave first and others after their
    /// current task, so no task is lost. This call does not wait for them to leave.
    ///
    /// # Errors
    /// Returns an error when `workers` is zero, when the pool is closed or broken or belongs to another
    /// process, and when the system cannot start so many. In the last case the workers that did start stay.
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
        self.handle.shared.get()?.resize(workers)
    }

    /// Returns the process ids of the current workers, without those that [`resize`](Pool::resize) is
    /// removing.
    ///
    /// # Panics
    /// Panics in a forked copy of the process that created the pool.
    pub fn worker_ids(&self) -> Vec<u32> {
        self.shared().workers.ids()
    }

    /// Rejects new tasks. Tasks already submitted are still done.
    ///
    /// # Panics
    /// Panics in a forked copy of the process that created the pool.
    ///
    /// # Examples
    /// ```
    /// use procession::{Error, Pool};
    ///
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let pool = Pool::new(1)?;
    /// pool.close();
    /// assert!(matches!(pool.apply(square, 3), Err(Error::PoolClosed)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.shared().close();
    }

    /// Rejects new tasks, and waits until the submitted ones are done and the workers have ended. Dropping
    /// the pool does the same.
    ///
    /// # Panics
    /// Panics in a forked copy of the process that created the pool.
    ///
    /// # Examples
    /// ```
    /// use procession::Pool;
    ///
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let pool = Pool::new(1)?;
    /// let task = pool.submit(square, 3)?;
    /// pool.join();
    /// assert_eq!(task.join()?, 9);
    /// # Ok(())
    /// # }
    /// ```
    pub fn join(mut self) {
        self.shared();
        self.finish();
    }

    /// Kills the workers. Unfinished tasks end with [`TaskError::PoolGone`](crate::TaskError::PoolGone).
    ///
    /// # Panics
    /// Panics in a forked copy of the process that created the pool.
    ///
    /// # Examples
    /// ```
    /// use procession::{Pool, TaskError};
    /// use std::time::Duration;
    ///
    /// fn sleep(time: Duration) {
    ///     std::thread::sleep(time);
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let pool = Pool::new(1)?;
    /// let task = pool.submit(sleep, Duration::from_secs(60))?;
    /// pool.terminate();
    /// assert!(matches!(task.join(), Err(TaskError::PoolGone)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn terminate(mut self) {
        self.shared().terminate();
        self.finish();
    }

    #[track_caller]
    fn shared(&self) -> &Arc<PoolShared> {
        self.handle.shared.expect()
    }

    fn finish(&mut self) {
        if let Ok(shared) = self.handle.shared.get()
            && let Ok(Some(watcher)) = self.watcher.get_mut().map(Option::take)
        {
            shared.close();
            // The watcher does not panic; if it did, the panic hook has reported it.
            let _ = watcher.join();
            shared.detach_results();
        }
    }
}

impl<S> Deref for Pool<S> {
    type Target = PoolHandle<S>;

    fn deref(&self) -> &PoolHandle<S> {
        &self.handle
    }
}

impl<S> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Pool");
        match self.handle.shared.get() {
            Ok(shared) => shown
                .field("workers", &shared.workers.ids())
                .field("outstanding", &shared.task_queue.outstanding())
                .finish(),
            Err(_) => shown.finish_non_exhaustive(),
        }
    }
}

impl<S> Drop for Pool<S> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(shared) = self.handle.shared.get()
        {
            shared.terminate();
        }
        self.finish();
    }
}
