//! The readers-writer lock: nobody reads while somebody writes, and nobody sleeps for ever.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::lock::ModelLock;
use super::process;

const READER_SLOTS: usize = 2;

struct Shared {
    writer_lock: ModelLock,
    reader_slots: [ModelLock; READER_SLOTS],
    value: UnsafeCell<u32>,
}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            writer_lock: ModelLock::new(),
            reader_slots: [ModelLock::new(), ModelLock::new()],
            value: UnsafeCell::new(0),
        })
    }

    fn read(&self, number: u32) -> u32 {
        if !self.writer_lock.word.look().is_free() {
            self.writer_lock.acquire(number);
            self.writer_lock.release();
        }
        let own = number as usize % READER_SLOTS;
        let mut reader_slots = [own, (own + 1) % READER_SLOTS].into_iter();
        let free = reader_slots.find(|at| {
            let word = &self.reader_slots[*at].word;
            word.take(process(number), number, false).is_ok()
        });
        let reader_slot = &self.reader_slots[free.unwrap_or(own)];
        if free.is_none() {
            reader_slot.acquire(number);
        }
        // SAFETY: loom reports if another thread writes meanwhile.
        let value = self.value.with(|value| unsafe { *value });
        reader_slot.release();
        value
    }

    fn add_one(&self, number: u32) {
        self.writer_lock.acquire(number);
        for reader_slot in &self.reader_slots {
            reader_slot.acquire(number);
        }
        // SAFETY: loom reports if another thread is in here, too.
        self.value.with_mut(|value| unsafe { *value += 1 });
        for reader_slot in self.reader_slots.iter().rev() {
            reader_slot.release();
        }
        self.writer_lock.release();
    }
}

fn explore(body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(body);
}

#[test]
fn readers_see_what_a_writer_finished() {
    explore(|| {
        let shared = Shared::new();
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || shared.read(1))
        };
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || shared.add_one(2))
        };
        assert!(shared.read(3) <= 1);
        assert!(reader.join().unwrap() <= 1);
        writer.join().unwrap();
        assert_eq!(shared.read(3), 1);
    });
}

#[test]
fn writers_take_turns() {
    explore(|| {
        let shared = Shared::new();
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || shared.add_one(1))
        };
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || shared.read(2))
        };
        shared.add_one(3);
        writer.join().unwrap();
        assert!(reader.join().unwrap() <= 2);
        assert_eq!(shared.read(3), 2);
    });
}
