//! Condition as its users see it.

mod common;

use common::{Child, Slate, die, isolated, promptly};
use procession_engine::Deadline;
use procession_engine::error::WaitError;
use procession_engine::sync::{Condition, Lock};

const ENROLLED: usize = 0;
const WOKEN: usize = 1;

fn wait(
    lock: &Lock,
    condition: &Condition,
    slate: Slate,
    deadline: Deadline,
) -> Result<(), WaitError> {
    lock.acquire(Deadline::NEVER).unwrap();
    let ticket = condition.enroll().unwrap();
    slate.count(ENROLLED);
    lock.release().unwrap();
    condition.sleep(&ticket, deadline)?;
    slate.count(WOKEN);
    Ok(())
}

#[test]
fn as_many_are_woken_as_were_asked_for() {
    isolated(|| {
        let slate = Slate::new();
        let (lock, condition) = (Lock::new().unwrap(), Condition::new().unwrap());
        let sleep = || wait(&lock, &condition, slate, Deadline::NEVER).unwrap();
        let sleepers = [Child::fork(sleep), Child::fork(sleep), Child::fork(sleep)];
        slate.until(ENROLLED, 3);
        assert_eq!(condition.waiters(), 3);
        assert_eq!(condition.notify(2), 2);
        slate.until(WOKEN, 2);
        assert_eq!(condition.waiters(), 1);
        assert_eq!(slate.read(WOKEN), 2);
        assert_eq!(condition.notify(5), 1);
        sleepers.iter().for_each(Child::succeed);
        assert_eq!(condition.notify(1), 0, "nobody waits");
    });
}

#[test]
fn notifying_before_anybody_waits_is_lost() {
    isolated(|| {
        let slate = Slate::new();
        let (lock, condition) = (Lock::new().unwrap(), Condition::new().unwrap());
        assert_eq!(condition.notify(1), 0);
        let waited = wait(&lock, &condition, slate, common::briefly());
        assert_eq!(waited, Err(WaitError::TimedOut));
        assert_eq!(condition.waiters(), 0, "who timed out waits no more");
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
        let slate = Slate::new();
        let (lock, condition) = (Lock::new().unwrap(), Condition::new().unwrap());
        let dead = Child::fork(|| {
            std::mem::forget(condition.enroll().unwrap());
            die();
        });
        dead.join();
        assert_eq!(condition.waiters(), 0);
        let sleeper = Child::fork(|| wait(&lock, &condition, slate, promptly()).unwrap());
        slate.until(ENROLLED, 1);
        assert_eq!(condition.notify(1), 1);
        sleeper.succeed();
    });
}
