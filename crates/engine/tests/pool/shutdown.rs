//! Workers that are dismissed, and task queues that are closed.

use procession_engine::error::GetError;
use procession_engine::pool::{TaskQueue, WorkerEndpoint, WorkerStatus};
use procession_engine::{Deadline, process};

use crate::{Worker, await_death, result, soon, task, work};

#[test]
fn a_closed_task_queue_gives_out_what_it_has_and_then_lets_workers_exit() {
    let task_queue = TaskQueue::new().unwrap();
    let endpoint = WorkerEndpoint::open(&task_queue.handle()).unwrap();
    task_queue.submit(task(0, 0), &[b"last"]).unwrap();
    task_queue.close();
    assert!(task_queue.submit(task(0, 1), &[]).is_err());
    assert_eq!(endpoint.claim(soon()).unwrap().bytes(), b"last");
    assert!(matches!(endpoint.claim(soon()), Err(GetError::Closed)));
}

#[test]
fn a_closed_task_queue_keeps_its_workers_while_tasks_wait_for_room() {
    let task_queue = TaskQueue::with_capacity(8).unwrap();
    let endpoint = WorkerEndpoint::open(&task_queue.handle()).unwrap();
    for index in 0..9 {
        task_queue.submit(task(1, index), &[b"x"]).unwrap();
    }
    task_queue.close();
    let finish_one = || endpoint.claim(soon()).unwrap().finish(0, &[b"y"]).unwrap();
    for _ in 0..8 {
        finish_one();
    }
    // The ninth task is queued only after the submitter has seen a result.
    assert!(matches!(
        endpoint.claim(Deadline::NOW),
        Err(GetError::Empty)
    ));
    assert_eq!(result(&task_queue), (1, 0, b"y".to_vec()));
    finish_one();
    assert!(matches!(endpoint.claim(soon()), Err(GetError::Closed)));
}

#[test]
fn a_dismissed_worker_finishes_its_task_and_claims_no_other() {
    let task_queue = TaskQueue::new().unwrap();
    let endpoint = WorkerEndpoint::open(&task_queue.handle()).unwrap();
    for index in 0..2 {
        task_queue.submit(task(1, index), &[]).unwrap();
    }
    let mut claim = endpoint.claim(soon()).unwrap();
    task_queue.dismiss_all(&[process::me()]);
    assert_eq!(claim.finish(0, &[]).unwrap(), WorkerStatus::Good);
    assert!(matches!(endpoint.claim(soon()), Err(GetError::Closed)));
    assert_eq!(task_queue.outstanding(), 2);
}

#[test]
fn a_sleeping_worker_is_woken_to_leave() {
    let task_queue = TaskQueue::new().unwrap();
    let stays = Worker::start(&task_queue, work);
    let leaves = Worker::start(&task_queue, work);
    task_queue.dismiss_all(&[leaves.slot]);
    await_death(&task_queue, &leaves);
    for index in 0..20 {
        task_queue.submit(task(1, index), &[b"ab"]).unwrap();
        assert_eq!(result(&task_queue), (1, index, b"ba".to_vec()));
    }
    task_queue.close();
    await_death(&task_queue, &stays);
}
