//! The handle through which tasks reach a pool: their options, and how each call becomes tasks.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::pool::{Order, guided};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::imap::Feed;
use super::job::{self, Job};
use super::job_handle::JobHandle;
use super::local::Local;
use super::shared::{Limits, PoolShared};
use super::task::Task;
use crate::error::{Error, PutError, TaskError};
use crate::transfer::function::TaskFunction;

/// Submits tasks to a [`Pool`](crate::Pool).
///
/// A pool dereferences to its handle, so each of these methods is also a method of the pool.
/// [`with_timeout`](PoolHandle::with_timeout) and [`with_retries`](PoolHandle::with_retries) return another handle,
/// with other options for its tasks. Clones have the same options.
///
/// A handle does not keep the workers alive. Once the pool is closed or dropped, each call fails with
/// [`Error::PoolClosed`]. It keeps the pool's shared memory for tasks until it is dropped.
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
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let pool = Pool::new(1)?;
///     let limited = pool.with_timeout(Duration::from_millis(50)).with_retries(2);
///     let error = limited.apply(sleep, Duration::from_secs(3600)).unwrap_err();
///     assert!(matches!(error, Error::Task(TaskError::TimedOut)));
///     Ok(())
/// }
/// ```
pub struct PoolHandle<S = ()> {
    pub(super) shared: Local<Arc<PoolShared>>,
    limits: Limits,
    _state: PhantomData<fn(&mut S)>,
}

impl<S> PoolHandle<S> {
    pub(super) fn new(shared: PoolShared, limits: Limits) -> PoolHandle<S> {
        PoolHandle {
            shared: Local::new(Arc::new(shared)),
            limits,
            _state: PhantomData,
        }
    }
}

