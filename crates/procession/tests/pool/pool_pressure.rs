//! How many pending tasks a pool holds.

use std::sync::mpsc;
use std::time::Duration;

use procession::{Error, Pool, PutError, TaskError};
use rustix::process::{Pid, Signal, kill_process};

mod gate;

use gate::wait_for_stop;

procession::test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn bounded(tasks: usize) -> (Pool, gate::Gate) {
    gate::gated(Pool::builder().workers(1).max_pending(tasks))
}

#[test]
fn a_full_pool_gives_the_arguments_back() {
    let (pool, (_, stop)) = bounded(2);
    let first = pool.try_submit(wait_for_stop, 1).unwrap();
    let second = pool.submit(wait_for_stop, 2).unwrap();
    match pool.try_submit(wait_for_stop, 3).unwrap_err() {
        PutError::Full(back) => assert_eq!(back, 3),
        other => panic!("{other:?}"),
    }
    let late = pool.submit_timeout(wait_for_stop, 4, Duration::from_millis(20));
    assert_eq!(late.unwrap_err().into_inner(), 4);
    stop.set();
    assert_eq!(first.join().unwrap(), 1);
    assert_eq!(second.join().unwrap(), 2);
    // Results not yet taken do not count as pending tasks.
    let kept: Vec<_> = (0..10).map(|n| pool.submit(square, n).unwrap()).collect();
    for (n, task) in (0..10).zip(kept) {
        assert_eq!(task.join().unwrap(), n * n);
    }
    pool.close();
    match pool.try_submit(wait_for_stop, 5).unwrap_err() {
        PutError::Closed(back) => assert_eq!(back, 5),
        other => panic!("{other:?}"),
    }
}

#[test]
fn submitting_to_a_full_pool_waits_until_a_task_has_ended() {
    let (pool, (begun, stop)) = bounded(1);
    let first = pool.submit(wait_for_stop, 1).unwrap();
    begun.get().unwrap();
    std::thread::scope(|scope| {
        let (say, heard) = mpsc::channel();
        let pool = &pool;
        scope.spawn(move || {
            say.send("about to submit").unwrap();
            let task = pool.submit(square, 3).unwrap();
            say.send("submitted").unwrap();
            assert_eq!(task.join().unwrap(), 9);
        });
        heard.recv().unwrap();
        assert!(heard.recv_timeout(Duration::from_millis(20)).is_err());
        stop.set();
        assert_eq!(heard.recv().unwrap(), "submitted");
    });
    assert_eq!(first.join().unwrap(), 1);
}

/// Submits in another thread while `end` ends the tasks that fill the pool.
fn submit_while(pool: &Pool, end: impl FnOnce()) -> Result<u64, Error> {
    std::thread::scope(|scope| {
        let (say, heard) = mpsc::channel();
        let waiting = scope.spawn(move || {
            say.send(()).unwrap();
            pool.apply(square, 3)
        });
        heard.recv().unwrap();
        end();
        waiting.join().unwrap()
    })
}

#[test]
fn every_way_to_end_a_task_makes_room() {
    let (pool, (begun, _)) = bounded(1);
    let task = pool.submit(wait_for_stop, 1).unwrap();
    begun.get().unwrap();
    assert_eq!(submit_while(&pool, || assert!(task.cancel())).unwrap(), 9);
    let task = pool.submit(wait_for_stop, 1).unwrap();
    begun.get().unwrap();
    let die = || kill(pool.worker_ids()[0]);
    assert_eq!(submit_while(&pool, die).unwrap(), 9);
    assert!(matches!(task.join(), Err(TaskError::WorkerDied { .. })));
    let limited = pool.with_timeout(Duration::from_millis(30));
    let task = limited.submit(wait_for_stop, 1).unwrap();
    assert_eq!(submit_while(&pool, || ()).unwrap(), 9);
    assert!(matches!(task.join(), Err(TaskError::TimedOut)));
}

#[test]
fn who_waits_for_room_learns_of_the_end_of_the_pool() {
    let (pool, (begun, stop)) = bounded(1);
    let task = pool.submit(wait_for_stop, 1).unwrap();
    begun.get().unwrap();
    let refused = submit_while(&pool, || pool.close());
    assert!(matches!(refused, Err(Error::PoolClosed)));
    stop.set();
    assert_eq!(task.join().unwrap(), 1);
}

#[test]
fn maps_keep_to_the_bound() {
    let pool = Pool::builder().workers(2).max_pending(3).build().unwrap();
    let squares: Vec<u64> = (0..300).map(|n| n * n).collect();
    assert_eq!(pool.map(square, 0..300).unwrap(), squares);
    assert_eq!(pool.map_chunked(square, 0..300, 1).unwrap(), squares);
    let one_by_one: Result<Vec<u64>, _> = pool.imap(square, 0..300).unwrap().collect();
    assert_eq!(one_by_one.unwrap(), squares);
    let mut unordered = pool.map_unordered(square, 0..300).unwrap();
    assert!(unordered.all(|(place, result)| result.unwrap() == squares[place]));
}

#[test]
fn an_iterator_takes_no_more_items_than_there_is_room_for() {
    let (pool, _) = bounded(3);
    let taken = std::cell::Cell::new(0);
    let items = (0..100).inspect(|_| taken.set(taken.get() + 1));
    let results = pool.imap(wait_for_stop, items).unwrap();
    assert_eq!(taken.get(), 3);
    results.cancel();
}

fn kill(id: u32) {
    let id = Pid::from_raw(id as i32).unwrap();
    kill_process(id, Signal::KILL).unwrap();
}
