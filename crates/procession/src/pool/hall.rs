//! What a pool, its watcher and its tasks share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::IdMap;
use procession_engine::pool as board;
use procession_engine::pool::Room;

use super::crew::{Crew, LOOK};
use super::job::{Job, Outcome};
use super::results::Results;
use crate::error::{Error, TaskError};

pub(super) struct Hall {
    pub(super) board: board::Board,
    crew: Mutex<Crew>,
    /// Signalled, if there is a bound, whenever a task has ended; goes with the crew's lock.
    room: Condvar,
    max_pending: Option<usize>,
    jobs: Mutex<IdMap<u64, Arc<Job>>>,
    last_job: AtomicU64,
    /// The pool has ended; results are kept in this process's own memory from now on.
    over: AtomicBool,
}

/// What holds for a task while it runs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
}

impl Limits {
    pub(super) fn task(self, job: u64, index: u64) -> board::Task {
        board::Task {
            job,
            index,
            timeout: self.timeout,
            retries: self.retries,
            ..board::Task::default()
        }
    }
}

impl Hall {
    pub(super) fn new(board: board::Board, crew: Crew, max_pending: Option<usize>) -> Hall {
        Hall {
            board,
            crew: Mutex::new(crew),
            room: Condvar::new(),
            max_pending,
            jobs: Mutex::default(),
            last_job: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    pub(super) fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self) -> MutexGuard<'_, IdMap<u64, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open_job(self: &Arc<Hall>, job: Job) -> Results {
        let id = self.last_job.fetch_add(1, Ordering::Relaxed) + 1;
        let job = Arc::new(job);
        self.jobs().insert(id, Arc::clone(&job));
        Results::new(Arc::downgrade(self), id, job)
    }

    pub(super) fn forget_job(&self, id: u64) {
        self.jobs().remove(&id);
    }

    /// Queues a task, waiting for room among those that may be pending. Returns what all tasks weigh then; `None` when
    /// there was no room before the deadline.
    pub(super) fn submit(
        &self,
        task: board::Task,
        order: &[u8],
        deadline: Deadline,
    ) -> Result<Option<u64>, Error> {
        // Under the crew's lock, so that no task slips in behind the pool's end.
        let mut crew = self.crew();
        loop {
            crew.check_open()?;
            if self.has_room() {
                let weight = order.len() as u64;
                let weight = self
                    .board
                    .submit(board::Task { weight, ..task }, &[order])?;
                return Ok(Some(weight));
            }
            crew = match deadline.remaining() {
                None => self.room.wait(crew).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Ok(None),
                Some(left) => {
                    let waited = self.room.wait_timeout(crew, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Whether there is memory for another task, if all of them weigh so much.
    pub(super) fn has_memory(&self, weight: u64) -> bool {
        Room::is_light(weight) || self.board.wait_for_room(self.memory(), Deadline::NOW)
    }

    /// Waits until there is memory for another task, if all of them weigh so much.
    pub(super) fn wait_for_memory(&self, weight: u64) -> Result<(), Error> {
        if Room::is_light(weight) {
            return Ok(());
        }
        while !self
            .board
            .wait_for_room(self.memory(), Deadline::after(LOOK))
        {
            self.crew().check_open()?;
        }
        Ok(())
    }

    fn memory(&self) -> Room {
        Room::for_workers(self.crew().wanted)
    }

    pub(super) fn has_room(&self) -> bool {
        self.max_pending
            .is_none_or(|most| self.board.outstanding() < most)
    }

    /// Tells those who wait for room that there may be some, or that there never will be.
    pub(super) fn stir(&self) {
        if self.max_pending.is_some() {
            // Whoever looked before this lock was free is asleep by now.
            drop(self.crew());
            self.room.notify_all();
        }
    }

    pub(super) fn deliver(&self, job: u64, index: u64, outcome: Outcome) {
        let job = self.jobs().get(&job).cloned();
        // Nobody may wait for it any more.
        if let Some(job) = job {
            job.deliver(index, outcome);
            if self.over.load(Ordering::SeqCst) {
                job.detach();
            }
        }
        self.stir();
    }

    /// Ends the tasks of a job that have not begun.
    pub(super) fn withdraw(&self, id: u64) {
        for index in self.board.withdraw(id) {
            self.deliver(id, index, Err(TaskError::Cancelled));
        }
    }

    /// Ends all tasks of a job. False when they had ended.
    pub(super) fn cancel(&self, id: u64) -> bool {
        let cancelled = self.board.cancel(id, None);
        for (_, worker) in &cancelled.running {
            self.crew().kill(*worker);
        }
        let running = cancelled.running.iter().map(|(index, _)| *index);
        let ended: Vec<u64> = running.chain(cancelled.withdrawn).collect();
        for index in &ended {
            self.deliver(id, *index, Err(TaskError::Cancelled));
        }
        !ended.is_empty()
    }

    pub(super) fn close(&self) {
        self.crew().close();
        self.board.close();
        self.stir();
        // The watcher looks at least twice a second on its own.
        let _ = self.board.ring();
    }

    pub(super) fn terminate(&self) {
        let mut crew = self.crew();
        crew.terminate();
        self.board.close();
        drop(crew);
        self.fail_all(&TaskError::PoolGone);
        let _ = self.board.ring();
    }

    /// Ends all tasks that have not ended.
    pub(super) fn fail_all(&self, error: &TaskError) {
        // Who is told may let go of jobs.
        let jobs: Vec<Arc<Job>> = self.jobs().values().cloned().collect();
        for job in jobs {
            job.fail(error.clone());
        }
        self.stir();
    }

    /// Lets go of the shared memory that results still take, once the last has come.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        for job in self.jobs().values() {
            job.detach();
        }
    }
}
