//! Event as its users see it.

mod common;

use common::{Child, isolated, promptly};
use procession_engine::Deadline;
use procession_engine::error::WaitError;
use procession_engine::sync::Event;

#[test]
fn setting_it_lets_all_waiters_go() {
    isolated(|| {
        let event = Event::new().unwrap();
        let wait = || event.wait(Deadline::NEVER).unwrap();
        let waiters = [Child::fork(wait), Child::fork(wait), Child::fork(wait)];
        event.set();
        waiters.iter().for_each(Child::succeed);
        assert!(event.is_set());
    });
}

#[test]
fn a_set_one_makes_nobody_wait_until_it_is_cleared() {
    isolated(|| {
        let event = Event::new().unwrap();
        assert_eq!(event.wait(Deadline::NOW), Err(WaitError::TimedOut));
        event.set();
        event.set();
        assert_eq!(event.wait(Deadline::NOW), Ok(()));
        event.clear();
        assert!(!event.is_set());
        assert_eq!(event.wait(common::briefly()), Err(WaitError::TimedOut));
    });
}

#[test]
fn one_that_is_set_and_cleared_at_once_still_lets_its_waiters_go() {
    isolated(|| {
        let event = Event::new().unwrap();
        let asleep = Event::new().unwrap();
        let waiter = Child::fork(|| {
            asleep.set();
            while event.wait(Deadline::after(common::PROMPTLY)).is_err() {}
        });
        asleep.wait(promptly()).unwrap();
        // The waiter may not sleep yet: only the sandbox's time limit bounds the number of tries.
        while !waiter.has_ended() {
            event.set();
            event.clear();
        }
        waiter.succeed();
    });
}

#[test]
fn one_that_was_set_and_cleared_between_two_parts_of_a_wait_ends_it() {
    isolated(|| {
        let event = Event::new().unwrap();
        let since = event.now();
        assert_eq!(
            event.wait_since(since, Deadline::NOW),
            Err(WaitError::TimedOut)
        );
        event.set();
        event.clear();
        assert_eq!(event.wait_since(since, Deadline::NOW), Ok(()));
        assert_eq!(event.wait(Deadline::NOW), Err(WaitError::TimedOut));
    });
}
