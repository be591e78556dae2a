//! The short operations of a pool's worker: claiming a task and handing in its result.

use super::Operation;
use crate::common::{Slate, briefly, promptly};
use procession_engine::error::GetError;
use procession_engine::pool::{Claim, Event, Task, TaskQueue, WorkerEndpoint, WorkerStatus};
use procession_engine::{Deadline, ProcId};
use std::collections::BTreeSet;
use std::mem::ManuallyDrop;

const TASKS: u64 = 4;
const JOB: u64 = 7;
const DONE: u8 = 1;

/// A board of tasks; the survivor is the one who submits and a worker as well.
struct Office {
    board: TaskQueue,
    bench: WorkerEndpoint,
    result: Vec<u8>,
    child: Option<ProcId>,
    done: BTreeSet<u64>,
}

impl Office {
    fn new(size: usize) -> Office {
        let board = TaskQueue::with_capacity(8).expect("a board");
        for index in 0..TASKS {
            let task = Task {
                job: JOB,
                index,
                retries: 1,
                ..Task::default()
            };
            board
                .submit(task, &[&index.to_le_bytes()])
                .expect("a free record");
        }
        let bench = WorkerEndpoint::open(&board.handle()).expect("the board is there");
        Office {
            board,
            bench,
            result: vec![5; size],
            child: None,
            done: BTreeSet::new(),
        }
    }

    /// A bench of the child's own, which it has until its end.
    fn bench_of_child(&self) -> &'static WorkerEndpoint {
        let bench = WorkerEndpoint::open(&self.board.handle()).expect("the board is there");
        Box::leak(Box::new(bench))
    }

    /// Claims a task and hands in its result, elsewhere: what is done the first time only is done then.
    fn rehearse(&self) {
        let other = Office::new(self.result.len());
        other.work_off(1);
    }

    fn hand_in(&self, mut claim: Claim<'_>) {
        assert_eq!(claim.bytes(), claim.index().to_le_bytes(), "torn");
        let standing = claim.finish(DONE, &[&self.result]).expect("memory");
        assert_eq!(standing, WorkerStatus::Good);
    }

    /// Does as many tasks as there are to be had, and no more than `most`.
    fn work_off(&self, most: u64) {
        for _ in 0..most {
            match self.bench.claim(Deadline::NOW) {
                Ok(claim) => self.hand_in(claim),
                Err(GetError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Does what the child left, until every task has ended, and ended once.
    fn finish_all(&mut self) {
        let deadline = promptly();
        let mut watched = Vec::from_iter(self.child);
        while (self.done.len() as u64) < TASKS || !watched.is_empty() {
            self.work_off(TASKS);
            match self.board.next_event(briefly(), &watched) {
                Ok(Event::Result {
                    job,
                    index,
                    verdict,
                    reply,
                }) => {
                    assert_eq!((job, verdict), (JOB, DONE));
                    assert_eq!(reply.bytes(), self.result, "torn");
                    assert!(self.done.insert(index), "task {index} ended twice");
                }
                Ok(Event::Gone(worker)) => {
                    watched.clear();
                    for lost in self.board.lost_by(worker) {
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
        assert_eq!(self.board.outstanding(), 0);
    }
}

/// `claim` of a task.
pub struct ClaimTask {
    office: Office,
    bench: Option<&'static WorkerEndpoint>,
    claim: ManuallyDrop<Option<Claim<'static>>>,
}

impl Operation for ClaimTask {
    fn new(_: Slate) -> Self {
        ClaimTask {
            office: Office::new(20),
            bench: None,
            claim: ManuallyDrop::new(None),
        }
    }

    fn forked(&mut self, child: ProcId) {
        self.office.child = Some(child);
    }

    fn prepare(&mut self) {
        self.office.rehearse();
        self.bench = Some(self.office.bench_of_child());
    }

    fn operate(&mut self) {
        let bench = self.bench.expect("it is prepared");
        *self.claim = Some(bench.claim(Deadline::NOW).expect("a task"));
    }

    fn conclude(&mut self) {
        let claim = self.claim.take().expect("it was claimed");
        self.office.hand_in(claim);
    }

    fn beside(&mut self) {
        self.office.work_off(2);
    }

    fn survive(&mut self) {
        self.office.finish_all();
    }
}

/// `finish` of a claimed task with a result of so many bytes.
pub struct Finish<const SIZE: usize> {
    office: Office,
    claim: ManuallyDrop<Option<Claim<'static>>>,
}

impl<const SIZE: usize> Operation for Finish<SIZE> {
    fn new(_: Slate) -> Self {
        Finish {
            office: Office::new(SIZE),
            claim: ManuallyDrop::new(None),
        }
    }

    fn forked(&mut self, child: ProcId) {
        self.office.child = Some(child);
    }

    fn prepare(&mut self) {
        self.office.rehearse();
        let bench = self.office.bench_of_child();
        *self.claim = Some(bench.claim(Deadline::NOW).expect("a task"));
    }

    fn operate(&mut self) {
        let claim = self.claim.as_mut().expect("it was claimed");
        let standing = claim.finish(DONE, &[&self.office.result]).expect("memory");
        assert_eq!(standing, WorkerStatus::Good);
    }

    fn beside(&mut self) {
        self.office.work_off(2);
    }

    fn survive(&mut self) {
        self.office.finish_all();
    }
}

pub type FinishSmall = Finish<20>;
/// More than fits the widest slot.
pub type FinishLarge = Finish<1_500>;
