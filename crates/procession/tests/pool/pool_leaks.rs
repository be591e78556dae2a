//! Nothing is left of tasks and pools that were dropped or leaked.

use procession::{Pool, Process, Queue};
use procession_engine::process::{memory_stats, sweep};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

procession::test_support!();

fn large(n: u64) -> Vec<u64> {
    vec![n; 100_000]
}

/// Takes no result and leaks everything.
fn leave_behind(pool: &Pool, kind: u32) {
    let submit = |n| pool.submit(large, n).unwrap();
    match kind {
        0 => drop(submit(1)),
        1 => std::mem::forget(submit(2)),
        2 => drop(pool.imap(large, 0..20).unwrap()),
        3 => std::mem::forget(pool.imap(large, 0..20).unwrap()),
        4 => {
            let mut results = pool.map_unordered(large, 0..20).unwrap();
            results.next().unwrap().1.unwrap();
            std::mem::forget(results);
        }
        _ => pool.scope(|scope| drop(scope.submit(large, 3).map(|_| ()))),
    }
}

fn count() -> (usize, usize, usize) {
    let memory_stats = memory_stats();
    (
        memory_stats.processes,
        memory_stats.objects,
        memory_stats.blocks_in_use,
    )
}

/// One at a time: each counts the objects of the whole process tree.
#[test]
fn nothing_that_is_dropped_or_leaked_stays_in_shared_memory() {
    // Create what exists once per process.
    drop(Pool::new(1).unwrap());
    tasks_that_nobody_takes();
    a_task_that_outlives_its_pool();
    a_pool_that_is_leaked();
    a_pool_whose_workers_come_and_go();
}

fn tasks_that_nobody_takes() {
    let before = count();
    for kind in 0..6 {
        let pool = Pool::new(1).unwrap();
        leave_behind(&pool, kind);
        pool.join();
        assert_eq!(count(), before, "kind {kind}");
        let pool = Pool::new(1).unwrap();
        leave_behind(&pool, kind);
        pool.terminate();
        assert_eq!(count(), before, "kind {kind}, terminated");
    }
}

fn a_task_that_outlives_its_pool() {
    let before = count();
    let pool = Pool::new(1).unwrap();
    let task = pool.submit(large, 7).unwrap();
    pool.join();
    assert_eq!(count(), before);
    assert_eq!(task.join().unwrap(), large(7));
}

fn forget_a_pool(workers: Queue<u32>) {
    let pool = Pool::new(2).unwrap();
    for id in pool.worker_ids() {
        workers.put(id).unwrap();
    }
    std::mem::forget(pool.submit(large, 1).unwrap());
    std::mem::forget(pool);
}

fn a_pool_that_is_leaked() {
    let before = count();
    let workers = Queue::new().unwrap();
    let process = Process::spawn(forget_a_pool, workers.clone()).unwrap();
    for _ in 0..2 {
        let id = Pid::from_raw(workers.get().unwrap() as i32).unwrap();
        // It ends with the process that has the pool, perhaps before this check.
        if let Ok(worker) = pidfd_open(id, PidfdFlags::empty()) {
            poll(&mut [PollFd::new(&worker, PollFlags::IN)], None).unwrap();
        }
    }
    process.join().unwrap();
    drop(workers);
    sweep();
    assert_eq!(count(), before);
}

fn own_id(_: u64) -> u32 {
    std::process::id()
}

fn a_pool_whose_workers_come_and_go() {
    let before = count();
    let pool = Pool::builder().workers(1).max_tasks(1).build().unwrap();
    let ids: Vec<u32> = pool
        .imap(own_id, 0..40)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    // New workers reuse the entries and objects of those that left.
    let (processes, objects, _) = count();
    assert!(
        processes <= before.0 + 2,
        "{processes} processes, {} before",
        before.0
    );
    assert!(
        objects <= before.1 + 10,
        "{objects} objects, {} before",
        before.1
    );
    pool.join();
    assert_eq!(count(), before);
}
