//! Tasks that end before the scope that submitted them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procession_engine::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::handle::PoolHandle;
use super::job::{self, Outcome};
use super::job_handle::JobHandle;
use crate::error::{Error, TaskError, within};
use crate::transfer::function::TaskFunction;

/// Submits tasks that may borrow from the caller; see [`Pool::scope`](crate::PoolHandle::scope).
pub struct Scope<'env, S = ()> {
    pool: &'env PoolHandle<S>,
    open: RefCell<Open<'env>>,
}

/// The tasks whose results were not taken, in the order of submission.
type Open<'env> = BTreeMap<u64, Entry<'env>>;

struct Entry<'env> {
    results: JobHandle,
    then: Option<Box<dyn FnOnce(Outcome) + 'env>>,
}

impl<'env, S: 'static> Scope<'env, S> {
    pub(super) fn new(pool: &'env PoolHandle<S>) -> Scope<'env, S> {
        Scope {
            pool,
            open: RefCell::default(),
        }
    }

    /// Submits one call of `function` and returns without waiting for its result. The arguments may be
    /// borrowed, see [`SendAs`].
    ///
    /// # Errors
    /// The same as for [`Pool::submit`](crate::PoolHandle::submit).
    pub fn submit<F, Args, Shape, Sent>(
        &self,
        function: F,
        args: Sent,
    ) -> Result<ScopedTask<'_, 'env, F::Output>, Error>
    where
        F: TaskFunction<S, Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: DeserializeOwned + 'static,
        Shape: 'static,
        Sent: SendAs<Args>,
    {
        let results = self.pool.submit_one(function, &args, Deadline::NEVER)?;
        let results = results.ok_or(Error::Full)?;
        let id = results.id();
        let entry = Entry {
            results,
            then: None,
        };
        self.open.borrow_mut().insert(id, entry);
        Ok(ScopedTask {
            open: &self.open,
            id,
            _result: PhantomData,
        })
    }

    /// Waits until all tasks have ended, and passes their results to the callbacks of [`ScopedTask::then`].
    pub(super) fn finish(&self) {
        while let Some((_, entry)) = self.next_open() {
            let outcome = entry.results.take(Deadline::NEVER);
            if let (Some(then), Some((_, outcome))) = (entry.then, outcome) {
                then(outcome);
            }
        }
    }

    fn next_open(&self) -> Option<(u64, Entry<'env>)> {
        self.open.borrow_mut().pop_first()
    }
}

impl<S> Drop for Scope<'_, S> {
    /// Cancels open tasks. There are some only after a panic.
    fn drop(&mut self) {
        let open = self.open.get_mut();
        // First withdraw all: a killed worker is replaced, and its successor must find none of these
        // tasks.
        open.values().for_each(|entry| entry.results.withdraw());
        for entry in open.values() {
            // In a forked copy there is nothing to cancel.
            let _ = entry.results.cancel();
        }
    }
}

impl<S> fmt::Debug for Scope<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// A submitted call, which ends before its [`Scope`] does.
///
/// When it is dropped or leaked, the scope still waits for the call.
pub struct ScopedTask<'scope, 'env, R> {
    open: &'scope RefCell<Open<'env>>,
    id: u64,
    _result: PhantomData<fn() -> R>,
}

impl<'env, R: DeserializeOwned> ScopedTask<'_, 'env, R> {
    /// Waits for the result.
    ///
    /// # Errors
    /// Returns an error when the task has no result.
    pub fn join(self) -> Result<R, TaskError> {
        self.join_until(Deadline::NEVER)?.ok_or(TaskError::PoolGone)
    }

    /// Waits for the result for at most `timeout`. Returns `None` if it is not available by then.
    ///
    /// # Errors
    /// Returns an error when the task has no result, and [`TaskError::Taken`] once the result was returned.
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>, TaskError> {
        self.join_until(within(timeout))
    }

    /// Returns the result if it is available.
    ///
    /// # Errors
    /// The same as for [`join_timeout`](ScopedTask::join_timeout).
    pub fn try_join(&mut self) -> Result<Option<R>, TaskError> {
        self.join_until(Deadline::NOW)
    }

    fn join_until(&self, deadline: Deadline) -> Result<Option<R>, TaskError> {
        let taken = match self.open.borrow().get(&self.id) {
            Some(entry) => entry.results.take(deadline),
            None => return Err(TaskError::Taken),
        };
        let Some((_, outcome)) = taken else {
            return Ok(None);
        };
        self.open.borrow_mut().remove(&self.id);
        job::only_output(outcome).map(Some)
    }

    /// Calls `with` with the result when the scope waits for its tasks, in the order of submission. When
    /// `with` panics, the remaining tasks are cancelled.
    pub fn then(self, with: impl FnOnce(Result<R, TaskError>) + 'env) {
        if let Some(entry) = self.open.borrow_mut().get_mut(&self.id) {
            entry.then = Some(Box::new(move |outcome| with(job::only_output(outcome))));
        }
    }
}

