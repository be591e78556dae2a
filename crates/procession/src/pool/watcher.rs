//! The thread of a pool that carries out what the engine's supervisor decides.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use procession_engine::pool::supervisor::{Step, TaskFailure, next_step};
use procession_engine::process::ProcId;

use super::shared::PoolShared;
use crate::error::{Error, TaskError};

impl PoolShared {
    /// Watches the pool until it has ended.
    pub(super) fn watch(&self) {
        loop {
            match next_step(&self.task_queue, self) {
                Ok(Some(step)) => self.carry_out(step),
                Ok(None) => return,
                Err(error) => {
                    // Without the task queue nothing is known about the workers.
                    self.supervisor().terminate(Instant::now());
                    self.give_up(error.to_string());
                }
            }
        }
    }

    fn carry_out(&self, step: Step) {
        match step {
            Step::Start => self.start_asked(),
            Step::Terminate(worker) | Step::Kill(worker) => self.workers.kill(worker),
            Step::Reap { worker, until } => match self.workers.reap(worker, until) {
                Some(by_kill) => self.supervisor().exited(worker, by_kill),
                None => self.supervisor().still_alive(worker, Instant::now()),
            },
            Step::Removed {
                worker,
                lost,
                failed,
            } => {
                let Some(mut error) = self.workers.remove(worker) else {
                    return;
                };
                if let (Some(failed), TaskError::WorkerDied { how, .. }) = (failed, &error)
                    && failed.gives_up
                {
                    let count = failed.count;
                    self.give_up(format!(
                        "{count} ended before they were ready; the last: {how}"
                    ));
                }
                if self.supervisor().is_terminated() {
                    error = TaskError::PoolGone;
                } else if let Some(broken) = self.broken() {
                    // It was killed with all the others.
                    error = broken.clone();
                }
                for task in lost.into_iter().filter(|task| !task.repeated) {
                    self.deliver(task.job, task.index, Err(error.clone()));
                }
            }
            Step::InitializerFailed { reason, failed } => {
                if failed.gives_up {
                    self.give_up(String::from_utf8_lossy(reason.bytes()).into_owned());
                }
            }
            Step::Failed { job, index, why } => {
                let error = match why {
                    TaskFailure::Overdue { .. } => TaskError::TimedOut,
                    TaskFailure::Abandoned => {
                        TaskError::Undelivered("the worker dropped the task".to_owned())
                    }
                    TaskFailure::Refused(error) => TaskError::Undelivered(error.to_string()),
                };
                self.deliver(job, index, Err(error));
            }
            Step::Woken => {}
        }
    }

    /// Starts a worker that the supervisor asked for.
    pub(super) fn start_worker(&self) -> Result<ProcId, Error> {
        let started = self.workers.start(&self.task_queue);
        if let Ok(worker) = started {
            self.supervisor().started(worker, Instant::now());
        }
        started
    }

    fn start_asked(&self) {
        // This runs code of the user: it serialises the initializer's arguments. That may panic.
        match catch_unwind(AssertUnwindSafe(|| self.start_worker())) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let failed = self.supervisor().start_failed(Instant::now());
                if failed.gives_up {
                    self.give_up(error.to_string());
                }
            }
            Err(_) => {
                self.supervisor().not_started();
                self.give_up("its watcher panicked, see standard error".to_owned());
            }
        }
    }
}
