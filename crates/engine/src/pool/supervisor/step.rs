//! From the events of a task queue and the wishes of a supervisor to the steps of a front.

use std::ops::DerefMut;
use std::time::{Duration, Instant};

use super::super::event::{Event, Lost, Results};
use super::super::message::{INITIALIZER_FAILED, READY, WorkerMessage};
use super::super::task_queue::TaskQueue;
use super::{Action, FailedStart, Supervisor};
use crate::arena::owner::ProcId;
use crate::deadline::Deadline;
use crate::error::{Error, GetError};

/// Why a task ended without a result of its worker, which is alive.
#[derive(Debug)]
pub enum TaskFailure {
    /// It exceeded its time limit.
    Overdue {
        /// The item its worker had come to.
        item: u64,
        /// For how long it ran.
        ran: Duration,
        /// Its time limit.
        limit: Duration,
    },
    /// Its worker dropped it.
    Abandoned,
    /// It could not be given to the workers.
    Refused(Error),
}

/// What a front does next.
#[derive(Debug)]
pub enum Step {
    /// Start a worker if [`Supervisor::wants_start`], and report [`Supervisor::started`] or
    /// [`Supervisor::start_failed`].
    Start,
    /// Ask a worker to stop.
    Terminate(ProcId),
    /// Kill a worker.
    Kill(ProcId),
    /// Wait for the exit of a worker's process, and report [`Supervisor::exited`] or [`Supervisor::still_alive`].
    Reap {
        /// The worker.
        worker: ProcId,
        /// For how long to wait.
        until: Deadline,
    },
    /// A worker has exited, and is forgotten.
    Removed {
        /// The worker.
        worker: ProcId,
        /// The tasks that it held.
        lost: Vec<Lost>,
        /// The judgement, if it failed to start.
        failed: Option<FailedStart>,
    },
    /// Look whether workers that [`Supervisor::started_unwatched`] have exited, and report
    /// [`Supervisor::exited_unwatched`].
    CheckUnwatched,
    /// An unwatched worker has exited, and is forgotten: the first that was reported and not removed yet.
    RemovedUnwatched {
        /// The judgement, if it failed to start.
        failed: Option<FailedStart>,
    },
    /// The initializer of a worker failed.
    InitializerFailed {
        /// What the worker says about it.
        reason: WorkerMessage,
        /// The judgement.
        failed: FailedStart,
    },
    /// A task failed.
    Failed {
        /// The task's job.
        job: u64,
        /// Its place in the job.
        index: u64,
        /// Why.
        why: TaskFailure,
    },
    /// [`TaskQueue::ring`] was called, or the time of [`Front::next_chore`] has come.
    Woken,
}

/// The pool that a supervisor belongs to.
pub trait Front {
    /// Locks the supervisor.
    fn supervisor(&self) -> impl DerefMut<Target = Supervisor>;

    /// Where its results go.
    fn results(&self) -> &impl Results;

    /// The number of unfinished tasks; at least one while a closed pool may submit more.
    fn unfinished(&self) -> usize;

    /// When the front has other work to do.
    fn next_chore(&self) -> Deadline {
        Deadline::NEVER
    }
}

