//! Pools of worker processes.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::Duration;

use procession::{Error, Event, Pool, Process, Queue, TaskError};

procession::test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn add(a: i32, b: i32) -> i32 {
    a + b
}

fn own_id(_: u32) -> u32 {
    std::process::id()
}

#[test]
fn map_keeps_the_order() {
    let pool = Pool::new(3).unwrap();
    assert_eq!(
        pool.map(square, [1, 2, 3, 4, 5]).unwrap(),
        [1, 4, 9, 16, 25]
    );
    let many: Vec<u64> = (0..5000).collect();
    let squares: Vec<u64> = many.iter().map(|n| n * n).collect();
    assert_eq!(pool.map(square, many.clone()).unwrap(), squares);
    assert_eq!(pool.map_chunked(square, many, 1).unwrap(), squares);
}

#[test]
fn map_of_nothing_is_nothing() {
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.map(square, []).unwrap(), Vec::<u64>::new());
}

#[test]
fn functions_of_several_arguments_take_tuples() {
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(add, [(1, 2), (3, 4)]).unwrap(), [3, 7]);
    assert_eq!(pool.apply(add, (40, 2)).unwrap(), 42);
}

#[test]
fn large_arguments_and_results_pass() {
    fn reverse(mut items: Vec<u32>) -> Vec<u32> {
        items.reverse();
        items
    }
    let pool = Pool::new(2).unwrap();
    let items: Vec<u32> = (0..500_000).collect();
    let reversed = pool.apply(reverse, items.clone()).unwrap();
    assert!(reversed.iter().rev().eq(&items));
}

#[test]
fn imap_gives_results_in_order_and_takes_items_lazily() {
    let pool = Pool::new(2).unwrap();
    let first: Vec<u64> = pool
        .imap(square, 1..)
        .unwrap()
        .take(500)
        .map(Result::unwrap)
        .collect();
    assert!(first.iter().copied().eq((1..=500).map(|n| n * n)));
}

#[test]
fn imap_unordered_gives_every_result_once() {
    let pool = Pool::new(2).unwrap();
    let mut seen = HashSet::new();
    for (place, result) in pool.imap_unordered(square, 0..300).unwrap() {
        assert_eq!(result.unwrap(), (place * place) as u64);
        assert!(seen.insert(place));
    }
    assert_eq!(seen.len(), 300);
}

fn wait_for_stop(_: u32) -> bool {
    STOP.get().unwrap().wait();
    true
}

static STOP: OnceLock<Event> = OnceLock::new();

fn keep(stop: Event) {
    STOP.set(stop).unwrap();
}

#[test]
fn a_task_can_be_waited_for_later() {
    let stop = Event::new().unwrap();
    let pool = Pool::builder()
        .workers(1)
        .initializer(keep, stop.clone())
        .build()
        .unwrap();
    let mut task = pool.submit(wait_for_stop, 0).unwrap();
    assert!(!task.is_ready());
    assert!(task.try_join().unwrap().is_none());
    assert!(
        task.join_timeout(Duration::from_millis(1))
            .unwrap()
            .is_none()
    );
    stop.set();
    assert!(task.join_timeout(Duration::from_secs(60)).unwrap().unwrap());
    assert!(matches!(task.try_join(), Err(TaskError::Taken)));
}

fn panic_on_three(n: u32) -> u32 {
    assert_ne!(n, 3, "three is not allowed");
    n
}

#[test]
fn a_panic_fails_its_own_item_only() {
    let pool = Pool::new(2).unwrap();
    let results: Vec<_> = pool.imap(panic_on_three, 0..6).unwrap().collect();
    for (n, result) in (0..6).zip(results) {
        match result {
            Ok(found) => assert_eq!(found, n),
            Err(TaskError::Panicked(panic)) => {
                assert_eq!(n, 3);
                assert!(panic.message.contains("three is not allowed"));
            }
            Err(other) => panic!("{other}"),
        }
    }
    let error = pool.map(panic_on_three, 0..6).unwrap_err();
    assert!(matches!(error, Error::Task(TaskError::Panicked(_))));
    assert_eq!(pool.map(panic_on_three, 4..6).unwrap(), [4, 5]);
}

fn die_on_three(n: u32) -> u32 {
    if n == 3 {
        std::process::abort();
    }
    n
}

