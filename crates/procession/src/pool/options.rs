//! Options for some tasks of a pool, and how each call reaches the workers.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::pool::{Order, guided};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::PoolInner;
use super::imap::{Feed, Imap, ImapUnordered};
use super::job::{self, Job};
use super::job_handle::JobHandle;
use super::local::Local;
use super::scope::Scope;
use super::shared::{Limits, PoolShared};
use super::task::Task;
use super::unordered::MapUnordered;
use crate::error::{Error, PutError, TaskError, within};
use crate::transfer::function::TaskFunction;

/// A [`Pool`](crate::Pool) with other limits for some of its tasks, created by
/// [`with_timeout`](crate::Pool::with_timeout) and [`with_retries`](crate::Pool::with_retries).
///
/// Unset options use the pool's defaults.
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
pub struct TaskOptions<'a, S = ()> {
    inner: &'a Local<PoolInner>,
    limits: Limits,
    _state: PhantomData<fn(&mut S)>,
}

impl<'a, S: 'static> TaskOptions<'a, S> {
    pub(super) fn new(inner: &'a Local<PoolInner>, limits: Limits) -> TaskOptions<'a, S> {
        TaskOptions {
            inner,
            limits,
            _state: PhantomData,
        }
    }

    /// Limits the time each task may run. After that its worker is killed and the task fails with
    /// [`TaskError::TimedOut`].
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> TaskOptions<'a, S> {
        self.limits.timeout = Some(timeout);
        self
    }

    /// Sets how often a task is retried when its worker dies while running it.
    #[must_use]
    pub fn with_retries(mut self, retries: u32) -> TaskOptions<'a, S> {
        self.limits.retries = retries;
        self
    }

    /// See [`Pool::map`](crate::Pool::map).
    ///
    /// # Errors
    /// The same as for [`Pool::map`](crate::Pool::map).
    pub fn map<F, Args, Shape>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Vec<F::Output>, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        let shared = self.shared()?;
        let items: Vec<Args> = items.into_iter().collect();
        self.map_ranges(shared, function, &items, &self.ranges(shared, items.len()))
    }

    /// See [`Pool::map_chunked`](crate::Pool::map_chunked).
    ///
    /// # Errors
    /// The same as for [`Pool::map`](crate::Pool::map).
    ///
    /// # Panics
    /// Panics when `chunk` is zero.
    pub fn map_chunked<F, Args, Shape>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
        chunk: usize,
    ) -> Result<Vec<F::Output>, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        assert!(chunk > 0, "chunks need at least one item");
        let shared = self.shared()?;
        let items: Vec<Args> = items.into_iter().collect();
        self.map_ranges(shared, function, &items, &even(items.len(), chunk))
    }

    fn map_ranges<F, Args, Shape>(
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

    /// See [`Pool::map_unordered`](crate::Pool::map_unordered).
    ///
    /// # Errors
    /// The same as for [`Pool::map_unordered`](crate::Pool::map_unordered).
    pub fn map_unordered<F, Args, Shape>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<MapUnordered<F::Output>, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        let shared = self.shared()?;
        let items: Vec<Args> = items.into_iter().collect();
        let chunks = self.ranges(shared, items.len());
        let job = Job::taken(Order::Completion);
        let results = self.submit_ranges(shared, function, &items, &chunks, job, |_| Ok(()))?;
        Ok(MapUnordered::new(results, chunks))
    }

    /// Divides `items` items into tasks.
    fn ranges(&self, shared: &PoolShared, items: usize) -> Vec<Range<usize>> {
        match self.limits.timeout {
            // The time limit applies to a task, so each item needs a task of its own.
            Some(_) => even(items, 1),
            None => guided(items, shared.supervisor().wanted()).collect(),
        }
    }

    /// Submits chunks of items. Before each chunk, calls `wait` with the total weight of all tasks.
    fn submit_ranges<F, Args, Shape>(
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

    /// See [`Pool::imap`](crate::Pool::imap).
    ///
    /// # Errors
    /// The same as for [`Pool::imap`](crate::Pool::imap).
    pub fn imap<F, Args, Shape, I>(
        &self,
        function: F,
        items: I,
    ) -> Result<Imap<'a, F::Output>, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
        I: IntoIterator<Item = Args>,
        I::IntoIter: 'a,
    {
        Ok(Imap::new(self.feed(
            function,
            items,
            Job::taken(Order::Tasks),
        )?))
    }

    /// See [`Pool::imap_unordered`](crate::Pool::imap_unordered).
    ///
    /// # Errors
    /// The same as for [`Pool::imap`](crate::Pool::imap).
    pub fn imap_unordered<F, Args, Shape, I>(
        &self,
        function: F,
        items: I,
    ) -> Result<ImapUnordered<'a, F::Output>, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
        I: IntoIterator<Item = Args>,
        I::IntoIter: 'a,
    {
        let feed = self.feed(function, items, Job::taken(Order::Completion))?;
        Ok(ImapUnordered::new(feed))
    }

    fn feed<F, Args, Shape, I>(&self, function: F, items: I, job: Job) -> Result<Feed<'a>, Error>
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
            self.inner,
            self.limits,
            shared.open_job(job),
            Box::new(requests),
        ))
    }

    /// See [`Pool::apply`](crate::Pool::apply).
    ///
    /// # Errors
    /// The same as for [`Pool::apply`](crate::Pool::apply).
    pub fn apply<F, Args, Shape>(&self, function: F, args: Args) -> Result<F::Output, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        Ok(self.submit(function, args)?.join()?)
    }

    /// See [`Pool::submit`](crate::Pool::submit).
    ///
    /// # Errors
    /// The same as for [`Pool::submit`](crate::Pool::submit).
    pub fn submit<F, Args, Shape>(&self, function: F, args: Args) -> Result<Task<F::Output>, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        let results = self.submit_one(function, &args, Deadline::NEVER)?;
        results.map(Task::new).ok_or(Error::Full)
    }

    /// See [`Pool::try_submit`](crate::Pool::try_submit).
    ///
    /// # Errors
    /// The same as for [`Pool::try_submit`](crate::Pool::try_submit).
    pub fn try_submit<F, Args, Shape>(
        &self,
        function: F,
        args: Args,
    ) -> Result<Task<F::Output>, PutError<Args>>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        self.submit_until(function, args, Deadline::NOW)
    }

    /// See [`Pool::submit_timeout`](crate::Pool::submit_timeout).
    ///
    /// # Errors
    /// The same as for [`Pool::try_submit`](crate::Pool::try_submit).
    pub fn submit_timeout<F, Args, Shape>(
        &self,
        function: F,
        args: Args,
        timeout: Duration,
    ) -> Result<Task<F::Output>, PutError<Args>>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        self.submit_until(function, args, within(timeout))
    }

    fn submit_until<F, Args, Shape>(
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

    fn shared(&self) -> Result<&'a Arc<PoolShared>, TaskError> {
        Ok(&self.inner.get()?.shared)
    }

    /// See [`Pool::scope`](crate::Pool::scope).
    pub fn scope<T>(&self, work: impl FnOnce(&Scope<'a, S>) -> T) -> T {
        let scope = Scope::new(*self);
        let made = work(&scope);
        scope.finish();
        made
    }
}

/// Returns ranges of `chunk` items each; the last may be shorter.
fn even(items: usize, chunk: usize) -> Vec<Range<usize>> {
    let starts = (0..items).step_by(chunk);
    starts.map(|at| at..items.min(at + chunk)).collect()
}

impl<S> Clone for TaskOptions<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for TaskOptions<'_, S> {}

impl<S> fmt::Debug for TaskOptions<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskOptions")
            .field("timeout", &self.limits.timeout)
            .field("retries", &self.limits.retries)
            .finish_non_exhaustive()
    }
}
