//! A queue's slot: a message is received whole and once, whichever process dies in the middle.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::{Deaths, process};
use crate::arena::owner::ProcId;
use crate::channel::chunk_list::slot::{Phase, SlotWord, View};

const INC: u32 = 1;

struct ModelSlot {
    word: SlotWord,
    body: AtomicU32,
    deaths: Arc<Deaths>,
    received: AtomicU32,
}

impl ModelSlot {
    fn new() -> Arc<ModelSlot> {
        Arc::new(ModelSlot {
            word: SlotWord::new(),
            body: AtomicU32::new(0),
            deaths: Deaths::of(5),
            received: AtomicU32::new(0),
        })
    }

    /// Puts a message. Dies after `steps` steps.
    fn put(&self, me: ProcId, steps: u32) -> bool {
        let seen = self.word.look();
        if seen.view(INC) != View::Empty || self.word.claim(seen, INC, me).is_err() {
            return false;
        }
        if steps == 1 {
            self.deaths.die(me);
            return false;
        }
        self.body.store(7, Ordering::Relaxed);
        if steps == 2 {
            self.deaths.die(me);
            return false;
        }
        self.word.pass(INC, Phase::Reserved(me), Phase::Ready)
    }

    /// Takes the message if it is there. Dies after `steps` steps.
    fn get(&self, me: ProcId, steps: u32) {
        self.recover();
        if self.word.look().view(INC) != View::In(Phase::Ready) {
            return;
        }
        let message = self.body.load(Ordering::Relaxed);
        if steps == 1 {
            return self.deaths.die(me);
        }
        if self.word.pass(INC, Phase::Ready, Phase::Done) {
            assert_eq!(message, 7, "a torn message");
            self.received.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn recover(&self) {
        let (from, to, owner) = match self.word.look().view(INC) {
            View::In(from @ Phase::Reserved(owner)) => (from, Phase::Skipped, owner),
            View::In(from @ Phase::Receiving(owner)) => (from, Phase::Ready, owner),
            _ => return,
        };
        if self.deaths.is_dead(owner) {
            self.word.pass(INC, from, to);
        }
    }

    fn end(&self) -> View {
        self.recover();
        self.word.look().view(INC)
    }
}

#[test]
fn two_producers_never_write_into_one_slot() {
    loom::model(|| {
        let slot = ModelSlot::new();
        let other = slot.clone();
        let thread = thread::spawn(move || other.put(process(1), 9));
        let mine = slot.put(process(2), 9);
        assert!(mine ^ thread.join().unwrap());
    });
}

#[test]
fn a_message_is_received_once_by_two_consumers() {
    loom::model(|| {
        let slot = ModelSlot::new();
        let threads: Vec<_> = [1, 2]
            .map(|number| {
                let slot = slot.clone();
                thread::spawn(move || match number {
                    1 => drop(slot.put(process(1), 9)),
                    _ => slot.get(process(2), 9),
                })
            })
            .into();
        slot.get(process(3), 9);
        for thread in threads {
            thread.join().unwrap();
        }
        slot.get(process(4), 9);
        assert_eq!(slot.received.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_slot_of_a_dead_producer_becomes_a_pad_and_is_never_read() {
    for steps in [1, 2] {
        loom::model(move || {
            let slot = ModelSlot::new();
            let other = slot.clone();
            let thread = thread::spawn(move || other.put(process(1), steps));
            slot.get(process(2), 9);
            thread.join().unwrap();
            slot.get(process(3), 9);
            assert_eq!(slot.received.load(Ordering::SeqCst), 0);
            assert_eq!(slot.end(), View::In(Phase::Skipped));
        });
    }
}

#[test]
fn a_message_whose_reader_died_is_there_for_the_next() {
    loom::model(|| {
        let slot = ModelSlot::new();
        assert!(slot.put(process(1), 9));
        let other = slot.clone();
        let thread = thread::spawn(move || other.get(process(2), 1));
        slot.get(process(3), 9);
        thread.join().unwrap();
        slot.get(process(4), 9);
        assert_eq!(slot.received.load(Ordering::SeqCst), 1);
        assert_eq!(slot.end(), View::In(Phase::Done));
    });
}

/// The chunk's next generation begins while a reader still looks at the earlier one.
#[test]
fn a_reader_of_a_former_life_takes_nothing_of_the_next() {
    loom::model(|| {
        let slot = ModelSlot::new();
        assert!(slot.put(process(1), 9));
        let other = slot.clone();
        let late = thread::spawn(move || {
            let seen = other.word.look().view(INC);
            let message = other.body.load(Ordering::Relaxed);
            let taken = other.word.pass(INC, Phase::Ready, Phase::Done);
            assert!(!taken || (seen == View::In(Phase::Ready) && message == 7));
            taken
        });
        let taken = slot.word.pass(INC, Phase::Ready, Phase::Done);
        let seen = slot.word.look();
        if seen.view(INC + 1) == View::Empty {
            slot.word.claim(seen, INC + 1, process(2)).unwrap();
            slot.body.store(8, Ordering::Relaxed);
            let claimed = Phase::Reserved(process(2));
            assert!(slot.word.pass(INC + 1, claimed, Phase::Ready));
        }
        assert!(taken ^ late.join().unwrap());
    });
}
