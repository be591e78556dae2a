//! The short operations of a pool's worker: claiming a task and sending its result.

use super::Operation;
use crate::common::{SharedCells, briefly, promptly};
use procession_engine::error::GetError;
use procession_engine::pool::{Claim, Event, Task, TaskQueue, WorkerEndpoint, WorkerStatus};
use procession_engine::{Deadline, ProcId};
use std::collections::BTreeSet;
use std::mem::ManuallyDrop;

const TASKS: u64 = 4;
const JOB: u64 = 7;
const DONE: u8 = 1;

/// A task queue. The survivor is its submitter, and a worker as well.
struct TestPool {
    task_queue: TaskQueue,
    endpoint: WorkerEndpoint,
    result: Vec<u8>,
    child: Option<ProcId>,
    done: BTreeSet<u64>,
}

impl TestPool {
    fn new(size: usize) -> TestPool {
        let task_queue = TaskQueue::with_capacity(8).expect("a task queue");
        for index in 0..TASKS {
            let task = Task {
                job: JOB,
                index,
                retries: 1,
                ..Task::default()
            };
            task_queue
                .submit(task, &[&index.to_le_bytes()])
                .expect("a free record");
        }
        let endpoint = WorkerEndpoint::open(&task_queue.handle()).expect("the task queue is there");
        TestPool {
            task_queue,
            endpoint,
            result: vec![5; size],
            child: None,
            done: BTreeSet::new(),
        }
    }

    /// An endpoint of the child's own, which it keeps until its end.
    fn endpoint_of_child(&self) -> &'static WorkerEndpoint {
        let endpoint =
            WorkerEndpoint::open(&self.task_queue.handle()).expect("the task queue is there");
        Box::leak(Box::new(endpoint))
    }

    /// Claims and finishes a task of another queue, so that everything that is done only once is done now.
    fn warm_up(&self) {
        let other = TestPool::new(self.result.len());
        other.run_tasks(1);
    }

    fn complete(&self, mut claim: Claim<'_>) {
        assert_eq!(claim.bytes(), claim.index().to_le_bytes(), "torn");
        let status = claim.finish(DONE, &[&self.result]).expect("memory");
        assert_eq!(status, WorkerStatus::Good);
    }

    /// Runs the tasks that can be claimed, but no more than `most`.
    fn run_tasks(&self, most: u64) {
        for _ in 0..most {
            match self.endpoint.claim(Deadline::NOW) {
                Ok(claim) => self.complete(claim),
                Err(GetError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Runs the tasks that the child left, until every task has ended, and ended once.
    fn finish_all(&mut self) {
        let deadline = promptly();
        let mut watched = Vec::from_iter(self.child);
        while (self.done.len() as u64) < TASKS || !watched.is_empty() {
            self.run_tasks(TASKS);
            match self.task_queue.next_event(briefly(), &watched) {
                Ok(Event::Result {
                    job,
                    index,
                    result_kind,
                    reply,
                }) => {
                    assert_eq!((job, result_kind), (JOB, DONE));
                    assert_eq!(reply.bytes(), self.result, "torn");
                    assert!(self.done.insert(index), "task {index} ended twice");
                }
                Ok(Event::Gone(worker)) => {
                    watched.clear();
                    for lost in self.task_queue.lost_by(worker) {
                        assert!(lost.repeated, "it has another try: {lost:?}");
                    }
                }
                Ok(other) => panic!("{other:?}"),
                Err(GetError::Empty) => assert!(
                    !deadline.is_past(),
                    "tasks that ended in time: {:?}",
                    self.done
                ),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(self.task_queue.outstanding(), 0);
    }
}

/// `claim` of a task.
pub struct ClaimTask {
    pool: TestPool,
    endpoint: Option<&'static WorkerEndpoint>,
    claim: ManuallyDrop<Option<Claim<'static>>>,
}

impl Operation for ClaimTask {
    fn new(_: SharedCells) -> Self {
        ClaimTask {
            pool: TestPool::new(20),
            endpoint: None,
            claim: ManuallyDrop::new(None),
        }
    }

    fn forked(&mut self, child: ProcId) {
        self.pool.child = Some(child);
    }

    fn prepare(&mut self) {
        self.pool.warm_up();
        self.endpoint = Some(self.pool.endpoint_of_child());
    }

    fn operate(&mut self) {
        let endpoint = self.endpoint.expect("it is prepared");
        *self.claim = Some(endpoint.claim(Deadline::NOW).expect("a task"));
    }

    fn conclude(&mut self) {
        let claim = self.claim.take().expect("it was claimed");
        self.pool.complete(claim);
    }

    fn beside(&mut self) {
        self.pool.run_tasks(2);
    }

    fn survive(&mut self) {
        self.pool.finish_all();
    }
}

/// `finish` of a claimed task with a result of that many bytes.
pub struct Finish<const SIZE: usize> {
    pool: TestPool,
    claim: ManuallyDrop<Option<Claim<'static>>>,
}

impl<const SIZE: usize> Operation for Finish<SIZE> {
    fn new(_: SharedCells) -> Self {
        Finish {
            pool: TestPool::new(SIZE),
            claim: ManuallyDrop::new(None),
        }
    }

    fn forked(&mut self, child: ProcId) {
        self.pool.child = Some(child);
    }

    fn prepare(&mut self) {
        self.pool.warm_up();
        let endpoint = self.pool.endpoint_of_child();
        *self.claim = Some(endpoint.claim(Deadline::NOW).expect("a task"));
    }

    fn operate(&mut self) {
        let claim = self.claim.as_mut().expect("it was claimed");
        let status = claim.finish(DONE, &[&self.pool.result]).expect("memory");
        assert_eq!(status, WorkerStatus::Good);
    }

    fn beside(&mut self) {
        self.pool.run_tasks(2);
    }

    fn survive(&mut self) {
        self.pool.finish_all();
    }
}

pub type FinishSmall = Finish<20>;
/// More than fits into the widest slot.
pub type FinishLarge = Finish<1_500>;
