//! The number of workers, and which of them leave.

use std::collections::HashSet;
use std::sync::OnceLock;

use procession::{Error, Event, Pool, Queue};

procession::test_support!();

fn own_id(_: u32) -> u32 {
    std::process::id()
}

/// What a worker needs to report that it runs a task, and to keep running it.
type Gate = (Queue<u32>, Event);

static GATE: OnceLock<Gate> = OnceLock::new();

fn keep(at_work: Queue<u32>, stop: Event) {
    assert!(GATE.set((at_work, stop)).is_ok());
}

fn wait_for_stop(_: u32) -> u32 {
    let (at_work, stop) = GATE.get().unwrap();
    at_work.put(std::process::id()).unwrap();
    stop.wait();
    std::process::id()
}

fn gated(workers: usize) -> (Pool, Gate) {
    let gate = (Queue::new().unwrap(), Event::new().unwrap());
    let pool = Pool::builder()
        .workers(workers)
        .initializer(keep, gate.clone())
        .build()
        .unwrap();
    (pool, gate)
}

fn is_there(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits for the end of a process that this one will reap.
fn wait_until_gone(pid: u32) {
    while is_there(pid) {
        std::thread::yield_now();
    }
}

#[test]
fn a_pool_grows_under_work() {
    let (pool, (at_work, stop)) = gated(1);
    let tasks: Vec<_> = (0..3)
        .map(|n| pool.submit(wait_for_stop, n).unwrap())
        .collect();
    let first = at_work.get().unwrap();
    pool.resize(3).unwrap();
    assert_eq!(pool.workers(), 3);
    // Other tasks can run only if there are other workers.
    let at_work: HashSet<u32> = [first, at_work.get().unwrap(), at_work.get().unwrap()].into();
    assert_eq!(at_work, pool.worker_ids().into_iter().collect());
    stop.set();
    let done: HashSet<u32> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
    assert_eq!(done, at_work);
}

#[test]
fn a_pool_shrinks_by_its_idle_workers_first() {
    let (pool, (at_work, stop)) = gated(3);
    let before = pool.worker_ids();
    let task = pool.submit(wait_for_stop, 0).unwrap();
    let busy = at_work.get().unwrap();
    pool.resize(1).unwrap();
    assert_eq!(pool.worker_ids(), [busy]);
    for pid in before.into_iter().filter(|&pid| pid != busy) {
        wait_until_gone(pid);
    }
    stop.set();
    assert_eq!(task.join().unwrap(), busy);
    assert_eq!(pool.map(own_id, 0..20).unwrap(), [busy; 20]);
}

#[test]
fn a_worker_that_is_sent_away_finishes_its_task() {
    let (pool, (at_work, stop)) = gated(2);
    let tasks: Vec<_> = (0..6)
        .map(|n| pool.submit(wait_for_stop, n).unwrap())
        .collect();
    let both: HashSet<u32> = [at_work.get().unwrap(), at_work.get().unwrap()].into();
    pool.resize(1).unwrap();
    assert_eq!(pool.workers(), 1);
    let stays = pool.worker_ids()[0];
    let leaves = *both.iter().find(|&&pid| pid != stays).unwrap();
    assert!(is_there(leaves));
    stop.set();
    let done: Vec<u32> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
    assert_eq!(done.iter().filter(|&&pid| pid == leaves).count(), 1);
    wait_until_gone(leaves);
    assert_eq!(pool.worker_ids(), [stays]);
}

#[test]
fn a_pool_may_grow_while_it_shrinks() {
    let (pool, (at_work, stop)) = gated(2);
    let tasks: Vec<_> = (0..2)
        .map(|n| pool.submit(wait_for_stop, n).unwrap())
        .collect();
    let both: HashSet<u32> = [at_work.get().unwrap(), at_work.get().unwrap()].into();
    pool.resize(1).unwrap();
    pool.resize(2).unwrap();
    let ids = pool.worker_ids();
    assert_eq!(ids.len(), 2);
    let leaves = *both.iter().find(|pid| !ids.contains(pid)).unwrap();
    stop.set();
    for task in tasks {
        assert!(both.contains(&task.join().unwrap()));
    }
    wait_until_gone(leaves);
    assert_eq!(pool.worker_ids(), ids);
}

#[test]
fn a_pool_changes_its_size_amid_many_tasks() {
    fn square(n: u64) -> u64 {
        n * n
    }
    let pool = Pool::new(2).unwrap();
    for (n, result) in pool.imap(square, 0..3000).unwrap().enumerate() {
        assert_eq!(result.unwrap(), (n * n) as u64);
        if n % 300 == 0 {
            pool.resize(1 + n / 300 % 3).unwrap();
        }
    }
    assert_eq!(pool.worker_ids().len(), pool.workers());
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let pool = Pool::new(1).unwrap();
    assert!(pool.resize(0).is_err());
    assert_eq!(pool.workers(), 1);
    pool.close();
    assert!(matches!(pool.resize(2), Err(Error::PoolClosed)));
}

fn square(n: u64) -> u64 {
    n * n
}

#[test]
fn growing_and_shrinking_again_and_again_breaks_nothing() {
    let pool = Pool::new(1).unwrap();
    for _ in 0..15 {
        let squares = pool.map_unordered(square, 0..200).unwrap();
        pool.resize(4).unwrap();
        pool.resize(1).unwrap();
        for (place, square) in squares {
            assert_eq!(square.unwrap(), (place * place) as u64);
        }
    }
}
