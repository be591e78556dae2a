//! All ways to submit tasks and to cancel them.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use procession::{Error, Pool, PutError, Task, TaskError};

mod gate;

use gate::{begun, wait_for_stop};

procession::test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn gated() -> (Pool, gate::Gate) {
    gate::gated(Pool::builder().workers(1))
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_task_is_a_future() {
    let (pool, (_, stop)) = gated();
    let mut held = pool.submit(wait_for_stop, 5).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    assert!(
        std::pin::Pin::new(&mut held)
            .poll(&mut context)
            .is_pending()
    );
    let second = pool.submit(square, 6).unwrap();
    let both = block_on(async {
        stop.set();
        (held.await, second.await)
    });
    assert!(matches!(both, (Ok(5), Ok(36))), "{both:?}");
}

#[test]
fn a_future_learns_of_the_end_of_its_pool() {
    let (pool, _) = gated();
    let mut task = pool.submit(wait_for_stop, 5).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    assert!(
        std::pin::Pin::new(&mut task)
            .poll(&mut context)
            .is_pending()
    );
    let waiting = std::thread::spawn(move || block_on(task));
    pool.terminate();
    assert!(matches!(waiting.join().unwrap(), Err(TaskError::PoolGone)));
}

#[test]
fn map_unordered_gives_every_result_once() {
    let pool = Pool::new(2).unwrap();
    let results = pool.map_unordered(square, 0..1000).unwrap();
    assert_eq!(results.len(), 1000);
    let mut seen = HashSet::new();
    for (place, result) in results {
        assert_eq!(result.unwrap(), (place * place) as u64);
        assert!(seen.insert(place));
    }
    assert_eq!(seen.len(), 1000);
    assert_eq!(pool.map_unordered(square, []).unwrap().count(), 0);
}

fn die_on_three(n: u64) -> u64 {
    match n {
        3 => std::process::abort(),
        4 => panic!("four is not allowed"),
        _ => n,
    }
}

#[test]
fn map_unordered_gives_an_error_for_each_item_without_a_result() {
    let pool = Pool::new(2).unwrap();
    let mut seen = HashSet::new();
    for (place, result) in pool
        .with_timeout(Duration::from_secs(600))
        .map_unordered(die_on_three, 0..8)
        .unwrap()
    {
        assert!(seen.insert(place));
        match result {
            Ok(found) => assert_eq!(found, place as u64),
            Err(TaskError::WorkerDied { .. }) => assert_eq!(place, 3),
            Err(TaskError::Panicked(_)) => assert_eq!(place, 4),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(seen.len(), 8);
}

#[test]
fn map_unordered_ends_with_the_pool() {
    let (pool, (begun, _)) = gated();
    let results = pool.map_unordered(wait_for_stop, 0..40).unwrap();
    begun.get().unwrap();
    pool.terminate();
    let mut seen = HashSet::new();
    for (place, result) in results {
        assert!(matches!(result, Err(TaskError::PoolGone)));
        assert!(seen.insert(place));
    }
    assert_eq!(seen.len(), 40);
}

#[test]
fn a_dropped_iterator_leaves_undone_what_has_not_begun() {
    for kind in 0..3 {
        let (pool, gate) = gated();
        let first = pool.submit(wait_for_stop, 100).unwrap();
        gate.0.get().unwrap();
        match kind {
            0 => drop(pool.imap(wait_for_stop, 0..10).unwrap()),
            1 => drop(pool.imap_unordered(wait_for_stop, 0..10).unwrap()),
            _ => drop(pool.map_unordered(wait_for_stop, 0..10).unwrap()),
        }
        gate.1.set();
        assert_eq!(first.join().unwrap(), 100);
        pool.join();
        assert_eq!(begun(&gate), [0; 0]);
    }
}

#[test]
fn a_dropped_iterator_lets_what_runs_finish() {
    let (pool, gate) = gated();
    let worker = pool.worker_ids();
    let results = pool.imap(wait_for_stop, 0..10).unwrap();
    assert_eq!(gate.0.get().unwrap(), 0);
    drop(results);
    gate.1.set();
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
    assert_eq!(pool.worker_ids(), worker);
    pool.join();
    assert_eq!(begun(&gate), [0; 0]);
}

#[test]
fn an_iterator_can_be_cancelled_with_what_runs() {
    let (pool, gate) = gated();
    let worker = pool.worker_ids();
    pool.map_unordered(square, 0..10).unwrap().cancel();
    let results = pool.imap(wait_for_stop, 0..10).unwrap();
    assert_eq!(gate.0.get().unwrap(), 0);
    results.cancel();
    // The event was never set.
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
    assert_ne!(pool.worker_ids(), worker);
    pool.join();
    assert_eq!(begun(&gate), [0; 0]);
}

#[test]
fn imap_over_a_pool_that_was_closed_ends() {
    let pool = Pool::new(1).unwrap();
    let mut results = pool.imap(square, 0..).unwrap();
    assert_eq!(results.next().unwrap().unwrap(), 0);
    pool.close();
    let last = results.last().unwrap();
    assert!(matches!(last, Err(TaskError::PoolGone)), "{last:?}");
}

#[test]
fn a_handle_that_outlives_its_pool_reports_that_the_pool_is_closed() {
    let pool = Pool::new(1).unwrap();
    let (same, limited) = (pool.clone(), pool.with_retries(1));
    assert_eq!(same.apply(square, 3).unwrap(), 9);
    let task = limited.submit(square, 4).unwrap();
    drop(pool);
    assert_eq!(task.join().unwrap(), 16);
    for handle in [same, limited] {
        assert!(matches!(handle.apply(square, 3), Err(Error::PoolClosed)));
        assert!(matches!(handle.map(square, [3]), Err(Error::PoolClosed)));
        let refused = handle.try_submit(square, 3);
        assert!(matches!(refused, Err(PutError::Closed(3))));
        let mut results = handle.imap(square, 0..).unwrap();
        let first = results.next().unwrap();
        assert!(matches!(first, Err(TaskError::PoolGone)), "{first:?}");
        assert!(results.next().is_none());
    }
}

#[test]
fn options_set_one_after_the_other_all_hold() {
    let pool = Pool::new(1).unwrap();
    let limited = pool.with_retries(3).with_timeout(Duration::from_millis(30));
    let shown = format!("{limited:?}");
    assert!(
        shown.contains("30ms") && shown.contains("retries: 3"),
        "{shown}"
    );
    let plain = format!("{:?}", pool.clone());
    assert!(
        plain.contains("timeout: None") && plain.contains("retries: 0"),
        "{plain}"
    );
}

fn forever(_: u64) -> u64 {
    loop {
        std::thread::park();
    }
}

#[test]
fn a_time_limit_can_be_set_for_some_tasks() {
    let pool = Pool::new(1).unwrap();
    let limited = pool.with_timeout(Duration::from_millis(30));
    let is_late = |error: &Error| matches!(error, Error::Task(TaskError::TimedOut));
    assert!(is_late(&limited.apply(forever, 0).unwrap_err()));
    assert!(is_late(&limited.map(forever, [0]).unwrap_err()));
    let results: Vec<_> = limited.imap(forever, [0, 1]).unwrap().collect();
    assert!(matches!(
        results[..],
        [Err(TaskError::TimedOut), Err(TaskError::TimedOut)]
    ));
}

fn die_until(directory: String, marks: u64) -> u64 {
    for n in 0..marks {
        if std::fs::create_dir(format!("{directory}/{n}")).is_ok() {
            std::process::abort();
        }
    }
    marks
}

#[test]
fn retries_can_be_set_for_some_tasks() {
    let directory = std::env::temp_dir().join(format!("procession-retries-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let name = directory.display().to_string();
    let pool = Pool::builder().workers(1).retries(1).build().unwrap();
    let retried = pool.with_retries(2);
    let done = retried.apply(die_until, (name.clone(), 2));
    // Three more marks are too many for one retry.
    let undone = pool.map(die_until, [(name, 5)]);
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(done.unwrap(), 2);
    let error = undone.unwrap_err();
    assert!(matches!(error, Error::Task(TaskError::WorkerDied { .. })));
}

struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("this executor is gone");
    }
}

#[test]
fn a_waker_that_panics_does_not_stop_the_pool() {
    let (pool, (_, stop)) = gated();
    let mut task = pool.submit(wait_for_stop, 5).unwrap();
    let waker = Waker::from(Arc::new(Panicking));
    let mut context = Context::from_waker(&waker);
    assert!(
        std::pin::Pin::new(&mut task)
            .poll(&mut context)
            .is_pending()
    );
    stop.set();
    assert_eq!(pool.apply(square, 6).unwrap(), 36);
    assert_eq!(task.join().unwrap(), 5);
}

/// Owns the task that it wakes.
#[derive(Default)]
struct Owner(Mutex<Option<Task<u64>>>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
    }
}

#[test]
fn waking_may_let_go_of_the_task() {
    let (pool, _) = gated();
    let mut task = pool.submit(wait_for_stop, 5).unwrap();
    let owner = Arc::new(Owner::default());
    let waker = Waker::from(Arc::clone(&owner));
    let mut context = Context::from_waker(&waker);
    assert!(
        std::pin::Pin::new(&mut task)
            .poll(&mut context)
            .is_pending()
    );
    *owner.0.lock().unwrap() = Some(task);
    pool.terminate();
    assert!(owner.0.lock().unwrap().is_none());
}
