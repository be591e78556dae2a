//! The event count: no waiter sleeps while something is left, even if publishers and woken waiters
//! are stopped.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::Futex;
use crate::eventcount::EventCount;

struct Place {
    events: EventCount,
    futex: Futex,
    items: AtomicU32,
}

impl Place {
    fn new() -> Arc<Place> {
        Arc::new(Place {
            events: EventCount::new(),
            futex: Futex::new(),
            items: AtomicU32::new(0),
        })
    }

    fn publish(&self) {
        self.publish_with(|| self.futex.wake_one());
    }

    fn publish_with(&self, wake: impl FnOnce() -> usize) {
        self.items.fetch_add(1, Ordering::SeqCst);
        if self.events.is_awaited() {
            self.events.call(|_| wake());
        }
    }

    /// Publishes, and is stopped before it wakes anybody.
    fn publish_and_stop(&self) {
        // It reports one woken sleeper, so it does nothing more.
        self.publish_with(|| 1);
    }

    fn take(&self) -> bool {
        let one_less = |items: u32| items.checked_sub(1);
        self.items
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok()
    }

    /// Waits once, unless there is something to take. Returns whether there was.
    fn take_or_wait(&self) -> bool {
        let key = self.events.announce();
        let taken = self.take();
        if !taken {
            let word = self.events.word();
            self.futex.wait(|| word.load(Ordering::SeqCst) == key);
        }
        taken
    }

    fn consume(&self) {
        while !self.take_or_wait() {}
        // As in `EventCount::woke`.
        if self.events.is_awaited() && self.items.load(Ordering::SeqCst) > 0 {
            self.events.call(|_| self.futex.wake_one());
        }
    }
}

fn checked(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn consuming(place: &Arc<Place>) -> thread::JoinHandle<()> {
    let place = place.clone();
    thread::spawn(move || place.consume())
}

#[test]
fn no_wake_up_is_lost_between_a_publisher_and_a_sleeper() {
    loom::model(|| {
        let place = Place::new();
        let consumer = consuming(&place);
        place.publish();
        consumer.join().unwrap();
    });
}

#[test]
fn nobody_sleeps_while_something_is_left() {
    checked(2, || {
        let place = Place::new();
        let consumers = [(); 2].map(|()| consuming(&place));
        place.publish();
        place.publish();
        for consumer in consumers {
            consumer.join().unwrap();
        }
    });
}

#[test]
fn nobody_sleeps_while_something_is_left_of_two_publishers() {
    checked(2, || {
        let place = Place::new();
        let publisher = {
            let place = place.clone();
            thread::spawn(move || place.publish())
        };
        let consumer = consuming(&place);
        place.publish();
        place.consume();
        publisher.join().unwrap();
        consumer.join().unwrap();
    });
}

#[test]
fn a_publisher_that_is_stopped_before_it_wakes_anybody_holds_up_its_own_item() {
    checked(2, || {
        let place = Place::new();
        let stopped = {
            let place = place.clone();
            thread::spawn(move || place.publish_and_stop())
        };
        let consumer = consuming(&place);
        place.publish();
        consumer.join().unwrap();
        stopped.join().unwrap();
    });
}

#[test]
fn a_consumer_that_is_stopped_as_it_is_woken_holds_up_nobody() {
    checked(2, || {
        let place = Place::new();
        let stopped = {
            let place = place.clone();
            thread::spawn(move || {
                if place.take_or_wait() {
                    // It did not sleep, so what it took is not the other consumer's.
                    place.publish();
                }
            })
        };
        let consumer = consuming(&place);
        place.publish();
        place.publish();
        consumer.join().unwrap();
        // If it still sleeps, nothing else will come.
        place.futex.wake_one();
        stopped.join().unwrap();
    });
}
