//! Single values shared by several processes.

use procession::{LockError, Process, Value};

procession::test_support!();

fn increment(value: Value<i32>) {
    value.update(|n| n + 1).unwrap();
}

#[test]
fn a_change_in_a_child_is_seen_by_the_parent() {
    let value = Value::new(10).unwrap();
    Process::spawn(increment, value.clone())
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(value.get().unwrap(), 11);
    value.set(-3).unwrap();
    assert_eq!(value.get().unwrap(), -3);
}

fn increment_often(value: Value<u64>) {
    for _ in 0..2000 {
        value.update(|n| n + 1).unwrap();
    }
}

#[test]
fn no_update_is_lost() {
    let value = Value::new(0).unwrap();
    let processes: Vec<_> = (0..3)
        .map(|_| Process::spawn(increment_often, value.clone()).unwrap())
        .collect();
    for process in processes {
        process.join().unwrap();
    }
    assert_eq!(value.get().unwrap(), 6000);
}

#[test]
fn numbers_booleans_and_arrays_of_them_can_be_shared() {
    assert_eq!(Value::new(1.5f64).unwrap().get().unwrap(), 1.5);
    assert!(Value::new(true).unwrap().get().unwrap());
    assert_eq!(Value::new(u128::MAX).unwrap().get().unwrap(), u128::MAX);
    let grid = [[1u16, 2], [3, 4]];
    assert_eq!(Value::new(grid).unwrap().get().unwrap(), grid);
    assert_eq!(Value::new([9u64; 100]).unwrap().get().unwrap(), [9; 100]);
}

#[test]
fn the_holder_of_the_lock_may_use_the_value_itself() {
    let value = Value::new(1).unwrap();
    let mut guard = value.lock().unwrap();
    guard.set(2);
    assert_eq!(value.get().unwrap(), 2);
    assert_eq!(guard.update(|n| n * 10), 20);
}

#[test]
fn a_value_that_another_thread_holds_is_not_waited_for() {
    let value = Value::new((1u8, 2.5f32)).unwrap();
    let guard = value.try_lock().unwrap();
    let other = value.clone();
    let refused = std::thread::spawn(move || other.try_lock().map(|guard| guard.get()));
    assert_eq!(refused.join().unwrap(), Err(LockError::TimedOut));
    drop(guard);
    assert_eq!(value.try_lock().unwrap().get(), (1, 2.5));
}

fn die_holding(value: Value<i32>) {
    let mut guard = value.lock().unwrap();
    guard.set(99);
    std::process::abort();
}

#[test]
fn the_death_of_the_holder_is_reported_once() {
    let value = Value::new(1).unwrap();
    Process::spawn(die_holding, value.clone())
        .unwrap()
        .join()
        .unwrap_err();
    assert_eq!(value.get(), Err(LockError::OwnerDied));
    assert_eq!(value.get(), Ok(99));
}
