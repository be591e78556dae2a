//! The supervisor of a process pool's workers, whose steps `procession._core.pool.process_backend` carries out.

use std::ops::DerefMut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procession_engine::error::GetError;
use procession_engine::pool::supervisor::{
    self, FailedStart, Front, OomHint, OomKills, Policy, Step, Supervisor, TaskFailure,
};
use procession_engine::pool::{Results, TaskQueue};
use procession_engine::{Deadline, Error, ProcId};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::jobs::Jobs;
use super::task_queue::PoolTaskQueue;
use crate::support::errors::raise;

/// `next_step` returns at least this often while there are finished jobs to forget.
const FORGET_INTERVAL: Duration = Duration::from_millis(50);
/// The same while jobs are open: a result that is not needed any more goes without waking the watcher.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(1);

/// Says what a process pool has to do next.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct PoolSupervisor {
    supervisor: Mutex<Supervisor>,
    queue: Arc<TaskQueue>,
    jobs: Arc<Jobs>,
    has_given_up: Arc<AtomicBool>,
    oom_kills: Mutex<OomKills>,
}

impl Front for PoolSupervisor {
    fn supervisor(&self) -> impl DerefMut<Target = Supervisor> {
        self.lock()
    }

    fn results(&self) -> &impl Results {
        &*self.jobs
    }

    fn unfinished(&self) -> usize {
        self.queue.outstanding().max(self.jobs.len())
    }

    fn next_chore(&self) -> Deadline {
        if self.jobs.has_finished() {
            Deadline::after(FORGET_INTERVAL)
        } else if self.jobs.len() > 0 {
            Deadline::after(CLEANUP_INTERVAL)
        } else {
            Deadline::NEVER
        }
    }
}

