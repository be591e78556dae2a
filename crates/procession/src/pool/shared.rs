//! What a pool, its watcher and its tasks share.

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
    pub(super) task_queue: engine::Board,
    workers: Mutex<WorkerSet>,
    /// Signalled, if there is a bound, whenever a task has ended; goes with the workers's lock.
    room: Condvar,
    max_pending: Option<usize>,
    jobs: Mutex<IdMap<u64, Arc<Job>>>,
    last_job: AtomicU64,
    /// The pool has ended; results are kept in this process's own memory from now on.
    ended: AtomicBool,
}

/// What holds for a task while it runs.
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
        task_queue: engine::Board,
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

    /// Queues a task, waiting for room among those that may be pending. Returns what all tasks weigh then; `None` when
    /// there was no room before the deadline.
    pub(super) fn submit(
        &self,
        task: engine::Task,
        request: &[u8],
        deadline: Deadline,
    ) -> Result<Option<u64>, Error> {
        // Under the workers's lock, so that no task slips in behind the pool's end.
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

    /// Whether there is memory for another task, if all of them weigh so much.
    pub(super) fn has_memory(&self, weight: u64) -> bool {
        Room::is_light(weight) || self.task_queue.wait_for_room(self.memory(), Deadline::NOW)
    }

    /// Waits until there is memory for another task, if all of them weigh so much.
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

    /// Tells those who wait for room that there may be some, or that there never will be.
    pub(super) fn notify_room(&self) {
        if self.max_pending.is_some() {
            // Whoever looked before this lock was free is asleep by now.
            drop(self.workers());
            self.room.notify_all();
        }
    }

    pub(super) fn deliver(&self, job: u64, index: u64, outcome: Outcome) {
        let job = self.jobs().get(&job).cloned();
        // Nobody may wait for it any more.
        if let Some(job) = job {
            job.deliver(index, outcome);
            if self.ended.load(Ordering::SeqCst) {
                job.detach();
            }
        }
        self.notify_room();
    }

    /// Ends the tasks of a job that have not begun.
    pub(super) fn withdraw(&self, id: u64) {
        for index in self.task_queue.withdraw(id) {
            self.deliver(id, index, Err(TaskError::Cancelled));
        }
    }

    /// Ends all tasks of a job. False when they had ended.
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
        // The watcher looks at least twice a second on its own.
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

    /// Ends all tasks that have not ended.
    pub(super) fn fail_all(&self, error: &TaskError) {
        // Who is told may let go of jobs.
        let jobs: Vec<Arc<Job>> = self.jobs().values().cloned().collect();
        for job in jobs {
            job.fail(error.clone());
        }
        self.notify_room();
    }

    /// Lets go of the shared memory that results still take, once the last has come.
    pub(super) fn detach_results(&self) {
        self.ended.store(true, Ordering::SeqCst);
        for job in self.jobs().values() {
            job.detach();
        }
    }
}
