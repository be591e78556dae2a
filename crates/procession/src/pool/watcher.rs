//! The thread that passes results on and replaces workers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use procession_engine::Deadline;
use procession_engine::error::GetError;
use procession_engine::pool::{Event, Lost};
use procession_engine::process::ProcId;

use super::job::Response;
use super::shared::PoolShared;
use super::worker::FAILURE;
use super::worker_set::{CHECK_INTERVAL, WorkerSet};
use crate::error::TaskError;

/// Watches a pool until it has ended.
pub(super) fn watch(shared: &Arc<PoolShared>) {
    // Starting a worker runs code of the user: it serialises the initializer's arguments. That may panic.
    if catch_unwind(AssertUnwindSafe(|| watch_on(shared))).is_err() {
        let proc_ids = shared.workers().proc_ids();
        shared.give_up("its watcher panicked, see standard error", &proc_ids);
        shared.close();
    }
}

fn watch_on(shared: &Arc<PoolShared>) {
    let mut checked = Instant::now();
    let (mut proc_ids, mut unsettled) = (shared.workers().proc_ids(), true);
    loop {
        let until = if unsettled {
            Deadline::after(CHECK_INTERVAL)
        } else {
            Deadline::NEVER
        };
        let is_time = || unsettled && checked.elapsed() >= CHECK_INTERVAL;
        match shared.task_queue.next_event(until, &proc_ids) {
            Ok(result @ Event::Result { .. }) => {
                shared.deliver_event(result);
                if shared.task_queue.outstanding() > 0 && !is_time() {
                    // Nothing about the workers has changed.
                    continue;
                }
            }
            Ok(Event::Abandoned { job, index }) => {
                let reason = "the worker dropped the task".to_owned();
                shared.deliver(job, index, Err(TaskError::Undelivered(reason)));
            }
            Ok(Event::Refused { job, index, error }) => {
                shared.deliver(job, index, Err(TaskError::Undelivered(error.to_string())));
            }
            Ok(Event::Notice { worker, .. }) => shared.workers().ready(worker),
            Ok(Event::Gone(worker)) => shared.reap(worker),
            Ok(Event::Overdue {
                job, index, worker, ..
            }) => {
                shared.deliver(job, index, Err(TaskError::TimedOut));
                shared.workers().kill(worker);
            }
            Ok(Event::Rung) | Err(GetError::Interrupted | GetError::Empty) => {}
            Err(error) => shared.give_up(&error.to_string(), &proc_ids),
        }
        if is_time() {
            shared.check();
            checked = Instant::now();
        }
        let workers = shared.workers();
        if workers.is_ending() && workers.is_empty() {
            break;
        }
        proc_ids = workers.proc_ids();
        unsettled = workers.is_unsettled(&shared.task_queue);
    }
}

impl PoolShared {
    /// Delivers the result of an event.
    pub(super) fn deliver_event(&self, event: Event) {
        let Event::Result {
            job,
            index,
            verdict,
            reply,
        } = event
        else {
            return;
        };
        let outcome = match verdict {
            FAILURE => {
                let reason = String::from_utf8_lossy(reply.bytes()).into_owned();
                Err(TaskError::Undelivered(reason))
            }
            _ => Ok(Response::Shared(reply)),
        };
        self.deliver(job, index, outcome);
    }

    /// Fails the pool when the task queue can no longer be read.
    fn give_up(&self, why: &str, workers: &[ProcId]) {
        self.workers().give_up(why.to_owned());
        workers.iter().for_each(|worker| self.reap(*worker));
        self.fail_all(&TaskError::NoWorkers(why.to_owned()));
    }

    /// Handles changes that cause no event: workers that ended before they claimed their process entry, and
    /// workers that could not be started.
    fn check(&self) {
        let ended = self.workers().ended_early();
        ended.into_iter().for_each(|worker| self.reap(worker));
        let broken = self.replace_missing(self.workers());
        broken.iter().for_each(|error| self.fail_all(error));
    }

    /// Fails the tasks a worker held, and starts a replacement.
    fn reap(&self, worker: ProcId) {
        let mut workers = self.workers();
        let Some(error) = workers.remove(worker) else {
            return;
        };
        let lost: Vec<Lost> = self.task_queue.lost_by(worker);
        let broken = self.replace_missing(workers);
        for task in lost.into_iter().filter(|task| !task.repeated) {
            self.deliver(task.job, task.index, Err(error.clone()));
        }
        broken.iter().for_each(|error| self.fail_all(error));
        // Tasks cancelled or timed out by killing the worker have ended only now.
        self.notify_room();
    }

    /// Starts missing workers. If there can be none, returns the reason.
    fn replace_missing(&self, mut workers: MutexGuard<'_, WorkerSet>) -> Option<TaskError> {
        workers.fill_or_give_up(&self.task_queue);
        workers.broken().cloned()
    }
}
