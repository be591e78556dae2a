//! A process that is stopped in the middle holds up only its own message.

use crate::case::FREE_CELLS;
use crate::common::{Child, End, SharedCells, isolated, promptly};
use crate::sleepers::act_after;
use procession_engine::Deadline;
use procession_engine::channel::Queue;
use procession_engine::failpoint::{self, Action};
use procession_engine::sync::{Barrier, BarrierError, Event, Lock, Semaphore};
use std::time::Duration;

const OVER: usize = FREE_CELLS;

/// Makes children fall asleep, and then makes another one stop at a step of `act`, which should wake them. `again`
/// must still reach all of them.
fn stopped_acting(step: &'static str, act: impl Fn(), again: impl Fn(), sleeping: &[&dyn Fn()]) {
    let act = || {
        failpoint::arm(step, 1, Action::Stop);
        act();
    };
    let (stopped, children) = act_after(SharedCells::new(), act, sleeping);
    assert_eq!(stopped.ended_or_stopped(), End::Stopped(libc::SIGSTOP));
    again();
    children.iter().for_each(Child::succeed);
    resume_to_end(&stopped);
}

fn resume_to_end(stopped: &Child) {
    stopped.resume();
    stopped.succeed();
}

/// Makes two children fall asleep in `sleep`. The first one is stopped as `act` wakes it. The next `act` must wake the
/// other one.
fn stopped_waking_up(act: impl Fn(), sleep: impl Fn()) {
    let stop = || {
        // The first visit is the end of a nap.
        failpoint::arm("wait.ended", 2, Action::Stop);
        sleep();
    };
    let cells = SharedCells::new();
    // If this process ended, all sleepers would look around.
    let act_and_stay = || {
        act();
        cells.until(OVER, 1);
    };
    let (acting, children) = act_after(cells, act_and_stay, &[&stop, &sleep]);
    assert_eq!(children[0].ended_or_stopped(), End::Stopped(libc::SIGSTOP));
    act();
    children[1].succeed();
    resume_to_end(&children[0]);
    cells.write(OVER, 1);
    acting.succeed();
}

#[test]
fn a_message_comes_though_the_sender_of_another_is_stopped_before_it_wakes_anybody() {
    isolated(|| {
        let queue = Queue::new(0).expect("a queue");
        let receive = || drop(queue.get(Deadline::NEVER).expect("a message"));
        let put = || queue.put(&[b"one"], Deadline::NOW).expect("there is room");
        stopped_acting("sync.called", put, put, &[&receive, &receive]);
    });
}

#[test]
fn a_message_comes_though_another_receiver_is_stopped_as_it_is_woken() {
    isolated(|| {
        let queue = Queue::new(0).expect("a queue");
        let receive = || drop(queue.get(Deadline::NEVER).expect("a message"));
        let put = || queue.put(&[b"one"], Deadline::NOW).expect("there is room");
        stopped_waking_up(put, receive);
    });
}

#[test]
fn there_is_room_for_a_message_though_another_sender_is_stopped_as_it_is_woken() {
    isolated(|| {
        let queue = Queue::new(2).expect("a queue");
        let put = || {
            queue
                .put(&[b"one"], Deadline::NEVER)
                .expect("there is room")
        };
        (0..2).for_each(|_| put());
        let get = || drop(queue.get(promptly()).expect("a message"));
        stopped_waking_up(get, put);
    });
}

#[test]
fn a_unit_comes_though_the_giver_of_another_is_stopped_before_it_wakes_anybody() {
    isolated(|| {
        let semaphore = Semaphore::new(0, None).expect("a semaphore");
        let take = || semaphore.acquire(Deadline::NEVER).expect("a unit");
        let give = || semaphore.release(1).expect("there is no limit");
        stopped_acting("semaphore.given", give, give, &[&take, &take]);
    });
}

#[test]
fn a_unit_comes_though_the_taker_of_another_is_stopped_as_it_is_woken() {
    isolated(|| {
        let semaphore = Semaphore::new(0, None).expect("a semaphore");
        let take = || semaphore.acquire(Deadline::NEVER).expect("a unit");
        let give = || semaphore.release(1).expect("there is no limit");
        stopped_waking_up(give, take);
    });
}

#[test]
fn an_event_lets_all_go_that_is_set_by_one_and_by_another_that_is_stopped_over_it() {
    for is_cleared in [false, true] {
        isolated(|| {
            let event = Event::new().expect("an event");
            let wait = || event.wait(Deadline::NEVER).expect("it is set");
            let again = || {
                if is_cleared {
                    event.clear();
                }
                event.set();
            };
            stopped_acting("event.set", || event.set(), again, &[&wait, &wait]);
        });
    }
}

#[test]
fn a_barrier_turns_all_away_that_is_broken_by_one_and_by_another_that_is_stopped_over_it() {
    isolated(|| {
        let barrier = Barrier::new(3).expect("a barrier");
        let arrive = || {
            let arrived = barrier.arrive(Deadline::NEVER);
            assert_eq!(arrived.err(), Some(BarrierError::Broken));
        };
        let abort = || barrier.abort();
        stopped_acting("barrier.broken", abort, abort, &[&arrive, &arrive]);
    });
}

/// What no other process can report is found by looking around.
fn look_around_soon() {
    failpoint::sleep_at_most(Duration::from_secs(1));
}

#[test]
fn a_free_lock_is_found_though_the_one_that_freed_it_is_stopped_before_it_wakes_anybody() {
    isolated(|| {
        look_around_soon();
        let lock = Lock::new().expect("a lock");
        lock.acquire(Deadline::NOW).expect("it is new");
        let take = || {
            lock.acquire(Deadline::NEVER).expect("it is freed");
            lock.release().expect("it is held");
        };
        let free = || lock.release().expect("it is held");
        stopped_acting("lock.freed", free, || (), &[&take, &take]);
    });
}

#[test]
fn the_message_of_a_dead_sender_is_found_though_the_one_that_was_told_of_the_death_is_stopped() {
    isolated(|| {
        look_around_soon();
        let silent = Queue::new(0).expect("a queue");
        let queue = Queue::new(0).expect("a queue");
        let stop = || {
            failpoint::arm("death_watch.found", 1, Action::Stop);
            let _ = silent.get(Deadline::NEVER);
        };
        let receive = || drop(queue.get(Deadline::NEVER).expect("a message"));
        let put_and_die = || {
            failpoint::arm("queue.ready", 1, Action::Kill);
            let _ = queue.put(&[b"one"], Deadline::NOW);
        };
        let (_sender, children) = act_after(SharedCells::new(), put_and_die, &[&stop, &receive]);
        assert_eq!(children[0].ended_or_stopped(), End::Stopped(libc::SIGSTOP));
        children[1].succeed();
        children[0].kill();
    });
}
