//! Locks between processes.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use procession::{Event, Lock, LockError, Process, RLock};

procession::test_support!();

fn hold(lock: Lock, held: Event, leave: Event) {
    let _turn = lock.lock().unwrap();
    held.set();
    leave.wait();
}

#[test]
fn a_lock_is_held_by_one_process_at_a_time() {
    let (lock, held, leave) = (
        Lock::new().unwrap(),
        Event::new().unwrap(),
        Event::new().unwrap(),
    );
    let process = Process::spawn(hold, (lock.clone(), held.clone(), leave.clone())).unwrap();
    held.wait();
    assert!(lock.is_held());
    assert_eq!(lock.try_lock().unwrap_err(), LockError::TimedOut);
    let late = lock.lock_timeout(Duration::from_millis(1));
    assert_eq!(late.unwrap_err(), LockError::TimedOut);
    leave.set();
    drop(lock.lock().unwrap());
    process.join().unwrap();
    assert!(!lock.is_held());
}

fn die_holding(lock: Lock) {
    let _turn = lock.lock().unwrap();
    std::process::abort();
}

#[test]
fn the_death_of_the_holder_is_reported_once() {
    let lock = Lock::new().unwrap();
    Process::spawn(die_holding, lock.clone())
        .unwrap()
        .join()
        .unwrap_err();
    assert_eq!(lock.lock().unwrap_err(), LockError::OwnerDied);
    drop(lock.lock().unwrap());
}

fn exec_holding(lock: Lock) {
    let _turn = lock.lock().unwrap();
    let error = std::process::Command::new("/bin/true").exec();
    panic!("{error}");
}

#[test]
fn the_holder_is_dead_when_another_program_took_its_place_and_was_joined() {
    // Children of a test executable run in a thread that is not their main thread.
    let lock = Lock::new().unwrap();
    let process = Process::spawn(exec_holding, lock.clone()).unwrap();
    process.join().unwrap_err();
    assert_eq!(lock.lock().unwrap_err(), LockError::OwnerDied);
    drop(lock.lock().unwrap());
}

fn hold_and_die(lock: Lock, held: Event, die: Event) {
    let _turn = lock.lock().unwrap();
    held.set();
    die.wait();
    std::process::abort();
}

#[test]
fn who_waits_is_woken_by_the_death_of_the_holder() {
    let (lock, held, die) = (
        Lock::new().unwrap(),
        Event::new().unwrap(),
        Event::new().unwrap(),
    );
    let process = Process::spawn(hold_and_die, (lock.clone(), held.clone(), die.clone())).unwrap();
    held.wait();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lock.lock().map(drop));
        die.set();
        assert_eq!(waiter.join().unwrap(), Err(LockError::OwnerDied));
    });
    process.join().unwrap_err();
}

#[test]
fn a_recursive_lock_may_be_locked_again_by_its_holder() {
    let lock = RLock::new().unwrap();
    let once = lock.lock().unwrap();
    let twice = lock.try_lock().unwrap();
    assert_eq!(lock.count(), 2);
    drop(once);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| lock.try_lock().map(drop));
        assert_eq!(other.join().unwrap(), Err(LockError::TimedOut));
    });
    drop(twice);
    assert_eq!(lock.count(), 0);
}

fn hold_recursively_and_die(lock: RLock) {
    let _once = lock.lock().unwrap();
    let _twice = lock.lock().unwrap();
    std::process::abort();
}

#[test]
fn the_death_of_a_recursive_holder_is_reported_once() {
    let lock = RLock::new().unwrap();
    Process::spawn(hold_recursively_and_die, lock.clone())
        .unwrap()
        .join()
        .unwrap_err();
    assert_eq!(lock.lock().unwrap_err(), LockError::OwnerDied);
    assert_eq!(lock.lock().map(drop), Ok(()));
}
