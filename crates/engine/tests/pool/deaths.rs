//! Workers that end in the middle of their tasks, and forked copies of workers.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use procession_engine::error::{Error, GetError, PutError};
use procession_engine::pool::{Event, Lost, Task, TaskQueue, WorkerEndpoint, WorkerStatus};

use crate::{
    NoResults, Worker, await_death, await_notice, hold_one, next, result, soon, task, work,
};

#[test]
fn a_killed_worker_loses_its_task_and_no_other() {
    let task_queue = TaskQueue::new().unwrap();
    for index in 0..3 {
        task_queue.submit(task(1, index), &[b"x"]).unwrap();
    }
    let victim = Worker::start(&task_queue, hold_one);
    await_notice(&task_queue);
    victim.kill();
    await_death(&task_queue, &victim);
    let lost = Lost {
        job: 1,
        index: 0,
        item: 0,
        attempts: 1,
        repeated: false,
    };
    assert_eq!(task_queue.lost_by(victim.slot), [lost]);
    assert_eq!(task_queue.lost_by(victim.slot), []);
    let _other = Worker::start(&task_queue, work);
    let left: BTreeSet<u64> = (0..2).map(|_| result(&task_queue).1).collect();
    assert_eq!(left, BTreeSet::from([1, 2]));
}

#[test]
fn what_a_worker_sent_before_it_died_is_not_lost() {
    let task_queue = TaskQueue::new().unwrap();
    for index in 0..4 {
        task_queue.submit(task(1, index), &[b"x"]).unwrap();
    }
    let victim = Worker::start(&task_queue, |endpoint| {
        for _ in 0..3 {
            endpoint.claim(soon()).unwrap().finish(1, &[]).unwrap();
        }
        endpoint.claim(soon()).unwrap().leave_unfinished();
    });
    for index in 0..3 {
        match next(&task_queue, &[victim.slot]) {
            Event::Result { index: came, .. } => assert_eq!(came, index),
            other => panic!("{other:?}"),
        }
    }
    await_death(&task_queue, &victim);
    let lost: Vec<u64> = task_queue
        .lost_by(victim.slot)
        .iter()
        .map(|lost| lost.index)
        .collect();
    assert_eq!(lost, [3]);
}

#[test]
fn a_lost_task_is_tried_again_as_often_as_allowed() {
    let task_queue = TaskQueue::new().unwrap();
    let stubborn = Task {
        retries: 1,
        ..task(1, 0)
    };
    task_queue.submit(stubborn, &[b"again"]).unwrap();
    for attempts in 1..=2 {
        let victim = Worker::start(&task_queue, hold_one);
        await_notice(&task_queue);
        victim.kill();
        await_death(&task_queue, &victim);
        let lost = task_queue.lost_by(victim.slot)[0];
        assert_eq!(
            (lost.attempts, lost.repeated),
            (attempts, attempts == 1),
            "{lost:?}"
        );
    }
    assert_eq!(task_queue.outstanding(), 0);
}

/// Workers that end at each of their steps, and what happens to the tasks.
#[cfg(feature = "kill-points")]
mod kill_matrix {
    use procession_engine::failpoint::{self, Action};

    use super::*;

    const TASKS: u64 = 6;

    fn survive(point: &'static str, action: Action) {
        let task_queue = TaskQueue::new().unwrap();
        for index in 0..TASKS {
            task_queue.submit(task(1, index), &[b"x"]).unwrap();
        }
        let victim = Worker::start(&task_queue, |endpoint| {
            failpoint::arm(point, 2, action);
            work(endpoint);
        });
        let mut ended = Vec::new();
        loop {
            match next(&task_queue, &[victim.slot]) {
                Event::Result { index, .. } => ended.push(index),
                Event::Gone(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(ended.len() < TASKS as usize, "{point} was never met");
        ended.extend(
            task_queue
                .lost_by(victim.slot)
                .iter()
                .map(|lost| lost.index),
        );
        let _other = Worker::start(&task_queue, work);
        while task_queue.outstanding() > 0 {
            ended.push(result(&task_queue).1);
        }
        ended.sort_unstable();
        assert_eq!(ended, (0..TASKS).collect::<Vec<_>>(), "{point}");
    }

    #[test]
    fn every_task_ends_once_wherever_a_worker_ends() {
        let points = failpoint::names()
            .iter()
            .filter(|name| name.starts_with("pool."));
        for point in points {
            for action in [Action::Kill, Action::Exit, Action::Exec] {
                survive(point, action);
            }
        }
    }
}

#[test]
fn a_death_is_told_though_others_look_for_results() {
    let task_queue = TaskQueue::new().unwrap();
    let worker = Worker::start(&task_queue, hold_one);
    task_queue.submit(task(1, 0), &[&[1]]).unwrap();
    await_notice(&task_queue);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                task_queue.assist(|| over.load(SeqCst), &NoResults);
            }
        });
        worker.kill();
        await_death(&task_queue, &worker);
        over.store(true, SeqCst);
    });
    let lost = task_queue.lost_by(worker.slot);
    assert_eq!(lost.len(), 1, "{lost:?}");
}

/// Forks within a task. The copy tries all that a worker may do. Its exit status says whether everything was refused.
fn fork_within_a_task(endpoint: &WorkerEndpoint) {
    let mut claim = endpoint.claim(soon()).expect("a task");
    // SAFETY: as in `Worker::start`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let refused = [
            matches!(
                claim.finish(1, &[b"copy"]),
                Err(PutError::Failed(Error::NotTheWorker))
            ),
            matches!(
                endpoint.claim(soon()),
                Err(GetError::Failed(Error::NotTheWorker))
            ),
            endpoint.notify(7, &[b"copy"]).is_err(),
            !claim.note_item(3, true),
            !endpoint.is_here(),
        ];
        drop(claim);
        // SAFETY: ends the process.
        unsafe { libc::_exit(refused.contains(&false).into()) }
    }
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(
        claim.finish(1, &[&status.to_le_bytes()]).expect("memory"),
        WorkerStatus::Good
    );
    work(endpoint);
}

#[test]
fn a_copy_of_a_worker_claims_nothing_and_sends_nothing() {
    let task_queue = TaskQueue::new().unwrap();
    for index in 0..2 {
        task_queue.submit(task(1, index), &[b"ab"]).unwrap();
    }
    let worker = Worker::start(&task_queue, fork_within_a_task);
    assert_eq!(result(&task_queue), (1, 0, 0_i32.to_le_bytes().to_vec()));
    assert_eq!(result(&task_queue), (1, 1, b"ba".to_vec()));
    task_queue.close();
    await_death(&task_queue, &worker);
    assert_eq!(task_queue.outstanding(), 0);
}
