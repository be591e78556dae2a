//! The readers-writer lock: nobody reads while somebody writes, and nobody sleeps for ever.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::lock::Latch;
use super::process;

const STALLS: usize = 2;

struct Shared {
    gate: Latch,
    stalls: [Latch; STALLS],
    value: UnsafeCell<u32>,
}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            gate: Latch::new(),
            stalls: [Latch::new(), Latch::new()],
            value: UnsafeCell::new(0),
        })
    }

    fn read(&self, number: u32) -> u32 {
        if !self.gate.word.look().is_free() {
            self.gate.acquire(number);
            self.gate.release();
        }
        let own = number as usize % STALLS;
        let mut stalls = [own, (own + 1) % STALLS].into_iter();
        let free = stalls.find(|at| {
            let word = &self.stalls[*at].word;
            word.take(process(number), number, false).is_ok()
        });
        let stall = &self.stalls[free.unwrap_or(own)];
        if free.is_none() {
            stall.acquire(number);
        }
        // SAFETY: loom reports it when somebody writes meanwhile.
        let value = self.value.with(|value| unsafe { *value });
        stall.release();
        value
    }

    fn add_one(&self, number: u32) {
        self.gate.acquire(number);
        for stall in &self.stalls {
            stall.acquire(number);
        }
        // SAFETY: loom reports it when somebody else is in here, too.
        self.value.with_mut(|value| unsafe { *value += 1 });
        for stall in self.stalls.iter().rev() {
            stall.release();
        }
        self.gate.release();
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
