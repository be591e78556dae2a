//! Semaphores, condition variables, events and barriers between processes.

use std::collections::BTreeSet;
use std::time::Duration;

use procession::{
    Barrier, BarrierError, Condvar, Error, Event, Lock, LockError, Process, Queue, Semaphore, Value,
};

procession::test_support!();

fn give_permit(semaphore: Semaphore) {
    semaphore.release(1).unwrap();
}

#[test]
fn a_permit_released_by_one_process_is_taken_by_another() {
    let semaphore = Semaphore::new(0).unwrap();
    assert!(semaphore.try_acquire().is_none());
    assert!(
        semaphore
            .acquire_timeout(Duration::from_millis(1))
            .is_none()
    );
    let process = Process::spawn(give_permit, semaphore.clone()).unwrap();
    semaphore.acquire().forget();
    process.join().unwrap();
    assert_eq!(semaphore.available(), 0);
}

#[test]
fn a_permit_comes_back_when_it_is_dropped() {
    let semaphore = Semaphore::bounded(2).unwrap();
    let permits = [semaphore.acquire(), semaphore.acquire()];
    assert_eq!(semaphore.available(), 0);
    drop(permits);
    assert_eq!(semaphore.available(), 2);
    assert!(semaphore.release(1).is_err());
}

fn raise(lock: Lock, raised: Condvar, value: Value<u32>) {
    for _ in 0..10 {
        let _turn = lock.lock().unwrap();
        value.update(|n| n + 1).unwrap();
        raised.notify_all();
    }
}

#[test]
fn a_condition_variable_wakes_who_waits_for_a_change() {
    let (lock, raised) = (Lock::new().unwrap(), Condvar::new().unwrap());
    let value = Value::new(0).unwrap();
    let turn = lock.lock().unwrap();
    let args = (lock.clone(), raised.clone(), value.clone());
    let process = Process::spawn(raise, args).unwrap();
    let turn = raised
        .wait_while(turn, |()| value.get().unwrap() < 10)
        .unwrap();
    drop(turn);
    process.join().unwrap();
}

#[test]
fn waiting_for_a_condition_can_be_limited() {
    let (lock, never) = (Lock::new().unwrap(), Condvar::new().unwrap());
    let turn = lock.lock().unwrap();
    let (turn, notified) = never.wait_timeout(turn, Duration::from_millis(1)).unwrap();
    assert!(!notified);
    let brief = Duration::from_millis(1);
    let (turn, changed) = never.wait_while_timeout(turn, brief, |()| true).unwrap();
    assert!(!changed);
    assert!(lock.is_held());
    drop(turn);
}

fn set_and_wait(first: Event, second: Event) {
    first.set();
    second.wait();
}

#[test]
fn an_event_is_seen_in_both_directions() {
    let (first, second) = (Event::new().unwrap(), Event::new().unwrap());
    assert!(!first.is_set());
    assert!(!first.wait_timeout(Duration::from_millis(1)));
    let process = Process::spawn(set_and_wait, (first.clone(), second.clone())).unwrap();
    first.wait();
    second.set();
    process.join().unwrap();
    first.clear();
    assert!(!first.is_set());
}

fn meet(barrier: Barrier, places: Queue<(u32, bool)>) {
    for _ in 0..3 {
        let passed = barrier.wait().unwrap();
        places.put((passed.index(), passed.is_leader())).unwrap();
        barrier.wait().unwrap();
    }
}

#[test]
fn a_barrier_opens_when_all_have_arrived_again_and_again() {
    let (barrier, places) = (Barrier::new(3).unwrap(), Queue::new().unwrap());
    let parties: Vec<_> = (0..3)
        .map(|_| Process::spawn(meet, (barrier.clone(), places.clone())).unwrap())
        .collect();
    for _ in 0..3 {
        let round: Vec<(u32, bool)> = (0..3).map(|_| places.get().unwrap()).collect();
        let indexes: BTreeSet<u32> = round.iter().map(|place| place.0).collect();
        assert_eq!(indexes, BTreeSet::from([0, 1, 2]));
        assert_eq!(round.iter().filter(|place| place.1).count(), 1);
    }
    for party in parties {
        party.join().unwrap();
    }
}