impl<S: 'static> PoolHandle<S> {
    /// Returns a handle under which each task may run for at most `timeout`, in place of
    /// [`task_timeout`](crate::PoolBuilder::task_timeout). After that its worker is killed and the task fails with
    /// [`TaskError::TimedOut`].
    ///
    /// # Examples
    /// ```
    /// use procession::Pool;
    /// use std::time::Duration;
    ///
    /// fn sleep(time: Duration) {
    ///     std::thread::sleep(time);
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let pool = Pool::new(1)?;
    /// let limited = pool.with_timeout(Duration::from_millis(50));
    /// assert!(limited.apply(sleep, Duration::from_secs(60)).is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> PoolHandle<S> {
        let mut handle = self.clone();
        handle.limits.timeout = Some(timeout);
        handle
    }

    /// Returns a handle under which a task is retried up to `retries` times when its worker dies while running it,
    /// in place of [`retries`](crate::PoolBuilder::retries).
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
    /// assert_eq!(pool.with_retries(3).map(square, 1..=3)?, [1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_retries(&self, retries: u32) -> PoolHandle<S> {
        let mut handle = self.clone();
        handle.limits.retries = retries;
        handle
    }

    pub(super) fn map_ranges<F, Args, Shape>(
        &self,
        shared: &Arc<PoolShared>,
        function: F,
        items: &[Args],
        chunks: &[Range<usize>],
    ) -> Result<Vec<F::Output>, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        let wait = |weight| shared.wait_for_memory(weight);
        let results = self.submit_ranges(
            shared,
            function,
            items,
            chunks,
            Job::taken(Order::Tasks),
            wait,
        )?;
        results.wait_until(chunks.len());
        let mut outputs = Vec::with_capacity(items.len());
        for chunk in chunks {
            let (_, response) = results.take(Deadline::NEVER).ok_or(TaskError::PoolGone)?;
            let response = response?;
            let mut bytes = response.bytes();
            for _ in chunk.clone() {
                outputs.push(job::next_output(&mut bytes)?);
            }
        }
        Ok(outputs)
    }

    /// Divides `items` items into tasks.
    pub(super) fn ranges(&self, shared: &PoolShared, items: usize) -> Vec<Range<usize>> {
        match self.limits.timeout {
            // The time limit applies to a task, so each item needs a task of its own.
            Some(_) => even(items, 1),
            None => guided(items, shared.supervisor().wanted()).collect(),
        }
    }

    /// Submits chunks of items. Before each chunk, calls `wait` with the total weight of all tasks.
    pub(super) fn submit_ranges<F, Args, Shape>(
        &self,
        shared: &Arc<PoolShared>,
        function: F,
        items: &[Args],
        chunks: &[Range<usize>],
        job: Job,
        wait: impl Fn(u64) -> Result<(), Error>,
    ) -> Result<JobHandle, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        let results = shared.open_job(job);
        let mut weight = 0;
        for (index, chunk) in (0..).zip(chunks) {
            let task = self.limits.task(results.id(), index);
            let submitted = wait(weight)
                .and_then(|()| function.request_for(&items[chunk.clone()]))
                .and_then(|request| shared.submit(task, &request, Deadline::NEVER));
            match submitted {
                Ok(now) => weight = now.unwrap_or(0),
                Err(error) => {
                    results.withdraw();
                    return Err(error);
                }
            }
        }
        Ok(results)
    }

    pub(super) fn feed<'a, F, Args, Shape, I>(
        &'a self,
        function: F,
        items: I,
        job: Job,
    ) -> Result<Feed<'a>, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
        I: IntoIterator<Item = Args>,
        I::IntoIter: 'a,
    {
        let shared = self.shared()?;
        // Reject an unusable function before the first item is taken.
        function.request_for::<Args>(&[])?;
        let requests = items
            .into_iter()
            .map(move |item| function.request_for(&[item]));
        Ok(Feed::new(
            &self.shared,
            self.limits,
            shared.open_job(job),
            Box::new(requests),
        ))
    }

    pub(super) fn submit_until<F, Args, Shape>(
        &self,
        function: F,
        args: Args,
        deadline: Deadline,
    ) -> Result<Task<F::Output>, PutError<Args>>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        match self.submit_one(function, &args, deadline) {
            Ok(Some(results)) => Ok(Task::new(results)),
            Ok(None) => Err(PutError::Full(args)),
            Err(Error::PoolClosed) => Err(PutError::Closed(args)),
            Err(error) => Err(PutError::Failed(args, Box::new(error))),
        }
    }

    /// Submits one call with arguments that serialise as `Args` does. Returns `None` when there was no room
    /// in time.
    pub(super) fn submit_one<F, Args, Shape, Sent>(
        &self,
        function: F,
        args: &Sent,
        deadline: Deadline,
    ) -> Result<Option<JobHandle>, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize,
        Args: DeserializeOwned + 'static,
        Shape: 'static,
        Sent: Serialize,
    {
        let shared = self.shared()?;
        let request = function.request_for(std::slice::from_ref(args))?;
        let results = shared.open_job(Job::taken(Order::Tasks));
        let task = self.limits.task(results.id(), 0);
        let submitted = shared.submit(task, &request, deadline)?;
        Ok(submitted.map(|_| results))
    }

    pub(super) fn shared(&self) -> Result<&Arc<PoolShared>, TaskError> {
        self.shared.get()
    }
}

/// Returns ranges of `chunk` items each; the last may be shorter.
pub(super) fn even(items: usize, chunk: usize) -> Vec<Range<usize>> {
    let starts = (0..items).step_by(chunk);
    starts.map(|at| at..items.min(at + chunk)).collect()
}

impl<S> Clone for PoolHandle<S> {
    fn clone(&self) -> PoolHandle<S> {
        PoolHandle {
            shared: self.shared.clone(),
            limits: self.limits,
            _state: PhantomData,
        }
    }
}

impl<S> fmt::Debug for PoolHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolHandle")
            .field("timeout", &self.limits.timeout)
            .field("retries", &self.limits.retries)
            .finish_non_exhaustive()
    }
}
