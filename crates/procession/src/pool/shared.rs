//! The state shared by a pool, its watcher thread and its tasks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::IdMap;
use procession_engine::pool as engine;
use procession_engine::pool::Room;

use super::job::{Job, Outcome};
use super::job_handle::JobHandle;
use super::worker_set::{CHECK_INTERVAL, WorkerSet};
use crate::error::{Error, TaskError};

pub(super) struct PoolShared {
    pub(super) task_queue: engine::TaskQueue,
    workers: Mutex<WorkerSet>,
    /// Signalled when a task ends, if the number of pending tasks is bounded. Used with the lock of
    /// `workers`.
    room: Condvar,
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
        workers: WorkerSet,
        max_pending: Option<usize>,
    ) -> PoolShared {
        PoolShared {
            task_queue,
            workers: Mutex::new(workers),
            room: Condvar::new(),
            max_pending,
            jobs: Mutex::default(),
            last_job: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }

    pub(super) fn workers(&self) -> MutexGuard<'_, WorkerSet> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
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
        // Hold the lock of the workers, so that no task is queued after the pool has ended.
        let mut workers = self.workers();
        loop {
            workers.check_open()?;
            if self.has_room() {
                let weight = request.len() as u64;
                let weight = self
                    .task_queue
                    .submit(engine::Task { weight, ..task }, &[request])?;
                return Ok(Some(weight));
            }
            workers = match deadline.remaining() {
                None => self
                    .room
                    .wait(workers)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Ok(None),
                Some(left) => {
                    let waited = self.room.wait_timeout(workers, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
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
            self.workers().check_open()?;
        }
        Ok(())
    }

    fn memory(&self) -> Room {
        Room::for_workers(self.workers().wanted)
    }

    pub(super) fn has_room(&self) -> bool {
        self.max_pending
            .is_none_or(|most| self.task_queue.outstanding() < most)
    }

    /// Wakes the threads that wait for room: there may be some, or there will never be any.
    pub(super) fn notify_room(&self) {
        if self.max_pending.is_some() {
            // A thread that checked before we got this lock is asleep by now.
            drop(self.workers());
            self.room.notify_all();
        }
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
        self.notify_room();
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
            self.workers().kill(*worker);
        }
        let running = cancelled.running.iter().map(|(index, _)| *index);
        let ended: Vec<u64> = running.chain(cancelled.withdrawn).collect();
        for index in &ended {
            self.deliver(id, *index, Err(TaskError::Cancelled));
        }
        !ended.is_empty()
    }

    pub(super) fn close(&self) {
        self.workers().close();
        self.task_queue.close();
        self.notify_room();
        // If this fails, the watcher still looks at least twice a second.
        let _ = self.task_queue.ring();
    }

    pub(super) fn terminate(&self) {
        let mut workers = self.workers();
        workers.terminate();
        self.task_queue.close();
        drop(workers);
        self.fail_all(&TaskError::PoolGone);
        let _ = self.task_queue.ring();
    }

    /// Ends all unfinished tasks.
    pub(super) fn fail_all(&self, error: &TaskError) {
        // A waker may drop jobs, which takes this lock.
        let jobs: Vec<Arc<Job>> = self.jobs().values().cloned().collect();
        for job in jobs {
            job.fail(error.clone());
        }
        self.notify_room();
    }

    /// Copies the remaining results out of shared memory, after the last one has arrived.
    pub(super) fn detach_results(&self) {
        self.ended.store(true, Ordering::SeqCst);
        for job in self.jobs().values() {
            job.detach();
        }
    }
}
