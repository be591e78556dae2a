//! How much a submitter that can wait has outstanding.

use procession_engine::Deadline;
use procession_engine::pool::{Room, Task, TaskQueue, WorkerEndpoint};

use crate::{result, soon, task};

const MIB: u64 = 1 << 20;

fn heavy(job: u64, index: u64, weight: u64) -> Task {
    Task {
        weight,
        ..task(job, index)
    }
}

fn has_room(task_queue: &TaskQueue, room: Room) -> bool {
    task_queue.wait_for_room(room, Deadline::NOW)
}

#[test]
fn tasks_weigh_until_they_end_however_they_do() {
    let task_queue = TaskQueue::with_capacity(8).unwrap();
    let endpoint = WorkerEndpoint::open(&task_queue.handle()).unwrap();
    for index in 0..10 {
        let all = task_queue.submit(heavy(1, index, MIB), &[]).unwrap();
        assert_eq!(all, (index + 1) * MIB);
    }
    endpoint.claim(soon()).unwrap().finish(0, &[]).unwrap();
    assert_eq!(task_queue.weight(), 10 * MIB, "nobody has seen the result");
    result(&task_queue);
    assert_eq!(task_queue.weight(), 9 * MIB);
    let claim = endpoint.claim(soon()).unwrap();
    let cancelled = task_queue.cancel(1, Some(9));
    assert_eq!(cancelled.withdrawn, [9], "it waited outside");
    assert_eq!(task_queue.weight(), 8 * MIB);
    task_queue.submit(heavy(2, 0, 5 * MIB), &[]).unwrap();
    task_queue.withdraw(1);
    assert_eq!(task_queue.weight(), (1 + 5) * MIB, "one is running");
    drop(claim);
    task_queue.withdraw_all();
    let left = task_queue.weight();
    task_queue.submit(heavy(3, 0, MIB), &[]).unwrap();
    assert_eq!(task_queue.weight(), left + MIB);
}

#[test]
fn what_cannot_be_submitted_weighs_nothing() {
    let task_queue = TaskQueue::new().unwrap();
    task_queue.close();
    task_queue.submit(heavy(1, 0, MIB), &[]).unwrap_err();
    assert_eq!(task_queue.weight(), 0);
}

#[test]
fn a_submitter_waits_until_there_is_room_again() {
    let task_queue = TaskQueue::new().unwrap();
    let endpoint = WorkerEndpoint::open(&task_queue.handle()).unwrap();
    let room = Room::for_workers(1);
    let mut submitted = 0;
    while has_room(&task_queue, room) {
        task_queue
            .submit(heavy(1, submitted, 8 * MIB), &[])
            .unwrap();
        submitted += 1;
    }
    assert_eq!(submitted, 4, "two for the worker, and two");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| task_queue.wait_for_room(room, soon()));
        endpoint.claim(soon()).unwrap().finish(0, &[]).unwrap();
        result(&task_queue);
        assert!(waits.join().unwrap());
    });
    task_queue.submit(heavy(1, 4, 8 * MIB), &[]).unwrap();
    assert!(!has_room(&task_queue, room));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| task_queue.wait_for_room(room, soon()));
        task_queue.withdraw(1);
        assert!(waits.join().unwrap());
    });
}

#[test]
fn a_bound_holds_until_a_task_ends() {
    let task_queue = TaskQueue::new().unwrap();
    let endpoint = WorkerEndpoint::open(&task_queue.handle()).unwrap();
    let submit = |index, deadline| task_queue.submit_within(1, task(1, index), &[], deadline);
    assert_eq!(submit(0, Deadline::NOW).unwrap(), Some(0));
    assert_eq!(submit(1, Deadline::NOW).unwrap(), None);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| submit(2, soon()));
        endpoint.claim(soon()).unwrap().finish(0, &[]).unwrap();
        assert_eq!(result(&task_queue).1, 0);
        assert_eq!(waits.join().unwrap().unwrap(), Some(0));
    });
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| submit(3, soon()));
        task_queue.close();
        waits.join().unwrap().unwrap_err();
    });
}
