//! Tasks that end before the block that submits them is left.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use procession_engine::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::job::{self, Outcome};
use super::limited::Limited;
use super::results::Results;
use super::send_as::SendAs;
use crate::error::{Error, TaskError, within};
use crate::function::TaskFunction;

/// Submits the tasks of a block; see [`Pool::scope`](crate::Pool::scope).
pub struct Scope<'env, S = ()> {
    pool: Limited<'env, S>,
    open: RefCell<Open<'env>>,
}

/// The tasks whose results were not taken, in the order in which they were submitted.
type Open<'env> = BTreeMap<u64, Entry<'env>>;

struct Entry<'env> {
    results: Results,
    then: Option<Box<dyn FnOnce(Outcome) + 'env>>,
}

impl<'env, S: 'static> Scope<'env, S> {
    pub(super) fn new(pool: Limited<'env, S>) -> Scope<'env, S> {
        Scope {
            pool,
            open: RefCell::default(),
        }
    }

    /// Calls `function` once in a worker and does not wait for it. Its arguments may be borrowed, see
    /// [`SendAs`].
    ///
    /// # Errors
    /// As for [`Pool::submit`](crate::Pool::submit).
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
        let results = self.pool.send(function, &args, Deadline::NEVER)?;
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

    /// Waits until all tasks have ended, and gives their results to those who asked for it.
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
    /// What is open here is so because of a panic.
    fn drop(&mut self) {
        let open = self.open.get_mut();
        // A worker that is killed is replaced: nothing may be left for the next one to begin.
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

/// A call on its way, which ends before its [`Scope`] does.
///
/// Dropped or leaked, the scope waits for it all the same.
pub struct ScopedTask<'scope, 'env, R> {
    open: &'scope RefCell<Open<'env>>,
    id: u64,
    _result: PhantomData<fn() -> R>,
}

impl<'env, R: DeserializeOwned> ScopedTask<'_, 'env, R> {
    /// Waits for the result.
    ///
    /// # Errors
    /// When the task gave none.
    pub fn join(self) -> Result<R, TaskError> {
        self.join_until(Deadline::NEVER)?.ok_or(TaskError::PoolGone)
    }

    /// Waits for the result, no longer than `timeout`. `None` while it is not there.
    ///
    /// # Errors
    /// When the task gave none; and [`TaskError::Taken`] once the result was returned.
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>, TaskError> {
        self.join_until(within(timeout))
    }

    /// The result, if it is there.
    ///
    /// # Errors
    /// As for [`join_timeout`](ScopedTask::join_timeout).
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

    /// Has the result given to `with` when the scope waits for its tasks, in the order in which they
    /// were submitted. When it panics, the tasks that are left are cancelled.
    pub fn then(self, with: impl FnOnce(Result<R, TaskError>) + 'env) {
        if let Some(entry) = self.open.borrow_mut().get_mut(&self.id) {
            entry.then = Some(Box::new(move |outcome| with(job::only_output(outcome))));
        }
    }
}

impl<R> ScopedTask<'_, '_, R> {
    /// Whether [`join`](ScopedTask::join) would return at once.
    pub fn is_ready(&self) -> bool {
        let open = self.open.borrow();
        open.get(&self.id)
            .is_none_or(|entry| entry.results.is_ready())
    }

    /// Ends the task with [`TaskError::Cancelled`], killing its worker if it runs already. `false`
    /// when it had ended.
    ///
    /// # Panics
    /// In a forked copy of the process that made the pool.
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
