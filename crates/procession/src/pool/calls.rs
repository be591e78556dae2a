//! What can be asked of a pool's workers.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Pool;
use super::imap::{Imap, ImapUnordered};
use super::options::TaskOptions;
use super::scope::Scope;
use super::task::Task;
use super::unordered::MapUnordered;
use crate::error::{Error, PutError};
use crate::transfer::function::TaskFunction;

impl<S: 'static> Pool<S> {
    /// This pool, for tasks that may run no longer than `timeout` once they have begun, whatever
    /// [`task_timeout`](crate::PoolBuilder::task_timeout) says.
    pub fn with_timeout(&self, timeout: Duration) -> TaskOptions<'_, S> {
        self.options().with_timeout(timeout)
    }

    /// This pool, for tasks that are tried again so many times when their worker dies over them,
    /// whatever [`retries`](crate::PoolBuilder::retries) says.
    pub fn with_retries(&self, retries: u32) -> TaskOptions<'_, S> {
        self.options().with_retries(retries)
    }

    /// Calls `function` with each of `items` and returns what it returned, in their order.
    ///
    /// The items are cut into chunks: large ones first, single items at the end. A time limit is each item's, and
    /// items go one by one then. A worker that dies fails its whole chunk. Large items are serialised as workers take
    /// them; a [`close`](Pool::close) meanwhile refuses the rest.
    ///
    /// # Errors
    /// The first item's, in their order, that gave no result; the others are done all the same. Where each item is
    /// to have a result or an error of its own, use [`imap`](Pool::imap).
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
        self.options().map(function, items)
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
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        self.options().map_chunked(function, items, chunk)
    }

    /// As [`map`](Pool::map), but gives the results as they come, each with its item's place.
    ///
    /// All items are submitted at once, in chunks, and take memory until they are done;
    /// [`imap_unordered`](Pool::imap_unordered) takes them one by one, and suits items that are many, large or come
    /// slowly.
    ///
    /// # Errors
    /// When `function` is a bare closure (a [`closure!`](crate::closure) is fine), an item cannot be serialised, or the pool is closed. What concerns
    /// one item is that item's result.
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
    ///     for (place, result) in pool.map_unordered(square, 0..100)? {
    ///         assert_eq!(result?, (place * place) as u64);
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
        self.options().map_unordered(function, items)
    }

    /// Calls `function` with each of `items` and gives the results one by one, in their order.
    ///
    /// Items are taken as results are, up to 32 for each worker ahead of them: an endless iterator will do. So a
    /// result that takes long holds up those behind it only once the others are that far ahead.
    ///
    /// Dropped before its end, as by `?` or `break`, the iterator leaves undone what has not begun. What runs goes on;
    /// [`cancel`](Imap::cancel) ends that too.
    ///
    /// # Errors
    /// When `function` is a bare closure (a [`closure!`](crate::closure) is fine). What concerns one item is that
    /// item's result.
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
        self.options().imap(function, items)
    }

    /// As [`imap`](Pool::imap), but gives the results as they come, each with its item's place.
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
    ///     for (place, length) in pool.imap_unordered(length, words.map(str::to_owned))? {
    ///         assert_eq!(length?, words[place].len());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As for [`imap`](Pool::imap).
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
        self.options().imap_unordered(function, items)
    }

    /// Calls `function` once in a worker and waits for what it returns.
    ///
    /// # Errors
    /// When the task gave no result; see [`TaskError`](crate::TaskError).
    pub fn apply<F, Args, Shape>(&self, function: F, args: Args) -> Result<F::Output, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        self.options().apply(function, args)
    }

    /// Calls `function` once in a worker and does not wait for it. Waits for room, if the pool has a
    /// [bound](crate::PoolBuilder::max_pending).
    ///
    /// # Errors
    /// When `function` is a bare closure (a [`closure!`](crate::closure) is fine), the arguments cannot be serialised, or the pool is closed.
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
        self.options().submit(function, args)
    }

    /// As [`submit`](Pool::submit), but does not wait for room.
    ///
    /// # Errors
    /// [`PutError::Full`] when there is no room, [`PutError::Closed`] when the pool takes no more tasks,
    /// and otherwise as for [`submit`](Pool::submit). All of them give the arguments back.
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
        self.options().try_submit(function, args)
    }

    /// As [`submit`](Pool::submit), but waits for room no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`try_submit`](Pool::try_submit).
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
        self.options().submit_timeout(function, args, timeout)
    }

    /// Runs `work`, and returns when all tasks that it submitted through the [`Scope`] have ended.
    ///
    /// The tasks may be given arguments that are borrowed from here, and leave their results here: no
    /// handle of theirs outlives the scope. When `work` panics, its tasks are cancelled. In a forked copy of the
    /// process that made the pool, `work` runs, and what it submits fails.
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
    /// A task cannot be taken out of its scope:
    ///
    /// ```compile_fail
    /// # use procession::Pool;
    /// # fn square(n: u64) -> u64 { n * n }
    /// let pool = Pool::new(2).unwrap();
    /// let task = pool.scope(|scope| scope.submit(square, 3u64).unwrap());
    /// ```
    pub fn scope<'env, T>(&'env self, work: impl FnOnce(&Scope<'env, S>) -> T) -> T {
        self.options().scope(work)
    }

    fn options(&self) -> TaskOptions<'_, S> {
        TaskOptions::new(&self.inner, self.limits)
    }
}
