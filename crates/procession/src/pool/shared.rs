//! The state shared by a pool, its watcher thread and its tasks.

use std::ops::DerefMut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use procession_engine::Deadline;
use procession_engine::IdMap;
use procession_engine::pool as engine;
use procession_engine::pool::supervisor::{Front, Policy, Supervisor};
use procession_engine::pool::{Results, Room, WorkerMessage};

use super::job::{Job, Outcome, Response};
use super::job_handle::JobHandle;
use super::worker::FAILURE;
use super::workers::{WorkerConfig, Workers};
use crate::error::{Error, TaskError};

/// How often a thread that waits for memory checks whether the pool was closed.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A task's worker has nothing to clean up that a kill would prevent, and a failed initializer would fail again.
const POLICY: Policy = Policy {
    grace: Duration::ZERO,
    is_final: true,
};

pub(super) struct PoolShared {
    pub(super) task_queue: engine::TaskQueue,
    pub(super) workers: Workers,
    supervisor: Mutex<Supervisor>,
    /// Why the pool has no workers, if it has given up.
    broken: OnceLock<TaskError>,
    max_pending: Option<usize>,
    jobs: Mutex<IdMap<u64, Arc<Job>>>,
    last_job: AtomicU64,
    /// The pool has ended: results go to this process's own memory from now on.
    ended: AtomicBool,
}

/// The limits of a task while it runs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
}

impl Limits {
    pub(super) fn task(self, job: u64, index: u64) -> engine::Task {
        engine::Task {
            job,
            index,
            timeout: self.timeout,
            retries: self.retries,
            ..engine::Task::default()
        }
    }
}

impl PoolShared {
    pub(super) fn new(
        task_queue: engine::TaskQueue,
        wanted: usize,
        config: WorkerConfig,
        max_pending: Option<usize>,
    ) -> PoolShared {
        PoolShared {
            task_queue,
            workers: Workers::new(config),
            supervisor: Mutex::new(Supervisor::new(POLICY, wanted, Instant::now())),
            broken: OnceLock::new(),
            max_pending,
            jobs: Mutex::default(),
            last_job: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }

    pub(super) fn supervisor(&self) -> MutexGuard<'_, Supervisor> {
        self.supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn broken(&self) -> Option<&TaskError> {
        self.broken.get()
    }

    fn check_open(&self) -> Result<(), Error> {
        match self.broken() {
            Some(error) => Err(error.clone().into()),
            None if self.task_queue.is_closing() => Err(Error::PoolClosed),
            None => Ok(()),
        }
    }

    /// Starts the workers that are missing.
    pub(super) fn start_missing(&self) -> Result<(), Error> {
        let _whole = self.workers.change();
        while self.supervisor().is_short() {
            self.start_worker()?;
        }
        Ok(())
    }

    /// Changes the number of workers. When the system cannot start so many, keeps those that did start.
    pub(super) fn resize(&self, wanted: usize) -> Result<(), Error> {
        self.check_open()?;
        let whole = self.workers.change();
        let leaving = self.supervisor().resize(wanted, &self.task_queue.busy());
        self.workers.note_leaving(&leaving);
        self.task_queue.dismiss_all(&leaving);
        drop(whole);
        let resized = self.start_missing();
        if resized.is_err() {
            self.supervisor().settle_for_less();
        }
        // Make the watcher thread watch the new workers.
        self.ring();
        resized
    }

    fn jobs(&self) -> MutexGuard<'_, IdMap<u64, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open_job(self: &Arc<PoolShared>, job: Job) -> JobHandle {
        let id = self.last_job.fetch_add(1, Ordering::Relaxed) + 1;
        let job = Arc::new(job);
        self.jobs().insert(id, Arc::clone(&job));
        JobHandle::new(Arc::downgrade(self), id, job)
    }

    pub(super) fn forget_job(&self, id: u64) {
        self.jobs().remove(&id);
    }

    /// Queues a task, waiting for room if pending tasks are bounded. Returns the total weight of all tasks,
    /// or `None` when there was no room before the deadline.
    pub(super) fn submit(
        &self,
        task: engine::Task,
        request: &[u8],
        deadline: Deadline,
    ) -> Result<Option<u64>, Error> {
        let weight = request.len() as u64;
        let task = engine::Task { weight, ..task };
        let most = self.max_pending.unwrap_or(usize::MAX);
        let submitted = self
            .task_queue
            .submit_within(most, task, &[request], deadline);
        submitted.map_err(|error| match self.broken() {
            Some(broken) => broken.clone().into(),
            None if self.task_queue.is_closing() => Error::PoolClosed,
            None => error.into(),
        })
    }

