//! Tasks that are cancelled or withdrawn.

use procession_engine::pool::{Cancelled, TaskQueue, WorkerEndpoint, WorkerStatus};
use procession_engine::{Deadline, process};

use crate::{Worker, await_notice, hold_one, result, task};

#[test]
fn a_waiting_task_is_withdrawn_and_a_running_one_is_revoked() {
    let task_queue = TaskQueue::with_capacity(8).unwrap();
    let endpoint = WorkerEndpoint::open(&task_queue.handle()).unwrap();
    for index in 0..20 {
        task_queue.submit(task(1, index), &[]).unwrap();
    }
    task_queue.submit(task(2, 0), &[]).unwrap();
    let mut running = endpoint.claim(Deadline::NOW).unwrap();
    let cancelled = task_queue.cancel(1, None);
    assert_eq!(cancelled.running, [(0, process::me())]);
    assert_eq!(cancelled.withdrawn.len(), 19);
    assert_eq!(task_queue.cancel(1, Some(3)), Cancelled::default());
    assert_eq!(running.finish(1, &[]).unwrap(), WorkerStatus::Revoked);
    let mut other = endpoint.claim(Deadline::NOW).unwrap();
    assert_eq!(other.job(), 2);
    other.finish(1, &[]).unwrap();
    assert_eq!(result(&task_queue).0, 2);
}

#[test]
fn what_runs_is_not_withdrawn() {
    let task_queue = TaskQueue::new().unwrap();
    task_queue.submit(task(1, 0), &[]).unwrap();
    let worker = Worker::start(&task_queue, hold_one);
    await_notice(&task_queue);
    task_queue.submit(task(1, 1), &[]).unwrap();
    task_queue.submit(task(2, 0), &[]).unwrap();
    assert_eq!(task_queue.busy(), [worker.slot]);
    assert_eq!(task_queue.withdraw(1), [1]);
    assert_eq!(task_queue.outstanding(), 2);
}

#[test]
fn jobs_are_withdrawn_one_by_one_and_the_others_keep_their_order() {
    let task_queue = TaskQueue::with_capacity(8).unwrap();
    let endpoint = WorkerEndpoint::open(&task_queue.handle()).unwrap();
    // By then half of them are in records, and the others wait.
    for index in 0..5 {
        for job in 1..=3 {
            task_queue.submit(task(job, index), &[]).unwrap();
        }
    }
    let mut withdrawn = task_queue.withdraw(2);
    withdrawn.sort_unstable();
    assert_eq!(withdrawn, [0, 1, 2, 3, 4]);
    assert_eq!(task_queue.cancel(3, Some(4)).withdrawn, [4]);
    assert_eq!(task_queue.withdraw(7), [0_u64; 0]);
    let left = [
        (1, 0),
        (3, 0),
        (1, 1),
        (3, 1),
        (1, 2),
        (3, 2),
        (1, 3),
        (3, 3),
        (1, 4),
    ];
    assert_eq!(task_queue.outstanding(), left.len());
    for (job, index) in left {
        let mut claim = endpoint.claim(Deadline::NOW).unwrap();
        assert_eq!((claim.job(), claim.index()), (job, index));
        claim.finish(1, &[]).unwrap();
        assert_eq!(result(&task_queue).0, job);
    }
    assert_eq!(task_queue.outstanding(), 0);
}
