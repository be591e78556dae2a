//! Deaths of a pool's worker: every task ends exactly once, and the others do the tasks it left.

use crate::case::{FREE_CELLS, Scenario, VICTIM_ID, is_over};
use crate::common::{PROMPTLY, SharedCells, briefly, promptly};
use procession_engine::error::GetError;
use procession_engine::pool::{Event, Task, TaskQueue, WorkerEndpoint, WorkerStatus};
use procession_engine::{Deadline, ProcId};
use std::collections::BTreeSet;
use std::time::Duration;

const TASKS: u64 = 40;
const CLAIMED: usize = FREE_CELLS;
const LET_GO: usize = FREE_CELLS + 1;
const JOB: u64 = 7;

/// A task queue with tasks. The victim gets the first few, the bystander the rest.
pub struct Working {
    task_queue: TaskQueue,
    size: usize,
    done: BTreeSet<u64>,
}

impl Working {
    pub fn new(cells: SharedCells) -> Working {
        Working::with(cells, 20)
    }

    pub fn large(cells: SharedCells) -> Working {
        Working::with(cells, 3_000)
    }

    fn with(_: SharedCells, size: usize) -> Working {
        let task_queue = TaskQueue::with_capacity(16).expect("a task queue");
        for index in 0..TASKS {
            let task = Task {
                job: JOB,
                index,
                retries: 1,
                ..Task::default()
            };
            task_queue
                .submit(task, &[&index.to_le_bytes(), &vec![index as u8; size]])
                .expect("memory");
        }
        Working {
            task_queue,
            size,
            done: BTreeSet::new(),
        }
    }

    /// Works until nothing came for a moment and `enough` returns true.
    fn work(&self, cells: SharedCells, enough: impl Fn() -> bool) {
        let endpoint =
            WorkerEndpoint::open(&self.task_queue.handle()).expect("the task queue is there");
        loop {
            match endpoint.claim(briefly()) {
                Ok(mut claim) => {
                    cells.count(CLAIMED);
                    let index = claim.index();
                    assert_eq!(claim.bytes()[..8], index.to_le_bytes(), "torn");
                    assert!(
                        claim.bytes()[8..].iter().all(|&byte| byte == index as u8),
                        "torn"
                    );
                    assert_eq!(claim.bytes().len(), 8 + self.size, "torn");
                    let result = vec![!(index as u8); self.size];
                    assert_eq!(
                        claim.finish(1, &[&result]).expect("memory"),
                        WorkerStatus::Good
                    );
                }
                Err(GetError::Empty) if !enough() => {}
                Err(GetError::Empty | GetError::Closed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Collects results until all are there or the deadline passes.
    fn collect(&mut self, watch: &[ProcId], deadline: Deadline) {
        let mut watch = watch.to_vec();
        while (self.done.len() as u64) < TASKS || !watch.is_empty() {
            match self.task_queue.next_event(deadline, &watch) {
                Ok(Event::Result {
                    job,
                    index,
                    result_kind,
                    reply,
                }) => {
                    assert_eq!((job, result_kind), (JOB, 1));
                    assert_eq!(reply.bytes(), vec![!(index as u8); self.size], "torn");
                    assert!(self.done.insert(index), "task {index} ended twice");
                }
                Ok(Event::Gone(worker)) => {
                    watch.retain(|&other| other != worker);
                    for lost in self.task_queue.lost_by(worker) {
                        assert!(lost.repeated, "it has another try: {lost:?}");
                    }
                }
                Ok(other) => panic!("{other:?}"),
                Err(GetError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Scenario for Working {
    const BYSTANDER: bool = true;

    fn victim(&mut self, cells: SharedCells) {
        self.work(cells, || true);
    }

    fn bystander(&mut self, cells: SharedCells) {
        // The victim comes first. Otherwise there would be nothing left for it to die over.
        while cells.read(CLAIMED) < 6 && cells.read(LET_GO) == 0 {
            std::thread::yield_now();
        }
        self.work(cells, || is_over(cells));
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        cells.write(LET_GO, 1);
        self.collect(&[], Deadline::after(Duration::from_millis(200)));
        let left = TASKS - self.done.len() as u64;
        assert!(
            left <= 1,
            "{left} tasks wait for a worker that is stopped over one"
        );
    }

    fn survive(&mut self, cells: SharedCells) {
        cells.write(LET_GO, 1);
        let victim = ProcId::from_u32(cells.read(VICTIM_ID) as u32).expect("it had a slot");
        self.collect(&[victim], promptly());
        assert_eq!(
            self.done.len() as u64,
            TASKS,
            "not all tasks ended within {PROMPTLY:?}"
        );
        assert_eq!(self.task_queue.outstanding(), 0);
    }
}
