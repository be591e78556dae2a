//! One submitted call.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use procession_engine::Deadline;
use serde::de::DeserializeOwned;

use super::job;
use super::job_handle::JobHandle;
use crate::error::{TaskError, within};

/// A call given to a [`Pool`](crate::Pool) with [`submit`](crate::PoolHandle::submit): what other libraries call a
/// future. It also implements [`Future`], for any executor.
///
/// Dropping it does not cancel the call; the result is discarded when it arrives. When it is leaked with
/// [`std::mem::forget`], the result stays with the pool and is copied out of shared memory when the pool ends.
/// A task may outlive its pool.
///
/// # Examples
/// ```
/// use procession::Pool;
/// use std::time::Duration;
///
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// # fn main() -> procession::Result<()> {
/// # procession::init();
/// let pool = Pool::new(1)?;
/// let mut task = pool.submit(square, 9)?;
/// if let Some(square) = task.join_timeout(Duration::from_secs(60))? {
///     assert_eq!(square, 81);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Task<R> {
    results: JobHandle,
    taken: bool,
    _result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Task<R> {
    pub(super) fn new(results: JobHandle) -> Task<R> {
        Task {
            results,
            taken: false,
            _result: PhantomData,
        }
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// Returns an error when the task has no result.
    pub fn join(mut self) -> Result<R, TaskError> {
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
    /// The same as for [`join_timeout`](Task::join_timeout).
    pub fn try_join(&mut self) -> Result<Option<R>, TaskError> {
        self.join_until(Deadline::NOW)
    }

    fn join_until(&mut self, deadline: Deadline) -> Result<Option<R>, TaskError> {
        if self.taken {
            return Err(TaskError::Taken);
        }
        match self.results.take(deadline) {
            Some((_, outcome)) => {
                self.taken = true;
                job::only_output(outcome).map(Some)
            }
            None => Ok(None),
        }
    }
}

impl<R> Task<R> {
    /// Returns whether [`join`](Task::join) would return at once.
    pub fn is_ready(&self) -> bool {
        self.taken || self.results.is_ready()
    }

    /// Ends the task with [`TaskError::Cancelled`], and kills its worker if the task is running. Returns
    /// `false` when it had already ended.
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
    /// assert!(task.cancel());
    /// assert!(matches!(task.join(), Err(TaskError::Cancelled)));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn cancel(&self) -> bool {
        self.results.expect_to_cancel()
    }
}

impl<R: DeserializeOwned> Future for Task<R> {
    type Output = Result<R, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.taken {
            return Poll::Ready(Err(TaskError::Taken));
        }
        self.results.poll(context).map(|outcome| {
            self.taken = true;
            job::only_output(outcome)
        })
    }
}
