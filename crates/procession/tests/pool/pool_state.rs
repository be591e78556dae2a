//! The state that pool workers keep between tasks.

use std::cell::Cell;
use std::rc::Rc;

use procession::{Error, Event, Pool, TaskError, Value};

procession::test_support!();

/// Neither serialisable nor `Send`.
struct CallCounter {
    calls: Rc<Cell<u64>>,
    dropped: Value<u64>,
}

impl Drop for CallCounter {
    fn drop(&mut self) {
        self.dropped.update(|n| n + 1).unwrap();
    }
}

fn open(made: Value<u64>, dropped: Value<u64>) -> CallCounter {
    made.update(|n| n + 1).unwrap();
    let calls = Rc::default();
    CallCounter { calls, dropped }
}

fn call(counter: &mut CallCounter) -> u64 {
    counter.calls.set(counter.calls.get() + 1);
    counter.calls.get()
}

fn call_for(counter: &mut CallCounter, n: u64) -> (u64, u64) {
    (call(counter), n)
}

fn call_for_sum(counter: &mut CallCounter, a: u64, b: u64) -> (u64, u64) {
    (call(counter), a + b)
}

fn square(n: u64) -> u64 {
    n * n
}

struct Counts {
    made: Value<u64>,
    dropped: Value<u64>,
}

impl Counts {
    fn new() -> Counts {
        Counts {
            made: Value::new(0).unwrap(),
            dropped: Value::new(0).unwrap(),
        }
    }

    fn pool(&self, workers: usize) -> Pool<CallCounter> {
        Pool::builder()
            .workers(workers)
            .state(open, (self.made.clone(), self.dropped.clone()))
            .build()
            .unwrap()
    }

    fn get(&self) -> (u64, u64) {
        (self.made.get().unwrap(), self.dropped.get().unwrap())
    }
}

#[test]
fn tasks_find_what_the_last_one_left() {
    let counts = Counts::new();
    let pool = counts.pool(1);
    assert_eq!(pool.apply(call, ()).unwrap(), 1);
    assert_eq!(
        pool.map(call_for, [7, 8, 9]).unwrap(),
        [(2, 7), (3, 8), (4, 9)]
    );
    assert_eq!(pool.apply(call_for_sum, (1, 2)).unwrap(), (5, 3));
    let found: Vec<_> = pool.imap(call_for, [1]).unwrap().collect();
    assert!(matches!(found[..], [Ok((6, 1))]), "{found:?}");
}

#[test]
fn functions_without_a_state_run_as_well() {
    let pool = Counts::new().pool(2);
    assert_eq!(pool.map(square, 0..5).unwrap(), [0, 1, 4, 9, 16]);
}

#[test]
fn each_worker_makes_one_state_and_drops_it_when_the_pool_ends() {
    let counts = Counts::new();
    let pool = counts.pool(3);
    pool.map_chunked(call_for, 0..50, 1).unwrap();
    pool.join();
    assert_eq!(counts.get(), (3, 3));
}

#[test]
fn a_worker_that_is_replaced_in_order_drops_its_state() {
    let counts = Counts::new();
    let pool = Pool::builder()
        .workers(1)
        .max_tasks(2)
        .state(open, (counts.made.clone(), counts.dropped.clone()))
        .build()
        .unwrap();
    let calls: Vec<u64> = (0..6).map(|_| pool.apply(call, ()).unwrap()).collect();
    assert_eq!(calls, [1, 2, 1, 2, 1, 2]);
    pool.join();
    let (made, dropped) = counts.get();
    assert!(made >= 3);
    assert_eq!(made, dropped);
}

fn call_and_panic(counter: &mut CallCounter, n: u64) -> (u64, u64) {
    let call = call(counter);
    assert_ne!(n, 3, "three is not allowed");
    (call, n)
}

#[test]
fn a_panic_costs_the_state_that_the_task_had() {
    let counts = Counts::new();
    let pool = counts.pool(1);
    let error = pool.map_chunked(call_and_panic, 1..6, 5).unwrap_err();
    assert!(
        error.to_string().contains("three is not allowed"),
        "{error}"
    );
    assert_eq!(counts.get(), (2, 1));
    // The rest of the chunk used the new state.
    assert_eq!(pool.apply(call, ()).unwrap(), 3);
}

fn panic_without(_: u64) {
    panic!("nothing to do with the state");
}

#[test]
fn a_panic_of_a_task_without_the_state_costs_nothing() {
    let counts = Counts::new();
    let pool = counts.pool(1);
    assert_eq!(pool.apply(call, ()).unwrap(), 1);
    pool.apply(panic_without, 1).unwrap_err();
    assert_eq!(pool.apply(call, ()).unwrap(), 2);
    assert_eq!(counts.get(), (1, 0));
}

fn fail(why: String) -> CallCounter {
    panic!("{why}");
}

#[test]
fn a_state_that_cannot_be_made_fails_the_tasks_with_its_panic() {
    let pool = Pool::builder()
        .workers(2)
        .state(fail, "no database".to_owned())
        .build()
        .unwrap();
    match pool.apply(call, ()).unwrap_err() {
        Error::Task(TaskError::NoWorkers(why)) => assert!(why.contains("no database"), "{why}"),
        other => panic!("{other}"),
    }
}

fn connect(is_down: Event) -> u32 {
    assert!(!is_down.is_set(), "the database is down");
    7
}

fn query(connection: &mut u32, fails: bool) -> u32 {
    assert!(!fails, "the connection was lost");
    *connection
}

#[test]
fn a_state_that_cannot_be_made_again_is_tried_for_by_the_next_task() {
    let is_down = Event::new().unwrap();
    let pool = Pool::builder()
        .workers(1)
        .state(connect, is_down.clone())
        .build()
        .unwrap();
    let worker = pool.worker_ids();
    assert_eq!(pool.apply(query, false).unwrap(), 7);
    is_down.set();
    assert_eq!(pool.apply(query, false).unwrap(), 7);
    for expected in ["connection was lost", "database is down"] {
        match pool.apply(query, true).unwrap_err() {
            Error::Task(TaskError::Panicked(panic)) => {
                assert!(panic.message.contains(expected), "{panic}");
                assert!(panic.location.is_some());
            }
            other => panic!("{other}"),
        }
    }
    is_down.clear();
    assert_eq!(pool.apply(query, false).unwrap(), 7);
    assert_eq!(pool.worker_ids(), worker);
}