/// Waits for what a pool has to do next, and delivers results meanwhile. Returns `None` when the pool has ended.
///
/// # Errors
/// When the results cannot be read. The pool cannot go on then.
pub fn next_step(queue: &TaskQueue, front: &impl Front) -> Result<Option<Step>, GetError> {
    loop {
        // What a worker sent before it exited says why it did.
        let reads_the_last = front.supervisor().has_exits();
        let until = if reads_the_last {
            Deadline::NOW
        } else {
            let tasks = match front.supervisor().depends_on_tasks() {
                true => front.unfinished(),
                false => 0,
            };
            let action = front.supervisor().next_action(tasks, Instant::now());
            match action {
                Action::Start => return Ok(Some(Step::Start)),
                Action::Terminate(worker) => return Ok(Some(Step::Terminate(worker))),
                Action::Kill(worker) => return Ok(Some(Step::Kill(worker))),
                Action::Reap(worker, until) => {
                    let until = deadline(until);
                    return Ok(Some(Step::Reap { worker, until }));
                }
                Action::CheckUnwatched => return Ok(Some(Step::CheckUnwatched)),
                Action::Dismiss(workers) => {
                    queue.dismiss_all(&workers);
                    continue;
                }
                Action::Wait(until) => deadline(until),
                Action::End => return Ok(None),
            }
        };
        match next_event(queue, front, until) {
            Ok(Some(event)) => {
                let step = front.supervisor().handle(event, Instant::now());
                if step.is_some() {
                    return Ok(step);
                }
            }
            Ok(None) | Err(GetError::Interrupted) => {}
            Err(_) if reads_the_last => {
                let removed = front.supervisor().remove_exited(Instant::now());
                if let Some((worker, failed)) = removed {
                    let lost = queue.lost_by(worker);
                    return Ok(Some(Step::Removed {
                        worker,
                        lost,
                        failed,
                    }));
                }
                let removed = front.supervisor().remove_exited_unwatched(Instant::now());
                if let Some(failed) = removed {
                    return Ok(Some(Step::RemovedUnwatched { failed }));
                }
            }
            Err(GetError::Empty) if until.is_past() => {}
            Err(GetError::Empty) => return Ok(Some(Step::Woken)),
            Err(error) => return Err(error),
        }
    }
}

/// Delivers results until something else happens, or until a result may have changed what the supervisor wants
/// (`None`).
fn next_event(
    queue: &TaskQueue,
    front: &impl Front,
    until: Deadline,
) -> Result<Option<Event>, GetError> {
    let (watched, depends_on_tasks) = {
        let supervisor = front.supervisor();
        (supervisor.watched(), supervisor.depends_on_tasks())
    };
    if depends_on_tasks && front.unfinished() == 0 && front.supervisor().is_ending() {
        // Nothing waits outside of the shared memory: workers may exit.
        queue.close();
    }
    loop {
        let event = queue.next_event(until.min(front.next_chore()), &watched)?;
        if let Some(other) = front.results().take(event) {
            return Ok(Some(other));
        }
        let is_last = depends_on_tasks && front.unfinished() == 0;
        if is_last || until != Deadline::NEVER && until.is_past() {
            return Ok(None);
        }
    }
}

fn deadline(at: Option<Instant>) -> Deadline {
    at.map_or(Deadline::NEVER, |at| {
        Deadline::after(at.saturating_duration_since(Instant::now()))
    })
}

impl Supervisor {
    fn handle(&mut self, event: Event, now: Instant) -> Option<Step> {
        match event {
            Event::Gone(worker) => self.gone(worker, now),
            Event::Notice {
                worker,
                result_kind: READY,
                ..
            } => self.ready(worker),
            Event::Notice {
                worker,
                result_kind: INITIALIZER_FAILED,
                reply: reason,
            } => {
                let failed = self.initializer_failed(worker, now);
                return Some(Step::InitializerFailed { reason, failed });
            }
            Event::Overdue {
                job,
                index,
                item,
                ran,
                limit,
                worker,
            } => {
                self.stop(worker, now);
                let why = TaskFailure::Overdue { item, ran, limit };
                return Some(Step::Failed { job, index, why });
            }
            Event::Abandoned { job, index } => {
                let why = TaskFailure::Abandoned;
                return Some(Step::Failed { job, index, why });
            }
            Event::Refused { job, index, error } => {
                let why = TaskFailure::Refused(error);
                return Some(Step::Failed { job, index, why });
            }
            Event::Rung => return Some(Step::Woken),
            Event::Notice { .. } | Event::Result { .. } => {}
        }
        None
    }
}