#[test]
fn a_worker_that_dies_fails_its_own_task_and_the_pool_goes_on() {
    let pool = Pool::new(2).unwrap();
    let results: Vec<_> = pool.imap(die_on_three, 0..20).unwrap().collect();
    for (n, result) in (0..20).zip(results) {
        match result {
            Ok(found) => assert_eq!(found, n),
            Err(TaskError::WorkerDied { pid, how }) => {
                assert_eq!(n, 3);
                assert_ne!(pid, 0);
                assert!(how.contains("SIGABRT"), "{how}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(pool.map(die_on_three, 10..13).unwrap(), [10, 11, 12]);
    assert_eq!(pool.worker_ids().len(), 2);
}

#[test]
fn a_task_is_tried_again_when_its_worker_dies_if_asked_for() {
    fn die_first(path: String) -> u32 {
        if std::fs::create_dir(&path).is_ok() {
            std::process::abort();
        }
        std::process::id()
    }
    let path = std::env::temp_dir().join(format!("procession-retry-{}", std::process::id()));
    let pool = Pool::builder().workers(1).retries(1).build().unwrap();
    let done = pool.apply(die_first, path.display().to_string());
    std::fs::remove_dir(&path).unwrap();
    done.unwrap();
}

#[test]
fn a_task_that_takes_too_long_is_ended() {
    fn forever(_: u32) {
        loop {
            std::thread::park();
        }
    }
    let pool = Pool::builder()
        .workers(1)
        .task_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let error = pool.apply(forever, 0).unwrap_err();
    assert!(matches!(error, Error::Task(TaskError::TimedOut)), "{error}");
    assert_eq!(pool.apply(square, 5).unwrap(), 25);
}

#[test]
fn a_task_can_be_cancelled_before_and_while_it_runs() {
    let stop = Event::new().unwrap();
    let pool = Pool::builder()
        .workers(1)
        .initializer(keep, stop.clone())
        .build()
        .unwrap();
    let running = pool.submit(wait_for_stop, 0).unwrap();
    let waiting = pool.submit(wait_for_stop, 1).unwrap();
    assert!(waiting.cancel());
    assert!(matches!(waiting.join(), Err(TaskError::Cancelled)));
    assert!(running.cancel());
    assert!(matches!(running.join(), Err(TaskError::Cancelled)));
    assert_eq!(pool.apply(square, 6).unwrap(), 36);
}

#[test]
fn workers_are_replaced_after_their_share_of_tasks() {
    let pool = Pool::builder().workers(1).max_tasks(2).build().unwrap();
    let ids: HashSet<u32> = pool
        .imap(own_id, 0..6)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn an_initializer_that_panics_fails_the_tasks_with_its_message() {
    fn fail(why: String) {
        panic!("{why}");
    }
    let pool = Pool::builder()
        .workers(2)
        .initializer(fail, "no database".to_owned())
        .build()
        .unwrap();
    match pool.apply(square, 1).unwrap_err() {
        Error::Task(TaskError::NoWorkers(why)) => assert!(why.contains("no database"), "{why}"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_closed_pool_finishes_its_tasks_and_takes_no_more() {
    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> = (0..50).map(|n| pool.submit(square, n).unwrap()).collect();
    pool.close();
    assert!(matches!(pool.apply(square, 1), Err(Error::PoolClosed)));
    pool.join();
    for (n, task) in (0..50).zip(tasks) {
        assert_eq!(task.join().unwrap(), n * n);
    }
}

#[test]
fn a_terminated_pool_ends_its_tasks() {
    let stop = Event::new().unwrap();
    let pool = Pool::builder()
        .workers(1)
        .initializer(keep, stop)
        .build()
        .unwrap();
    let ids = pool.worker_ids();
    let task = pool.submit(wait_for_stop, 0).unwrap();
    pool.terminate();
    assert!(matches!(task.join(), Err(TaskError::PoolGone)));
    for id in ids {
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}

#[test]
fn a_pool_without_workers_is_refused() {
    assert!(Pool::new(0).is_err());
}

#[test]
fn a_closure_is_refused() {
    let pool = Pool::new(1).unwrap();
    assert!(matches!(pool.map(|n: u64| n, [1]), Err(Error::NotPlain(_))));
}

#[test]
fn several_threads_may_use_a_pool_at_once() {
    let pool = Pool::new(2).unwrap();
    std::thread::scope(|scope| {
        for start in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                let expected: Vec<u64> = (start..start + 100).map(|n| n * n).collect();
                assert_eq!(pool.map(square, start..start + 100).unwrap(), expected);
            });
        }
    });
}

fn run_pool(results: Queue<Vec<u64>>) {
    let pool = Pool::new(2).unwrap();
    results.put(pool.map(square, 1..4).unwrap()).unwrap();
}

#[test]
fn a_child_may_have_a_pool_of_its_own() {
    let results = Queue::new().unwrap();
    Process::spawn(run_pool, results.clone())
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(results.get().unwrap(), [1, 4, 9]);
}

fn carry_bomb(bombs: Queue<()>) {
    std::thread::spawn(move || {
        if bombs.get().is_ok() {
            std::process::abort();
        }
    });
}

#[test]
fn workers_that_die_at_any_moment_cost_only_the_tasks_they_had() {
    let bombs = Queue::new().unwrap();
    let pool = Pool::builder()
        .workers(2)
        .initializer(carry_bomb, bombs.clone())
        .build()
        .unwrap();
    let (mut lost, mut dropped) = (0, 0);
    for (n, result) in pool.imap(square, 0..2000).unwrap().enumerate() {
        match result {
            Ok(found) => assert_eq!(found, (n * n) as u64),
            Err(TaskError::WorkerDied { how, .. }) => {
                assert!(how.contains("SIGABRT"), "{how}");
                lost += 1;
            }
            Err(other) => panic!("{other}"),
        }
        if n % 200 == 0 {
            bombs.put(()).unwrap();
            dropped += 1;
        }
    }
    assert!(lost <= dropped, "{lost} tasks were lost to {dropped} bombs");
}
