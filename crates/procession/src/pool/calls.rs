//! The methods that submit tasks.

use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::pool::Order;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::handle::{PoolHandle, even};
use super::imap::{Imap, ImapUnordered};
use super::job::Job;
use super::scope::Scope;
use super::task::Task;
use super::unordered::MapUnordered;
use crate::error::{Error, PutError, within};
use crate::transfer::function::TaskFunction;

impl<S: 'static> PoolHandle<S> {
    /// Calls `function` with each of `items` and returns the results in the order of the items.
    ///
    /// The items are divided into chunks: large ones first, single items at the end. With a time limit,
    /// every item is a chunk of its own. When a worker dies, its whole chunk fails. Large items are
    /// serialised only as workers become free; a [`close`](crate::Pool::close) in the meantime rejects the rest.
    ///
    /// # Errors
    /// Returns the error of the first item, in their order, that has no result. The other items are still
    /// processed. To get a result or an error for each item, use [`imap`](PoolHandle::imap).
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
    /// let pool = Pool::new(2)?;
    /// assert_eq!(pool.map(square, 1..=4)?, [1, 4, 9, 16]);
    /// # Ok(())
    /// # }
    /// ```
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

    /// Like [`map`](PoolHandle::map), with chunks of `chunk` items.
    ///
    /// # Errors
    /// The same as for [`map`](PoolHandle::map).
    ///
    /// # Panics
    /// Panics when `chunk` is zero.
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
    /// let pool = Pool::new(2)?;
    /// // Four tasks, of three items and of one.
    /// assert_eq!(pool.map_chunked(square, 0..10, 3)?.len(), 10);
    /// # Ok(())
    /// # }
    /// ```
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

    /// Like [`map`](PoolHandle::map), but yields results in the order of completion, each with the index of its
    /// item.
    ///
    /// All items are submitted at once, in chunks, and take memory until they are done. For many or large
    /// items, or items that arrive slowly, use [`imap_unordered`](PoolHandle::imap_unordered), which takes them
    /// one by one.
    ///
    /// # Errors
    /// Returns an error when `function` is a closure (use [`closure!`](crate::closure)), when an item
    /// cannot be serialised, or when the pool is closed. An error that concerns one item is that item's
    /// result.
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
    ///     for (index, result) in pool.map_unordered(square, 0..100)? {
    ///         assert_eq!(result?, (index * index) as u64);
    ///     }
    ///     Ok(())
    /// }
    /// ```
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

    /// Calls `function` with each of `items` and yields the results one by one, in the order of the items.
    ///
    /// Items are taken as results are taken, up to 32 per worker in advance, so the iterator may be
    /// endless. A slow item delays later results only once the others are that far ahead.
    ///
    /// Dropping the iterator early, as `?` or `break` do, skips tasks that have not started. Running tasks
    /// continue; [`cancel`](Imap::cancel) ends them as well.
    ///
    /// # Errors
    /// Returns an error when `function` is a closure (use [`closure!`](crate::closure)). An error that
    /// concerns one item is that item's result.
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

    /// Like [`imap`](PoolHandle::imap), but yields results in the order of completion, each with the index of its
    /// item.
    ///
    /// # Examples
    /// ```
    /// # use procession::Pool;
    /// fn length(text: String) -> usize {
    ///     text.len()
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let pool = Pool::new(2)?;
    ///     let words = ["one", "three"];
    ///     for (index, length) in pool.imap_unordered(length, words.map(str::to_owned))? {
    ///         assert_eq!(length?, words[index].len());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// The same as for [`imap`](PoolHandle::imap).
    pub fn imap_unordered<'a, F, Args, Shape, I>(
        &'a self,
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

    /// Calls `function` once in a worker and waits for its result.
    ///
    /// # Errors
    /// Returns an error when the task has no result; see [`TaskError`](crate::TaskError).
    ///
    /// # Examples
    /// ```
    /// use procession::Pool;
    ///
    /// fn add(a: u32, b: u32) -> u32 {
    ///     a + b
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let pool = Pool::new(1)?;
    /// assert_eq!(pool.apply(add, (2, 3))?, 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply<F, Args, Shape>(&self, function: F, args: Args) -> Result<F::Output, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        Ok(self.submit(function, args)?.join()?)
    }

    /// Submits one call of `function` and returns without waiting for its result. If the pool has a
    /// [bound](crate::PoolBuilder::max_pending), waits for room.
    ///
    /// # Errors
    /// Returns an error when `function` is a closure (use [`closure!`](crate::closure)), when the arguments
    /// cannot be serialised, or when the pool is closed.
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
    ///     let task = pool.submit(square, 12)?;
    ///     // ... something else ...
    ///     assert_eq!(task.join()?, 144);
    ///     Ok(())
    /// }
    /// ```
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

    /// Like [`submit`](PoolHandle::submit), but does not wait for room.
    ///
    /// # Errors
    /// Returns [`PutError::Full`] when there is no room, and [`PutError::Closed`] when the pool takes no
    /// more tasks; otherwise the same as for [`submit`](PoolHandle::submit). Every error returns the arguments.
    ///
    /// # Examples
    /// ```
    /// use procession::{Pool, PutError};
    /// use std::time::Duration;
    ///
    /// fn sleep(time: Duration) {
    ///     std::thread::sleep(time);
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let pool = Pool::builder().workers(1).max_pending(1).build()?;
    /// let task = pool.submit(sleep, Duration::from_secs(60))?;
    /// let result = pool.try_submit(sleep, Duration::ZERO);
    /// assert!(matches!(result, Err(PutError::Full(_))));
    /// task.cancel();
    /// # Ok(())
    /// # }
    /// ```
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

    /// Like [`submit`](PoolHandle::submit), but waits for room for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`try_submit`](PoolHandle::try_submit).
    ///
    /// # Examples
    /// ```
    /// use procession::{Pool, PutError};
    /// use std::time::Duration;
    ///
    /// fn sleep(time: Duration) {
    ///     std::thread::sleep(time);
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let pool = Pool::builder().workers(1).max_pending(1).build()?;
    /// let task = pool.submit(sleep, Duration::from_secs(60))?;
    /// let result = pool.submit_timeout(sleep, Duration::ZERO, Duration::from_millis(10));
    /// assert!(matches!(result, Err(PutError::Full(_))));
    /// task.cancel();
    /// # Ok(())
    /// # }
    /// ```
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

    /// Runs `work`, and returns when all tasks submitted through the [`Scope`] have ended.
    ///
    /// The tasks may borrow their arguments from the caller and store their results there, because no task
    /// handle outlives the scope. When `work` panics, its tasks are cancelled. In a forked copy of the
    /// process that created the pool, `work` runs, but submitting fails.
    ///
    /// # Examples
    /// ```
    /// # use procession::Pool;
    /// fn count(text: String, letter: char) -> usize {
    ///     text.chars().filter(|&found| found == letter).count()
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let pool = Pool::new(2)?;
    ///     let text = String::from("a banana");
    ///     let mut counts = [0; 3];
    ///     pool.scope(|scope| -> procession::Result<()> {
    ///         for (count_of, letter) in counts.iter_mut().zip(['a', 'b', 'c']) {
    ///             // The text is neither cloned nor moved.
    ///             let task = scope.submit(count, (text.as_str(), letter))?;
    ///             task.then(|result| *count_of = result.unwrap());
    ///         }
    ///         Ok(())
    ///     })?;
    ///     assert_eq!(counts, [4, 1, 0]);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// A task cannot leave its scope:
    ///
    /// ```compile_fail
    /// # use procession::Pool;
    /// # fn square(n: u64) -> u64 { n * n }
    /// let pool = Pool::new(2).unwrap();
    /// let task = pool.scope(|scope| scope.submit(square, 3u64).unwrap());
    /// ```
    pub fn scope<'env, T>(&'env self, work: impl FnOnce(&Scope<'env, S>) -> T) -> T {
        let scope = Scope::new(self);
        let made = work(&scope);
        scope.finish();
        made
    }
}
