//! Tasks that end before their scope.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procession::{Pool, TaskError};
use serde::{Deserialize, Serialize};

mod gate;

use gate::{begun, report, wait_for_stop};

procession::test_support!();

fn gated() -> (Pool, gate::Gate) {
    gate::gated(Pool::builder().workers(1))
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Table {
    rows: BTreeMap<String, Vec<u64>>,
}

fn row_sum(table: Table, row: String) -> Option<u64> {
    Some(table.rows.get(&row)?.iter().sum())
}

fn longest(words: Vec<String>, least: Option<usize>, skip: char) -> Option<String> {
    let fits = |word: &&String| !word.contains(skip) && word.len() >= least.unwrap_or(0);
    words
        .iter()
        .filter(fits)
        .max_by_key(|word| word.len())
        .cloned()
}

fn name(path: PathBuf) -> String {
    path.file_name().unwrap().display().to_string()
}

#[test]
fn arguments_may_be_borrowed() {
    let pool = Pool::new(2).unwrap();
    let rows = [("a".to_owned(), vec![1, 2]), ("b".to_owned(), vec![3])].into();
    let table = Table { rows };
    let words = ["walk".to_owned(), "procession".to_owned()];
    let path = Path::new("/somewhere/else");
    pool.scope(|scope| {
        let a = scope.submit(row_sum, (&table, "a")).unwrap();
        let b = scope.submit(row_sum, (&table, "b".to_owned())).unwrap();
        let long = scope.submit(longest, (&words[..], &None, 'k')).unwrap();
        let least = scope.submit(longest, (&words[..], Some(20), '-')).unwrap();
        let name = scope.submit(name, path).unwrap();
        assert_eq!(a.join().unwrap(), Some(3));
        assert_eq!(b.join().unwrap(), Some(3));
        assert_eq!(long.join().unwrap().as_deref(), Some("procession"));
        assert_eq!(least.join().unwrap(), None);
        assert_eq!(name.join().unwrap(), "else");
    });
    assert_eq!(table.rows.len(), 2);
}

fn look_up(table: &mut Table, row: String) -> u64 {
    table.rows[&row].iter().sum()
}

fn make(rows: BTreeMap<String, Vec<u64>>) -> Table {
    Table { rows }
}

#[test]
fn a_state_and_borrowed_arguments_go_together() {
    let rows = BTreeMap::from([("a".to_owned(), vec![1, 2])]);
    let pool = Pool::builder()
        .workers(1)
        .state(make, rows)
        .build()
        .unwrap();
    let row = String::from("a");
    let sum = pool.scope(|scope| scope.submit(look_up, row.as_str()).unwrap().join());
    assert_eq!(sum.unwrap(), 3);
}

#[test]
fn a_scope_waits_for_tasks_that_nobody_joins() {
    let (pool, gate) = gated();
    pool.scope(|scope| {
        for n in 1..4 {
            scope.submit(report, n).unwrap();
        }
    });
    assert_eq!(begun(&gate), [1, 2, 3]);
}

#[test]
fn results_can_be_left_in_the_frame_around_the_scope() {
    let (pool, _) = gated();
    let (mut order, mut sum) = (Vec::new(), 0);
    {
        let order = std::cell::RefCell::new(&mut order);
        pool.scope(|scope| {
            for n in 1..5 {
                let note =
                    |result: Result<u64, TaskError>| order.borrow_mut().push(result.unwrap());
                scope.submit(report, n).unwrap().then(note);
            }
            scope
                .submit(report, 10)
                .unwrap()
                .then(|result| sum = result.unwrap());
        });
    }
    assert_eq!(order, [1, 2, 3, 4]);
    assert_eq!(sum, 10);
}

#[test]
fn a_panic_in_a_scope_cancels_its_tasks() {
    let (pool, gate) = gated();
    let outside = pool.submit(report, 100).unwrap();
    assert_eq!(outside.join().unwrap(), 100);
    gate.0.get().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        pool.scope(|scope| {
            for n in 0..5 {
                scope.submit(wait_for_stop, n).unwrap();
            }
            assert_eq!(gate.0.get().unwrap(), 0);
            panic!("enough");
        });
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"enough"));
    // The event was never set, and the others never started.
    assert_eq!(pool.apply(report, 7).unwrap(), 7);
    assert_eq!(gate.0.get().unwrap(), 7);
}

#[test]
fn a_panic_over_a_result_cancels_the_tasks_that_are_left() {
    let (pool, gate) = gated();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        pool.scope(|scope| {
            scope
                .submit(report, 1)
                .unwrap()
                .then(|_| panic!("of no use"));
            scope.submit(wait_for_stop, 2).unwrap();
        });
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"of no use"));
    assert_eq!(pool.apply(report, 7).unwrap(), 7);
    drop(gate);
}

#[test]
fn a_scoped_task_can_be_looked_at_and_cancelled() {
    let (pool, (begun, stop)) = gated();
    pool.scope(|scope| {
        let mut first = scope.submit(wait_for_stop, 1).unwrap();
        let second = scope.submit(wait_for_stop, 2).unwrap();
        assert!(!first.is_ready());
        assert!(first.try_join().unwrap().is_none());
        assert!(
            first
                .join_timeout(Duration::from_millis(1))
                .unwrap()
                .is_none()
        );
        begun.get().unwrap();
        assert!(second.cancel());
        assert!(second.is_ready());
        assert!(matches!(second.join(), Err(TaskError::Cancelled)));
        stop.set();
        let waited = first.join_timeout(Duration::from_secs(600)).unwrap();
        assert_eq!(waited, Some(1));
        assert!(!first.cancel());
        assert!(matches!(first.try_join(), Err(TaskError::Taken)));
        assert!(matches!(first.join(), Err(TaskError::Taken)));
    });
}

#[test]
fn a_scope_has_the_limits_of_its_pool() {
    let (pool, (begun, _)) = gated();
    let limited = pool.with_timeout(Duration::from_millis(30));
    let late = limited.scope(|scope| scope.submit(wait_for_stop, 1).unwrap().join());
    assert!(matches!(late, Err(TaskError::TimedOut)));
    assert_eq!(begun.get().unwrap(), 1);
}

#[test]
fn a_scope_ends_though_the_workers_of_its_pool_die() {
    let (pool, (begun, _)) = gated();
    let mut results = [const { None }; 3];
    pool.scope(|scope| {
        for (slot, n) in results.iter_mut().zip(0..) {
            let task = scope.submit(wait_for_stop, n).unwrap();
            task.then(|result| *slot = Some(result));
        }
        pool.close();
        for n in 0..3 {
            assert_eq!(begun.get().unwrap(), n);
            kill(pool.worker_ids()[0]);
        }
    });
    for result in results {
        assert!(matches!(result, Some(Err(TaskError::WorkerDied { .. }))));
    }
}

fn kill(id: u32) {
    let id = rustix::process::Pid::from_raw(id as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
}
