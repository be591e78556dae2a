//! Semaphore as its users see it.

mod common;

use common::{Child, SharedCells, die, isolated, promptly};
use procession_engine::Deadline;
use procession_engine::error::WaitError;
use procession_engine::sync::Semaphore;

#[test]
fn no_more_than_its_units_are_out() {
    isolated(|| {
        let cells = SharedCells::new();
        let semaphore = Semaphore::new(2, None).unwrap();
        let work = || {
            for _ in 0..1_000 {
                semaphore.acquire(Deadline::NEVER).unwrap();
                assert!(cells.count(0) < 2, "more than two are inside");
                cells.uncount(0);
                semaphore.release(1).unwrap();
            }
        };
        let others = [Child::fork(work), Child::fork(work), Child::fork(work)];
        others.iter().for_each(Child::succeed);
        assert_eq!(semaphore.value(), 2);
    });
}

#[test]
fn units_given_wake_sleepers() {
    isolated(|| {
        let semaphore = Semaphore::new(0, None).unwrap();
        let sleep = || semaphore.acquire(Deadline::NEVER).unwrap();
        let sleepers = [Child::fork(sleep), Child::fork(sleep), Child::fork(sleep)];
        semaphore.release(1).unwrap();
        semaphore.release(2).unwrap();
        sleepers.iter().for_each(Child::succeed);
        assert_eq!(semaphore.value(), 0);
    });
}

#[test]
fn an_empty_one_times_out() {
    isolated(|| {
        let semaphore = Semaphore::new(1, None).unwrap();
        semaphore.acquire(Deadline::NOW).unwrap();
        assert_eq!(semaphore.acquire(Deadline::NOW), Err(WaitError::TimedOut));
        assert_eq!(
            semaphore.acquire(common::briefly()),
            Err(WaitError::TimedOut)
        );
    });
}

#[test]
fn a_bounded_one_refuses_more_than_it_began_with() {
    isolated(|| {
        let semaphore = Semaphore::new(2, Some(2)).unwrap();
        assert!(semaphore.release(1).is_err());
        semaphore.acquire(Deadline::NOW).unwrap();
        assert!(semaphore.release(2).is_err());
        assert_eq!(semaphore.value(), 1, "a refused release gives nothing");
        semaphore.release(1).unwrap();
        assert_eq!(semaphore.value(), 2);
    });
}

#[test]
fn the_dead_keep_their_units_and_nothing_else() {
    isolated(|| {
        let semaphore = Semaphore::new(2, None).unwrap();
        let dead = Child::fork(|| {
            semaphore.acquire(Deadline::NOW).unwrap();
            die();
        });
        dead.join();
        assert_eq!(semaphore.value(), 1);
        semaphore.acquire(promptly()).unwrap();
        semaphore.release(2).unwrap();
        assert_eq!(semaphore.value(), 2);
    });
}
