//! What a submitter tells a task queue, and what it learns from it.

use std::time::Duration;

use super::message::WorkerMessage;
use crate::arena::owner::ProcId;
use crate::error::Error;

/// A task as the submitter describes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Task {
    /// The job that the task is part of; any number.
    pub job: u64,
    /// The task's place within the job; any number.
    pub index: u64,
    /// How long the task may run once a worker has claimed it.
    pub timeout: Option<Duration>,
    /// How many times the task is tried again if its worker dies.
    pub retries: u32,
    /// The number of the task's first item, by the submitter's count.
    pub first_item: u64,
    /// The memory that the task takes until it ends, in bytes, by the submitter's count; see [`Room`](super::Room).
    pub weight: u64,
}

/// What [`TaskQueue::next_event`](super::TaskQueue::next_event) reports.
#[derive(Debug)]
pub enum Event {
    /// A task is done.
    Result {
        /// The task's job.
        job: u64,
        /// Its place in the job.
        index: u64,
        /// What the worker passed to `finish`.
        result_kind: u8,
        /// The result.
        reply: WorkerMessage,
    },
    /// A worker gave up a task without a result, and is alive.
    Abandoned {
        /// The task's job.
        job: u64,
        /// Its place in the job.
        index: u64,
    },
    /// A task could not be given to the workers.
    Refused {
        /// The task's job.
        job: u64,
        /// Its place in the job.
        index: u64,
        /// Why.
        error: Error,
    },
    /// A worker sent a message outside of any task.
    Notice {
        /// The sender.
        worker: ProcId,
        /// What it passed to `notify`.
        result_kind: u8,
        /// The rest of what it passed.
        reply: WorkerMessage,
    },
    /// A watched worker is gone. All that it sent was reported before. [`TaskQueue::lost_by`](super::TaskQueue::lost_by) says what it held.
    Gone(ProcId),
    /// A task exceeded its time limit. It has ended; its worker must be killed.
    Overdue {
        /// The task's job.
        job: u64,
        /// Its place in the job.
        index: u64,
        /// The item its worker had come to.
        item: u64,
        /// For how long it ran.
        ran: Duration,
        /// Its time limit.
        limit: Duration,
        /// The worker that runs it. It claims no further task.
        worker: ProcId,
    },
    /// [`TaskQueue::ring`](super::TaskQueue::ring) was called.
    Rung,
}

/// Where the results of tasks go.
pub trait Results {
    /// Delivers the result of a task.
    fn deliver(&self, job: u64, index: u64, result_kind: u8, reply: WorkerMessage);

    /// Delivers the result in an event. Returns any other event.
    #[inline]
    fn take(&self, event: Event) -> Option<Event> {
        let Event::Result {
            job,
            index,
            result_kind,
            reply,
        } = event
        else {
            return Some(event);
        };
        self.deliver(job, index, result_kind, reply);
        None
    }
}

/// A task that was lost with its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The task's job.
    pub job: u64,
    /// Its place in the job.
    pub index: u64,
    /// The item its worker had come to.
    pub item: u64,
    /// How many workers died over it.
    pub attempts: u32,
    /// Whether it is queued again. If not, it has ended.
    pub repeated: bool,
}

/// What [`TaskQueue::cancel`](super::TaskQueue::cancel) did. The tasks in it have ended; no event follows for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Places of the tasks that had not begun.
    pub withdrawn: Vec<u64>,
    /// Places of the tasks that run, and the workers that must be killed to stop them.
    pub running: Vec<(u64, ProcId)>,
}
