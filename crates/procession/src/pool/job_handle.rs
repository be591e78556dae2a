//! The handle through which results of a job are taken.

use std::fmt;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use procession_engine::Deadline;

use super::job::{Job, Outcome};
use super::local::Local;
use super::shared::PoolShared;
use crate::error::TaskError;

/// Dropping it discards results still to come. It does not keep the pool alive: a pool leaked with an open task
/// leaks no more than that task's result.
pub(super) struct JobHandle {
    id: u64,
    open: Local<Open>,
}

struct Open {
    shared: Weak<PoolShared>,
    id: u64,
    job: Arc<Job>,
}

impl JobHandle {
    pub(super) fn new(shared: Weak<PoolShared>, id: u64, job: Arc<Job>) -> JobHandle {
        let open = Local::new(Open { shared, id, job });
        JobHandle { id, open }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Returns whether [`take`](JobHandle::take) would return at once.
    pub(super) fn is_ready(&self) -> bool {
        self.open.get().map_or(true, |open| open.job.is_ready())
    }

    /// Waits until `count` results are available.
    pub(super) fn wait_until(&self, count: usize) {
        if let Ok(open) = self.open.get() {
            open.job.wait_until(count);
        }
    }

    /// Delivers an outcome for a task that could not be submitted.
    pub(super) fn deliver(&self, index: u64, outcome: Outcome) {
        if let Ok(open) = self.open.get() {
            open.job.deliver(index, outcome);
        }
    }

    /// Takes the next result as [`Job::take`] does. First looks for results in this thread, which is faster for one
    /// that arrives at once.
    pub(super) fn take(&self, deadline: Deadline) -> Option<(Option<u64>, Outcome)> {
        let Open { shared, job, .. } = match self.open.get() {
            Ok(open) => open,
            Err(error) => return Some((None, Err(error))),
        };
        if !job.is_ready()
            && !deadline.is_past()
            && let Some(shared) = shared.upgrade()
        {
            shared.task_queue.assist(|| job.is_ready(), &*shared);
        }
        job.take(deadline)
    }

    /// Takes the next result, or registers the waker of `context`.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Outcome> {
        match self.open.get() {
            Ok(open) => open.job.poll(context.waker()),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Ends tasks that have not started.
    pub(super) fn withdraw(&self) {
        if let Ok(open) = self.open.get()
            && let Some(shared) = open.shared.upgrade()
        {
            shared.withdraw(self.id);
        }
    }

    /// Ends all tasks and kills the workers that run them. Returns `false` when all tasks had ended.
    pub(super) fn cancel(&self) -> Result<bool, TaskError> {
        let shared = self.open.get()?.shared.upgrade();
        Ok(shared.is_some_and(|shared| shared.cancel(self.id)))
    }

    /// Like [`cancel`](JobHandle::cancel), for callers that return no error.
    #[track_caller]
    pub(super) fn expect_to_cancel(&self) -> bool {
        self.cancel().unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.forget_job(self.id);
        }
    }
}

impl fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {}", self.id)
    }
}
