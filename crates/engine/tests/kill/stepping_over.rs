//! A process that is stopped in the middle of `put` or `get` holds up only its own message, and keeps no memory.

use crate::case::{FREE_CELLS, Scenario, stopped_at};
use crate::common::{Child, Footprint, SharedCells, isolated, patiently, promptly};
use crate::queues::{BYSTANDER, LoggedQueue, SURVIVOR, VICTIM};
use procession_engine::Deadline;
use procession_engine::channel::Queue;
use procession_engine::error::PutError;
use procession_engine::process;

/// A queue whose oldest slot belongs to a writer that was stopped in the middle.
pub struct SteppingOver {
    logged: LoggedQueue,
    writer: Child,
    messages: usize,
}

impl SteppingOver {
    pub fn new(cells: SharedCells) -> SteppingOver {
        SteppingOver::over(cells, 4)
    }

    /// So many messages that chunks behind the stopped writer's chunk leave the list.
    pub fn chunks(cells: SharedCells) -> SteppingOver {
        SteppingOver::over(cells, 600)
    }

    fn over(cells: SharedCells, messages: usize) -> SteppingOver {
        let mut logged = LoggedQueue::new(cells, 0, 30);
        let writer = stopped_at("queue.claimed", 1, || {
            logged.put(BYSTANDER, Deadline::NOW).expect("no limit");
        });
        SteppingOver {
            logged,
            writer,
            messages,
        }
    }
}

impl Scenario for SteppingOver {
    fn victim(&mut self, _: SharedCells) {
        for _ in 0..self.messages {
            self.logged.put(VICTIM, Deadline::NOW).expect("no limit");
            self.logged.get(promptly()).expect("a message");
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, _: SharedCells) {
        for _ in 0..6 {
            self.logged.put(SURVIVOR, Deadline::NOW).expect("no limit");
            self.logged.get(promptly()).expect("a message");
        }
    }

    fn verify(&mut self, _: SharedCells) {
        self.writer.resume();
        self.writer.succeed();
        // The victim's message.
        self.logged.assert_complete(1);
    }
}

/// The reader is stopped right behind the slot it stepped over, and must receive the second message next.
#[test]
fn a_message_that_was_stepped_over_comes_before_those_put_after_it() {
    let cells = SharedCells::new();
    isolated(|| {
        process::ensure().expect("an arena");
        let queue = Queue::new(0).expect("a queue");
        let writer = stopped_at("queue.claimed", 1, || {
            queue.put(&[b"1"], Deadline::NOW).expect("no limit");
        });
        let reader = stopped_at("queue.stepped_over", 1, || {
            for cell in 0..2 {
                let message = queue.get(patiently()).expect("a message");
                cells.write(FREE_CELLS + cell, message.bytes()[0].into());
            }
        });
        writer.resume();
        writer.succeed();
        queue.put(&[b"2"], Deadline::NOW).expect("no limit");
        reader.resume();
        reader.succeed();
        let received = [0, 1].map(|cell| cells.read(FREE_CELLS + cell));
        assert_eq!(received, [b'1', b'2'].map(u64::from));
    });
}

/// Each finished chunk is freed, though the first one stays as long as its writer is stopped.
#[test]
fn a_stopped_producer_keeps_no_memory_of_what_passes_meanwhile() {
    isolated(|| {
        process::ensure().expect("an arena");
        let queue = Queue::new(0).expect("a queue");
        let writer = stopped_at("queue.claimed", 1, || {
            queue.put(&[b"late"], Deadline::NOW).expect("no limit");
        });
        let round = |number: u32| {
            queue
                .put(&[&number.to_ne_bytes()], Deadline::NOW)
                .expect("no limit");
            let message = queue.get(promptly()).expect("a message");
            assert_eq!(message.bytes(), number.to_ne_bytes());
            assert_eq!(queue.len(), 1);
        };
        (0..600).for_each(round);
        let before = Footprint::take();
        (0..5_000).for_each(round);
        before.assert_about(4);
        writer.resume();
        writer.succeed();
        assert_eq!(queue.get(promptly()).expect("a message").bytes(), b"late");
        assert!(queue.is_empty());
    });
}

/// A claimed slot does not make a bounded queue longer.
#[test]
fn a_stopped_producer_takes_one_place_of_a_bounded_queue() {
    isolated(|| {
        process::ensure().expect("an arena");
        let queue = Queue::new(3).expect("a queue");
        let writer = stopped_at("queue.claimed", 1, || {
            queue.put(&[b"late"], Deadline::NOW).expect("no limit");
        });
        for _ in 0..2_000 {
            queue.put(&[b"1"], Deadline::NOW).expect("room for two");
            queue.put(&[b"2"], Deadline::NOW).expect("room for two");
            assert!(matches!(
                queue.put(&[b"3"], Deadline::NOW),
                Err(PutError::Full)
            ));
            assert_eq!(queue.get(promptly()).expect("a message").bytes(), b"1");
            assert_eq!(queue.get(promptly()).expect("a message").bytes(), b"2");
        }
        writer.resume();
        writer.succeed();
    });
}

/// As a pool's worker that stops in the middle of sending its result.
#[test]
fn a_stopped_reader_keeps_no_memory_of_what_passes_meanwhile() {
    isolated(|| {
        process::ensure().expect("an arena");
        let queue = Queue::new(0).expect("a queue");
        queue.put(&[&[7; 5_000]], Deadline::NOW).expect("no limit");
        let reader = stopped_at("queue.taken", 1, || {
            assert_eq!(
                queue.get(promptly()).expect("a message").bytes(),
                [7; 5_000]
            );
        });
        let round = |number: u32| {
            queue
                .put(&[&number.to_ne_bytes()], Deadline::NOW)
                .expect("no limit");
            let message = queue.get(promptly()).expect("a message");
            assert_eq!(message.bytes(), number.to_ne_bytes());
        };
        (0..600).for_each(round);
        let before = Footprint::take();
        (0..5_000).for_each(round);
        before.assert_about(4);
        reader.resume();
        reader.succeed();
    });
}
