//! The event count: of two consumers of what two producers publish, none sleeps while something is left.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::Futex;
use crate::sync::eventcount::EventCount;

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
        self.items.fetch_add(1, Ordering::SeqCst);
        if self.events.is_awaited() {
            self.call();
        }
    }

    fn call(&self) {
        self.events.call();
        self.futex.wake_one();
    }

    fn take(&self) -> bool {
        let one_less = |items: u32| items.checked_sub(1);
        self.items
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok()
    }

    fn consume(&self) {
        loop {
            let key = self.events.announce();
            if self.take() {
                break;
            }
            let word = self.events.word();
            self.futex.wait(|| word.load(Ordering::SeqCst) == key);
        }
        // `EventCount::woke`.
        self.events.announce();
        if self.items.load(Ordering::SeqCst) > 0 {
            self.call();
        }
    }
}

#[test]
fn no_wake_up_is_lost_between_a_publisher_and_a_sleeper() {
    loom::model(|| {
        let place = Place::new();
        let publisher = {
            let place = place.clone();
            thread::spawn(move || place.publish())
        };
        place.consume();
        publisher.join().unwrap();
    });
}

#[test]
fn nobody_sleeps_while_something_is_left() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let place = Place::new();
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                let place = place.clone();
                thread::spawn(move || place.consume())
            })
            .collect();
        place.publish();
        place.publish();
        for consumer in consumers {
            consumer.join().unwrap();
        }
    });
}