impl PoolSupervisor {
    fn lock(&self) -> MutexGuard<'_, Supervisor> {
        self.supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failed start: how many there were in a row, and whether the pool gives up.
fn judgement(failed: FailedStart) -> (usize, bool) {
    (failed.count, failed.gives_up)
}

fn step_tuple(py: Python<'_>, step: Step) -> PyResult<Bound<'_, PyTuple>> {
    match step {
        Step::Woken => ("woken",).into_pyobject(py),
        Step::Start => ("start",).into_pyobject(py),
        Step::Terminate(worker) => ("terminate", worker.as_u32()).into_pyobject(py),
        Step::Kill(worker) => ("kill", worker.as_u32()).into_pyobject(py),
        Step::Reap { worker, until } => {
            let seconds = until.remaining().map(|left| left.as_secs_f64());
            ("reap", worker.as_u32(), seconds).into_pyobject(py)
        }
        Step::Removed {
            worker,
            lost,
            failed,
        } => {
            let lost = lost.into_iter().filter(|task| !task.repeated);
            let lost: Vec<_> = lost.map(|task| (task.job, task.index, task.item)).collect();
            ("removed", worker.as_u32(), lost, failed.map(judgement)).into_pyobject(py)
        }
        Step::CheckUnwatched => ("check_unwatched",).into_pyobject(py),
        Step::RemovedUnwatched { failed } => {
            ("removed_unwatched", failed.map(judgement)).into_pyobject(py)
        }
        Step::InitializerFailed { reason, failed } => {
            let reason = PyBytes::new(py, reason.bytes());
            ("initializer_failed", reason, judgement(failed)).into_pyobject(py)
        }
        Step::Failed { job, index, why } => match why {
            TaskFailure::Overdue { item, ran, limit } => {
                let (ran, limit) = (ran.as_secs_f64(), limit.as_secs_f64());
                ("overdue", job, index, item, ran, limit).into_pyobject(py)
            }
            TaskFailure::Abandoned => ("abandoned", job, index).into_pyobject(py),
            TaskFailure::Refused(error) => {
                ("refused", job, index, raise(error).into_value(py)).into_pyobject(py)
            }
        },
    }
}

fn proc_id(raw: u32) -> PyResult<ProcId> {
    ProcId::from_u32(raw).ok_or_else(|| raise(Error::BadHandle))
}

#[pymethods]
impl PoolSupervisor {
    /// Creates the supervisor of so many workers, which are killed `grace` seconds after they were asked to stop.
    #[new]
    fn new(task_queue: &PoolTaskQueue, workers: usize, grace: f64) -> PoolSupervisor {
        let policy = Policy {
            grace: Duration::from_secs_f64(grace),
            is_final: false,
        };
        PoolSupervisor {
            supervisor: Mutex::new(Supervisor::new(policy, workers, Instant::now())),
            queue: task_queue.queue.clone(),
            jobs: task_queue.jobs.clone(),
            has_given_up: task_queue.has_given_up.clone(),
            oom_kills: Mutex::new(OomKills::now()),
        }
    }

    /// Stores results until there is something to do, and returns that as a tuple. Returns None when the pool has ended.
    fn next_step<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let step = py.detach(|| supervisor::next_step(&self.queue, self));
        let has_given_up = self.lock().has_given_up();
        self.has_given_up.store(has_given_up, Ordering::Relaxed);
        match step {
            Ok(Some(step)) => step_tuple(py, step).map(Some),
            Ok(None) => Ok(None),
            Err(GetError::Failed(error)) => Err(raise(error)),
            Err(error) => Err(PyValueError::new_err(error.to_string())),
        }
    }

    /// Returns whether there are fewer workers than wanted.
    fn is_short(&self) -> bool {
        self.lock().is_short()
    }

    /// Returns whether to start a worker now. Only one thread at a time may ask, start and report.
    fn wants_start(&self) -> bool {
        let tasks = self.unfinished();
        self.lock().wants_start(tasks, Instant::now())
    }

    /// A worker was started. Without an entry in the table of processes, the caller has to watch it.
    fn started(&self, worker: Option<u32>) -> PyResult<()> {
        match worker {
            Some(worker) => self.lock().started(proc_id(worker)?, Instant::now()),
            None => self.lock().started_unwatched(Instant::now()),
        }
        Ok(())
    }

    /// A worker could not be started. Returns how many starts failed in a row, and whether the pool gives up.
    fn start_failed(&self) -> (usize, bool) {
        judgement(self.lock().start_failed(Instant::now()))
    }

    fn exited(&self, worker: u32, by_kill: bool) -> PyResult<()> {
        self.lock().exited(proc_id(worker)?, by_kill);
        Ok(())
    }

    /// A worker without an entry in the table of processes has exited.
    fn exited_unwatched(&self, by_kill: bool) {
        self.lock().exited_unwatched(by_kill);
    }

    fn still_alive(&self, worker: u32) -> PyResult<()> {
        self.lock().still_alive(proc_id(worker)?, Instant::now());
        Ok(())
    }

    /// Ends the tasks of a job, and the workers that run them.
    fn cancel(&self, number: u64) {
        if let Some(job) = self.jobs.job(number) {
            // First, since the feeder finds room as soon as the tasks of the job are gone.
            job.give_up();
        }
        for (_, worker) in self.queue.cancel(number, None).running {
            self.lock().stop(worker, Instant::now());
        }
        self.wake();
    }

    /// No more jobs will be opened: workers exit when the last one ends.
    fn close(&self) {
        self.lock().close();
        self.wake();
    }

    /// Ends all workers.
    fn terminate(&self) {
        self.lock().terminate(Instant::now());
    }

    /// Starts no more workers, unless the program asks for them.
    fn stop_replacing(&self) {
        self.lock().stop_replacing();
    }

    /// Makes `next_step` return.
    fn wake(&self) {
        // If memory is short, the watcher still wakes up at intervals.
        let _ = self.queue.ring();
    }

    /// Returns whether the kernel has killed processes for lack of memory since the last call; None if it does not say.
    fn oom_hint(&self) -> Option<bool> {
        let mut kills = self
            .oom_kills
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match kills.hint() {
            OomHint::Unknown => None,
            OomHint::NoKill => Some(false),
            OomHint::Killed => Some(true),
        }
    }

    /// Announces that the pool has no workers any more, and will get none.
    fn no_more_workers(&self, py: Python<'_>) {
        py.detach(|| self.queue.over());
    }
}