impl<R> ScopedTask<'_, '_, R> {
    /// Returns whether [`join`](ScopedTask::join) would return at once.
    pub fn is_ready(&self) -> bool {
        let open = self.open.borrow();
        open.get(&self.id)
            .is_none_or(|entry| entry.results.is_ready())
    }

    /// Ends the task with [`TaskError::Cancelled`], and kills its worker if the task is running. Returns
    /// `false` when it had already ended.
    ///
    /// # Panics
    /// Panics in a forked copy of the process that created the pool.
    #[track_caller]
    pub fn cancel(&self) -> bool {
        let open = self.open.borrow();
        open.get(&self.id)
            .is_some_and(|entry| entry.results.expect_to_cancel())
    }
}

impl<R> fmt::Debug for ScopedTask<'_, '_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedTask")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A type whose values can be sent where a function takes `Args`, because both serialise alike.
///
/// A call serialises its arguments when it is submitted, so they may be borrowed: a `&T` for a `T`, a `&str`
/// for a `String`, a `&[T]` for a `Vec<T>`, a `&Path` for a `PathBuf`, also inside an `Option` or the tuple
/// that stands for several arguments. Numbers, `bool`, `char` and `String` are passed as they are.
///
/// You may implement it for your own borrowing types. If the two types do not serialise alike, the worker
/// cannot read the arguments, and the task fails.
///
/// # Examples
/// ```
/// use procession::{Pool, SendAs};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Search {
///     text: String,
///     word: String,
/// }
///
/// #[derive(Serialize)]
/// struct SearchIn<'a> {
///     text: &'a str,
///     word: &'a str,
/// }
///
/// impl SendAs<Search> for SearchIn<'_> {}
///
/// fn find(search: Search) -> Option<usize> {
///     search.text.find(&search.word)
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let pool = Pool::new(2)?;
///     let text = "processes that walk in procession".to_owned();
///     let (walk, run) = pool.scope(|scope| -> procession::Result<_> {
///         let walk = scope.submit(find, SearchIn { text: &text, word: "walk" })?;
///         let run = scope.submit(find, SearchIn { text: &text, word: "run" })?;
///         Ok((walk.join()?, run.join()?))
///     })?;
///     assert_eq!((walk, run), (Some(15), None));
///     Ok(())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as `{Args}`",
    note = "pass a reference to it, or a tuple of references for several arguments"
)]
pub trait SendAs<Args>: Serialize {}

impl<T: Serialize> SendAs<T> for &T {}

impl SendAs<String> for &str {}

impl<T: Serialize> SendAs<Vec<T>> for &[T] {}

impl SendAs<PathBuf> for &Path {}

impl<Sent: SendAs<Args>, Args> SendAs<Option<Args>> for Option<Sent> {}

macro_rules! as_they_are {
    ($($type:ty)+) => {$(
        impl SendAs<$type> for $type {}
    )+};
}

as_they_are!(() bool char String f32 f64);
as_they_are!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

macro_rules! in_a_tuple {
    ($($sent:ident $args:ident)+) => {
        impl<$($sent: SendAs<$args>, $args),+> SendAs<($($args,)+)> for ($($sent,)+) {}
    };
}

in_a_tuple!(A Aa B Bb);
in_a_tuple!(A Aa B Bb C Cc);
in_a_tuple!(A Aa B Bb C Cc D Dd);
in_a_tuple!(A Aa B Bb C Cc D Dd E Ee);
in_a_tuple!(A Aa B Bb C Cc D Dd E Ee G Gg);
in_a_tuple!(A Aa B Bb C Cc D Dd E Ee G Gg H Hh);
in_a_tuple!(A Aa B Bb C Cc D Dd E Ee G Gg H Hh I Ii);
