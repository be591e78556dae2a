//! The thread of a pool that carries out what the engine's supervisor decides.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::MutexGuard;
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
            Step::Start => {
                let whole = self.workers.change();
                self.start_if_wanted(whole);
            }
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
                let died = self.workers.died(worker);
                if let Some(failed) = failed.filter(|failed| failed.gives_up) {
                    let count = failed.count;
                    let how = &died.1;
                    self.give_up(format!(
                        "{count} ended before they were ready; the last: {how}"
                    ));
                }
                self.replace(worker);
                let error = match self.broken() {
                    _ if self.supervisor().is_terminated() => TaskError::PoolGone,
                    // It was killed with all the others.
                    Some(broken) => broken.clone(),
                    None => TaskError::WorkerDied {
                        pid: died.0,
                        how: died.1,
                    },
                };
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
            // All workers are processes of this program.
            Step::Woken | Step::CheckUnwatched | Step::RemovedUnwatched { .. } => {}
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

    /// Removes a worker. Its successor takes its place at once, if there is to be one now.
    fn replace(&self, worker: ProcId) {
        let whole = self.workers.change();
        self.workers.remove(worker);
        self.start_if_wanted(whole);
    }

    fn start_if_wanted(&self, whole: MutexGuard<'_, ()>) {
        let tasks = self.task_queue.outstanding();
        if !self.supervisor().wants_start(tasks, Instant::now()) {
            return;
        }
        // This runs code of the user: it serialises the initializer's arguments. That may panic.
        let started = catch_unwind(AssertUnwindSafe(|| self.start_worker()));
        drop(whole);
        match started {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let failed = self.supervisor().start_failed(Instant::now());
                if failed.gives_up {
                    self.give_up(error.to_string());
                }
            }
            Err(_) => self.give_up("its watcher panicked, see standard error".to_owned()),
        }
    }
}
