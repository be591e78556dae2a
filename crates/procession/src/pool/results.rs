//! The right to the results of a job.

use std::fmt;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use procession_engine::Deadline;

use super::hall::Hall;
use super::job::{Job, Outcome};

/// When it goes, results still to come are let go of. It does not keep the pool: one that was
/// forgotten with a task in it leaves no more behind than that task's result.
pub(super) struct Results {
    hall: Weak<Hall>,
    id: u64,
    job: Arc<Job>,
}

impl Results {
    pub(super) fn new(hall: Weak<Hall>, id: u64, job: Arc<Job>) -> Results {
        Results { hall, id, job }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn job(&self) -> &Job {
        &self.job
    }

    /// Takes the next result as [`Job::take`] does. A result that comes at once is looked for in this thread.
    pub(super) fn take(&self, deadline: Deadline) -> Option<(Option<u64>, Outcome)> {
        if !self.job.is_ready()
            && !deadline.is_past()
            && let Some(hall) = self.hall.upgrade()
        {
            hall.board
                .assist(|| self.job.is_ready(), |event| hall.file(event));
        }
        self.job.take(deadline)
    }

    /// Takes the next result, or has the task of `context` woken for it.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Outcome> {
        self.job.poll(context.waker())
    }

    /// Ends those tasks that have not begun.
    pub(super) fn withdraw(&self) {
        if let Some(hall) = self.hall.upgrade() {
            hall.withdraw(self.id);
        }
    }

    /// Ends all tasks, killing the workers of those that run. False when all had ended.
    pub(super) fn cancel(&self) -> bool {
        self.hall.upgrade().is_some_and(|hall| hall.cancel(self.id))
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        if let Some(hall) = self.hall.upgrade() {
            hall.forget_job(self.id);
        }
    }
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {}", self.id)
    }
}