    /// Returns whether there is memory for another task when all tasks together have this weight.
    pub(super) fn has_memory(&self, weight: u64) -> bool {
        Room::is_light(weight) || self.task_queue.wait_for_room(self.memory(), Deadline::NOW)
    }

    /// Waits until there is memory for another task when all tasks together have this weight.
    pub(super) fn wait_for_memory(&self, weight: u64) -> Result<(), Error> {
        if Room::is_light(weight) {
            return Ok(());
        }
        while !self
            .task_queue
            .wait_for_room(self.memory(), Deadline::after(CHECK_INTERVAL))
        {
            self.check_open()?;
        }
        Ok(())
    }

    fn memory(&self) -> Room {
        Room::for_workers(self.supervisor().wanted())
    }

    pub(super) fn has_room(&self) -> bool {
        self.max_pending
            .is_none_or(|most| self.task_queue.outstanding() < most)
    }

    pub(super) fn deliver(&self, job: u64, index: u64, outcome: Outcome) {
        let job = self.jobs().get(&job).cloned();
        // The job may have been dropped.
        if let Some(job) = job {
            job.deliver(index, outcome);
            if self.ended.load(Ordering::SeqCst) {
                job.detach();
            }
        }
    }

    /// Ends the tasks of a job that have not started.
    pub(super) fn withdraw(&self, id: u64) {
        for index in self.task_queue.withdraw(id) {
            self.deliver(id, index, Err(TaskError::Cancelled));
        }
    }

    /// Ends all tasks of a job. Returns `false` when all had ended.
    pub(super) fn cancel(&self, id: u64) -> bool {
        let cancelled = self.task_queue.cancel(id, None);
        for (_, worker) in &cancelled.running {
            self.supervisor().stop(*worker, Instant::now());
        }
        if !cancelled.running.is_empty() {
            self.ring();
        }
        let running = cancelled.running.iter().map(|(index, _)| *index);
        let ended: Vec<u64> = running.chain(cancelled.withdrawn).collect();
        for index in &ended {
            self.deliver(id, *index, Err(TaskError::Cancelled));
        }
        !ended.is_empty()
    }

    pub(super) fn close(&self) {
        // In this order, so that the pool does not end before a task that was still accepted.
        self.task_queue.close();
        self.supervisor().close();
        self.ring();
    }

    pub(super) fn terminate(&self) {
        self.task_queue.close();
        self.supervisor().terminate(Instant::now());
        self.fail_all(&TaskError::PoolGone);
        self.ring();
    }

    /// Fails the pool: there are no workers any more, and there will be none.
    pub(super) fn give_up(&self, why: String) {
        self.supervisor().give_up(Instant::now());
        let error = self.broken.get_or_init(|| TaskError::NoWorkers(why));
        self.task_queue.close();
        self.fail_all(error);
    }

    /// Makes the watcher look at what has changed.
    fn ring(&self) {
        // If this fails, the watcher still looks when a task ends.
        let _ = self.task_queue.ring();
    }

    /// Ends all unfinished tasks.
    pub(super) fn fail_all(&self, error: &TaskError) {
        // A waker may drop jobs, which takes this lock.
        let jobs: Vec<Arc<Job>> = self.jobs().values().cloned().collect();
        for job in jobs {
            job.fail(error.clone());
        }
    }

    /// Copies the remaining results out of shared memory, after the last one has arrived.
    pub(super) fn detach_results(&self) {
        self.ended.store(true, Ordering::SeqCst);
        for job in self.jobs().values() {
            job.detach();
        }
    }
}

impl Results for PoolShared {
    fn deliver(&self, job: u64, index: u64, result_kind: u8, reply: WorkerMessage) {
        let outcome = match result_kind {
            FAILURE => {
                let reason = String::from_utf8_lossy(reply.bytes()).into_owned();
                Err(TaskError::Undelivered(reason))
            }
            _ => Ok(Response::Shared(reply)),
        };
        PoolShared::deliver(self, job, index, outcome);
    }
}

impl Front for PoolShared {
    fn supervisor(&self) -> impl DerefMut<Target = Supervisor> {
        PoolShared::supervisor(self)
    }

    fn results(&self) -> &impl Results {
        self
    }

    fn unfinished(&self) -> usize {
        self.task_queue.outstanding()
    }
}
