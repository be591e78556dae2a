//! Condition as its users see it.

mod common;

use common::{Child, SharedCells, die, isolated, promptly};
use procession_engine::Deadline;
use procession_engine::error::WaitError;
use procession_engine::sync::{Condition, Lock, Turns};

const ENROLLED: usize = 0;
const WOKEN: usize = 1;

fn wait(
    lock: &Lock,
    condition: &Condition,
    cells: SharedCells,
    deadline: Deadline,
) -> Result<(), WaitError> {
    lock.acquire(Deadline::NEVER).unwrap();
    let ticket = condition.enroll().unwrap();
    cells.count(ENROLLED);
    lock.release().unwrap();
    condition.sleep(&ticket, deadline)?;
    cells.count(WOKEN);
    Ok(())
}

#[test]
fn as_many_are_woken_as_were_asked_for() {
    isolated(|| {
        let cells = SharedCells::new();
        let (lock, condition) = (Lock::new().unwrap(), Condition::new().unwrap());
        let sleep = || wait(&lock, &condition, cells, Deadline::NEVER).unwrap();
        let sleepers = [Child::fork(sleep), Child::fork(sleep), Child::fork(sleep)];
        cells.until(ENROLLED, 3);
        assert_eq!(condition.waiters(), 3);
        assert_eq!(condition.notify(2), 2);
        cells.until(WOKEN, 2);
        assert_eq!(condition.waiters(), 1);
        assert_eq!(cells.read(WOKEN), 2);
        assert_eq!(condition.notify(5), 1);
        sleepers.iter().for_each(Child::succeed);
        assert_eq!(condition.notify(1), 0, "nobody waits");
    });
}

#[test]
fn notifying_before_anybody_waits_is_lost() {
    isolated(|| {
        let cells = SharedCells::new();
        let (lock, condition) = (Lock::new().unwrap(), Condition::new().unwrap());
        assert_eq!(condition.notify(1), 0);
        let waited = wait(&lock, &condition, cells, common::briefly());
        assert_eq!(waited, Err(WaitError::TimedOut));
        assert_eq!(
            condition.waiters(),
            0,
            "a waiter that timed out is no longer counted"
        );
    });
}

#[test]
fn a_notification_between_enrolling_and_sleeping_is_not_lost() {
    isolated(|| {
        let condition = Condition::new().unwrap();
        let ticket = condition.enroll().unwrap();
        Child::fork(|| assert_eq!(condition.notify(1), 1)).succeed();
        assert_eq!(condition.sleep(&ticket, Deadline::NOW), Ok(()));
    });
}

#[test]
fn a_killed_waiter_takes_no_notification_from_the_living() {
    isolated(|| {
        let cells = SharedCells::new();
        let (lock, condition) = (Lock::new().unwrap(), Condition::new().unwrap());
        let dead = Child::fork(|| {
            std::mem::forget(condition.enroll().unwrap());
            die();
        });
        dead.join();
        assert_eq!(condition.waiters(), 0);
        let sleeper = Child::fork(|| wait(&lock, &condition, cells, promptly()).unwrap());
        cells.until(ENROLLED, 1);
        assert_eq!(condition.notify(1), 1);
        sleeper.succeed();
    });
}

#[test]
fn waiters_that_are_notified_together_take_the_lock_in_turn() {
    isolated(|| {
        let cells = SharedCells::new();
        let (lock, condition) = (Lock::new().unwrap(), Condition::new().unwrap());
        let wait = || {
            lock.acquire(Deadline::NEVER).unwrap();
            let ticket = condition.enroll_under(&lock).unwrap();
            cells.count(ENROLLED);
            lock.release().unwrap();
            condition.sleep(&ticket, Deadline::NEVER).unwrap();
            let was_moved = ticket.was_moved();
            drop(ticket);
            lock.acquire(Deadline::NEVER).unwrap();
            if was_moved {
                lock.pass_on();
            }
            cells.count(WOKEN);
            lock.release().unwrap();
        };
        let waiters = [(); 20].map(|()| Child::fork(wait));
        cells.until(ENROLLED, 20);
        lock.acquire(Deadline::NEVER).unwrap();
        assert_eq!(condition.notify(usize::MAX), 20);
        assert_eq!(cells.read(WOKEN), 0, "the lock is held");
        lock.release().unwrap();
        waiters.iter().for_each(Child::succeed);
        assert_eq!((cells.read(WOKEN), lock.is_held()), (20, false));
    });
}

#[test]
fn any_number_can_wait_and_places_are_used_again() {
    isolated(|| {
        let condition = Condition::new().unwrap();
        let mut waiters: Vec<_> = (0..9000).map(|_| condition.enroll().unwrap()).collect();
        assert_eq!(condition.waiters(), 9000);
        assert_eq!(condition.notify(1), 1);
        assert!(waiters[0].is_notified() && !waiters[1].is_notified());
        waiters.drain(..5000);
        assert_eq!(condition.waiters(), 4000);
        let highest = waiters.pop().unwrap().into_index();
        drop(condition.ticket(highest));
        let again: Vec<_> = (0..5001).map(|_| condition.enroll().unwrap()).collect();
        let places = again
            .into_iter()
            .map(procession_engine::sync::Ticket::into_index);
        assert!(
            places.max().unwrap() <= highest,
            "free places were passed by"
        );
    });
}

#[test]
fn whoever_leaves_is_told_whether_it_was_notified() {
    isolated(|| {
        let condition = Condition::new().unwrap();
        let [first, second] = [(); 2].map(|()| condition.enroll().unwrap());
        assert_eq!(condition.notify(1), 1);
        assert_eq!((first.leave(), second.leave()), (true, false));
        assert_eq!(condition.waiters(), 0);
    });
}