#[test]
fn a_barrier_that_one_gives_up_on_is_broken_until_it_is_reset() {
    let barrier = Barrier::new(2).unwrap();
    assert_eq!(barrier.parties(), 2);
    assert_eq!(
        barrier.wait_timeout(Duration::from_millis(1)),
        Err(BarrierError)
    );
    assert!(barrier.is_broken());
    assert_eq!(barrier.wait(), Err(BarrierError));
    barrier.reset();
    assert!(!barrier.is_broken());
    assert_eq!(barrier.waiting(), 0);
}

fn wait_at(barrier: Barrier) -> bool {
    barrier.wait().is_err()
}

#[test]
fn aborting_a_barrier_frees_who_waits() {
    let barrier = Barrier::new(2).unwrap();
    let process = Process::spawn(wait_at, barrier.clone()).unwrap();
    while barrier.waiting() == 0 {
        std::thread::yield_now();
    }
    barrier.abort();
    assert!(process.join().unwrap());
}

fn wait_once(lock: Lock, raised: Condvar, waiting: Value<u32>) {
    let turn = lock.lock().unwrap();
    waiting.set(waiting.get().unwrap() + 1).unwrap();
    let turn = raised.wait(turn).unwrap();
    waiting.set(waiting.get().unwrap() - 1).unwrap();
    drop(turn);
}

#[test]
fn a_crowd_that_is_notified_at_once_takes_the_lock_in_turn() {
    let (lock, raised) = (Lock::new().unwrap(), Condvar::new().unwrap());
    let waiting = Value::new(0).unwrap();
    let crowd: Vec<_> = (0..8)
        .map(|_| {
            let arguments = (lock.clone(), raised.clone(), waiting.clone());
            Process::spawn(wait_once, arguments).unwrap()
        })
        .collect();
    loop {
        let turn = lock.lock().unwrap();
        if waiting.get().unwrap() == 8 {
            raised.notify_all();
            break;
        }
        drop(turn);
        std::thread::yield_now();
    }
    for process in crowd {
        process.join().unwrap();
    }
    assert_eq!(waiting.get().unwrap(), 0);
}

/// Whether it was notified; `None` when the lock's holder died.
fn wait_for_news(lock: Lock, raised: Condvar, waiting: Value<u32>) -> Option<bool> {
    let turn = lock.lock().unwrap();
    waiting.update(|n| n + 1).unwrap();
    match raised.wait_timeout(turn, Duration::from_secs(30)) {
        Ok((_, notified)) => Some(notified),
        Err(Error::Lock(LockError::OwnerDied)) => None,
        Err(error) => panic!("{error}"),
    }
}

fn notify_one_and_die(lock: Lock, raised: Condvar) {
    let _turn = lock.lock().unwrap();
    raised.notify_one();
    std::process::abort();
}

#[test]
fn a_notification_that_an_error_keeps_from_its_waiter_goes_to_the_next() {
    let (lock, raised) = (Lock::new().unwrap(), Condvar::new().unwrap());
    let waiting = Value::new(0).unwrap();
    let waiters = [(); 2].map(|()| {
        let arguments = (lock.clone(), raised.clone(), waiting.clone());
        Process::spawn(wait_for_news, arguments).unwrap()
    });
    while waiting.get().unwrap() < 2 {
        std::thread::yield_now();
    }
    let notifier = Process::spawn(notify_one_and_die, (lock.clone(), raised.clone())).unwrap();
    assert!(notifier.join().is_err());
    let mut outcomes = waiters.map(|waiter| waiter.join().unwrap());
    outcomes.sort_unstable();
    assert_eq!(outcomes, [None, Some(true)]);
}
