//! A task queue and its workers, as several processes see them.

mod cancelling;
mod deaths;
mod room;
mod shutdown;
mod watching;

use std::collections::BTreeSet;
use std::time::Duration;

use procession_engine::error::GetError;
use procession_engine::pool::{
    Event, Results, Task, TaskQueue, WorkerEndpoint, WorkerMessage, WorkerStatus,
};
use procession_engine::{Deadline, ProcId, process};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn task(job: u64, index: u64) -> Task {
    Task {
        job,
        index,
        ..Task::default()
    }
}

/// Expects no result.
struct NoResults;

impl Results for NoResults {
    fn deliver(&self, job: u64, index: u64, _: u8, _: WorkerMessage) {
        panic!("a result of task {index} of job {job}");
    }
}

/// A worker process that runs `body` and then ends without leaving the tree in order.
struct Worker {
    pid: libc::pid_t,
    slot: ProcId,
}

impl Worker {
    fn start(task_queue: &TaskQueue, body: impl FnOnce(&WorkerEndpoint)) -> Worker {
        let handle = task_queue.handle();
        // SAFETY: the child runs nothing but the engine's code, whose fork handlers take care of its locks, the
        // allocator, whose locks the C library handles, and `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let run = || body(&WorkerEndpoint::open(&handle).expect("a task queue"));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            // SAFETY: ends the process.
            unsafe { libc::_exit(outcome.is_err().into()) }
        }
        let slot = process::forked_child().expect("the slot of the child");
        Worker { pid, slot }
    }

    fn kill(&self) {
        // SAFETY: our own child, not reaped yet.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
        let mut status = 0;
        // SAFETY: our own child.
        unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        process::reap(self.slot);
    }
}

/// Answers every task with its bytes in reverse.
fn work(endpoint: &WorkerEndpoint) {
    loop {
        match endpoint.claim(soon()) {
            Ok(mut claim) => {
                let answer: Vec<u8> = claim.bytes().iter().rev().copied().collect();
                if claim.finish(1, &[&answer]).expect("memory") == WorkerStatus::Revoked {
                    return;
                }
            }
            Err(GetError::Interrupted) => {}
            Err(_) => return,
        }
    }
}

/// Claims a task, sends a notice, and does nothing more.
fn hold_one(endpoint: &WorkerEndpoint) {
    let _claim = endpoint.claim(soon()).expect("a task");
    endpoint.notify(7, &[]).expect("memory");
    loop {
        std::thread::park();
    }
}

fn next(task_queue: &TaskQueue, watch: &[ProcId]) -> Event {
    loop {
        match task_queue.next_event(soon(), watch) {
            Err(GetError::Interrupted) => {}
            event => return event.expect("an event in time"),
        }
    }
}

fn result(task_queue: &TaskQueue) -> (u64, u64, Vec<u8>) {
    match next(task_queue, &[]) {
        Event::Result {
            job, index, reply, ..
        } => (job, index, reply.bytes().to_vec()),
        other => panic!("{other:?}"),
    }
}

fn await_notice(task_queue: &TaskQueue) {
    let event = next(task_queue, &[]);
    assert!(matches!(event, Event::Notice { .. }), "{event:?}");
}

fn await_death(task_queue: &TaskQueue, worker: &Worker) {
    let event = next(task_queue, &[worker.slot]);
    assert!(
        matches!(event, Event::Gone(slot) if slot == worker.slot),
        "{event:?}"
    );
}

#[test]
fn every_task_comes_back_once() {
    let task_queue = TaskQueue::with_capacity(16).unwrap();
    let _workers = [(); 3].map(|()| Worker::start(&task_queue, work));
    let long: Vec<u8> = (0..10_000).map(|n| n as u8).collect();
    let payload = |index: u64| match index % 50 {
        0 => long.clone(),
        _ => vec![1, index as u8],
    };
    for index in 0..500 {
        task_queue
            .submit(task(9, index), &[&payload(index)])
            .unwrap();
    }
    let mut seen = BTreeSet::new();
    for _ in 0..500 {
        let (job, index, mut bytes) = result(&task_queue);
        bytes.reverse();
        assert_eq!((job, bytes), (9, payload(index)));
        assert!(seen.insert(index));
    }
    assert_eq!(task_queue.outstanding(), 0);
    let left = task_queue.next_event(Deadline::NOW, &[]);
    assert!(matches!(left, Err(GetError::Empty)), "{left:?}");
}

#[test]
fn tasks_are_claimed_in_order() {
    let task_queue = TaskQueue::new().unwrap();
    let endpoint = WorkerEndpoint::open(&task_queue.handle()).unwrap();
    for index in 0..5 {
        task_queue.submit(task(1, index), &[]).unwrap();
    }
    for index in 0..5 {
        let mut claim = endpoint.claim(Deadline::NOW).unwrap();
        assert_eq!((claim.job(), claim.index(), claim.attempt()), (1, index, 0));
        claim.finish(0, &[]).unwrap();
    }
    assert!(matches!(
        endpoint.claim(Deadline::NOW),
        Err(GetError::Empty)
    ));
}

#[test]
fn a_dropped_claim_is_reported() {
    let task_queue = TaskQueue::new().unwrap();
    let endpoint = WorkerEndpoint::open(&task_queue.handle()).unwrap();
    task_queue.submit(task(4, 2), &[]).unwrap();
    drop(endpoint.claim(Deadline::NOW).unwrap());
    let event = next(&task_queue, &[]);
    assert!(
        matches!(event, Event::Abandoned { job: 4, index: 2 }),
        "{event:?}"
    );
}

#[test]
fn a_sleeping_worker_is_woken_for_a_task() {
    let task_queue = TaskQueue::new().unwrap();
    let _worker = Worker::start(&task_queue, |endpoint| {
        endpoint.notify(1, &[]).expect("memory");
        work(endpoint);
    });
    await_notice(&task_queue);
    task_queue.submit(task(0, 0), &[b"ab"]).unwrap();
    assert_eq!(result(&task_queue).2, b"ba");
}
