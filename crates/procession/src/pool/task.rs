//! One call on its way.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use procession_engine::Deadline;
use serde::de::DeserializeOwned;

use super::job;
use super::job_handle::JobHandle;
use crate::error::{TaskError, within};

/// A call given to a [`Pool`](crate::Pool) with [`submit`](crate::Pool::submit): what other
/// libraries call a future. It is a [`Future`] too, for any executor.
///
/// Dropped, the call is made all the same, and its result is let go of when it comes. Leaked with
/// [`std::mem::forget`], the result stays with the pool, and is moved out of the shared memory when the
/// pool ends. A task may outlive its pool.
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
    /// When the task gave none.
    pub fn join(mut self) -> Result<R, TaskError> {
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
    /// As for [`join_timeout`](Task::join_timeout).
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
    /// Whether [`join`](Task::join) would return at once.
    pub fn is_ready(&self) -> bool {
        self.taken || self.results.is_ready()
    }

    /// Ends the task with [`TaskError::Cancelled`], killing its worker if it runs already. `false`
    /// when it had ended.
    ///
    /// # Panics
    /// In a forked copy of the process that made the pool.
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
