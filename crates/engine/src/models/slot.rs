//! A queue's slot: a message is received whole and once, whoever dies in the middle.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::{Deaths, process};
use crate::arena::owner::OwnerId;
use crate::channel::slot::{Phase, SlotWord, View};

const INC: u32 = 1;

struct Place {
    word: SlotWord,
    body: UnsafeCell<u32>,
    deaths: Arc<Deaths>,
    received: AtomicU32,
}

impl Place {
    fn new() -> Arc<Place> {
        Arc::new(Place {
            word: SlotWord::new(),
            body: UnsafeCell::new(0),
            deaths: Deaths::of(5),
            received: AtomicU32::new(0),
        })
    }

    /// Puts a message, dying after so many steps.
    fn put(&self, me: OwnerId, steps: u32) -> bool {
        let seen = self.word.look();
        if seen.view(INC) != View::Empty || self.word.claim(seen, INC, me).is_err() {
            return false;
        }
        if steps == 1 {
            self.deaths.die(me);
            return false;
        }
        // SAFETY: the slot is claimed; loom reports it when anybody else is in here.
        self.body.with_mut(|body| unsafe { *body = 7 });
        if steps == 2 {
            self.deaths.die(me);
            return false;
        }
        self.word.pass(INC, Phase::Claimed(me), Phase::Ready)
    }

    /// Takes the message if it is there, dying after so many steps.
    fn get(&self, me: OwnerId, steps: u32) {
        self.repair();
        if !self.word.pass(INC, Phase::Ready, Phase::Taken(me)) {
            return;
        }
        if steps == 1 {
            self.deaths.die(me);
            return;
        }
        // SAFETY: the slot is taken; loom reports it when anybody writes meanwhile.
        let message = self.body.with(|body| unsafe { *body });
        assert_eq!(message, 7, "a torn message");
        if steps == 2 {
            self.deaths.die(me);
            return;
        }
        if self.word.pass(INC, Phase::Taken(me), Phase::Done) {
            self.received.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn repair(&self) {
        let (from, to, owner) = match self.word.look().view(INC) {
            View::In(from @ Phase::Claimed(owner)) => (from, Phase::Pad, owner),
            View::In(from @ Phase::Taken(owner)) => (from, Phase::Ready, owner),
            _ => return,
        };
        if self.deaths.is_dead(owner) {
            self.word.pass(INC, from, to);
        }
    }

    fn end(&self) -> View {
        self.repair();
        self.word.look().view(INC)
    }
}

#[test]
fn two_producers_never_write_into_one_slot() {
    loom::model(|| {
        let place = Place::new();
        let other = place.clone();
        let thread = thread::spawn(move || other.put(process(1), 9));
        let mine = place.put(process(2), 9);
        assert!(mine ^ thread.join().unwrap());
    });
}

#[test]
fn a_message_is_received_once_by_two_consumers() {
    loom::model(|| {
        let place = Place::new();
        let threads: Vec<_> = [1, 2]
            .map(|number| {
                let place = place.clone();
                thread::spawn(move || match number {
                    1 => drop(place.put(process(1), 9)),
                    _ => place.get(process(2), 9),
                })
            })
            .into();
        place.get(process(3), 9);
        for thread in threads {
            thread.join().unwrap();
        }
        place.get(process(4), 9);
        assert_eq!(place.received.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_slot_of_a_dead_producer_becomes_a_pad_and_is_never_read() {
    for steps in [1, 2] {
        loom::model(move || {
            let place = Place::new();
            let other = place.clone();
            let thread = thread::spawn(move || other.put(process(1), steps));
            place.get(process(2), 9);
            thread.join().unwrap();
            place.get(process(3), 9);
            assert_eq!(place.received.load(Ordering::SeqCst), 0);
            assert_eq!(place.end(), View::In(Phase::Pad));
        });
    }
}

#[test]
fn what_a_consumer_held_when_it_died_is_given_again() {
    for steps in [1, 2] {
        loom::model(move || {
            let place = Place::new();
            assert!(place.put(process(1), 9));
            let other = place.clone();
            let thread = thread::spawn(move || other.get(process(2), steps));
            place.get(process(3), 9);
            thread.join().unwrap();
            place.get(process(4), 9);
            assert_eq!(place.received.load(Ordering::SeqCst), 1);
            assert_eq!(place.end(), View::In(Phase::Done));
        });
    }
}
