//! A process that is stopped in the middle of putting or getting holds up its own message only, and keeps no memory.

use crate::case::{FREE_CELLS, Play, stopped_at};
use crate::common::{Child, Footprint, Slate, isolated, patiently, promptly};
use crate::queues::{BYSTANDER, Mail, STAGE, VICTIM};
use procession_engine::Deadline;
use procession_engine::channel::Queue;
use procession_engine::error::PutError;
use procession_engine::process;

/// A queue whose oldest slot belongs to a writer that was stopped in the middle.
pub struct SteppingOver {
    mail: Mail,
    writer: Child,
    letters: usize,
}

impl SteppingOver {
    pub fn new(slate: Slate) -> SteppingOver {
        SteppingOver::over(slate, 4)
    }

    /// So many letters that chunks leave the chain behind the one that stays.
    pub fn chunks(slate: Slate) -> SteppingOver {
        SteppingOver::over(slate, 600)
    }

    fn over(slate: Slate, letters: usize) -> SteppingOver {
        let mut mail = Mail::new(slate, 0, 30);
        let writer = stopped_at("queue.claimed", 1, || {
            mail.put(BYSTANDER, Deadline::NOW).expect("no limit");
        });
        SteppingOver {
            mail,
            writer,
            letters,
        }
    }
}

impl Play for SteppingOver {
    fn victim(&mut self, _: Slate) {
        for _ in 0..self.letters {
            self.mail.put(VICTIM, Deadline::NOW).expect("no limit");
            self.mail.get(promptly()).expect("a letter");
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, _: Slate) {
        for _ in 0..6 {
            self.mail.put(STAGE, Deadline::NOW).expect("no limit");
            self.mail.get(promptly()).expect("a letter");
        }
    }

    fn verify(&mut self, _: Slate) {
        self.writer.go_on();
        self.writer.succeed();
        // The victim's.
        self.mail.assert_complete(1);
    }
}

/// The reader is stopped right behind the slot it stepped over, and finds the second message next.
#[test]
fn a_message_that_was_stepped_over_comes_before_those_put_after_it() {
    let slate = Slate::new();
    isolated(|| {
        process::ensure().expect("an arena");
        let queue = Queue::new(0).expect("a queue");
        let writer = stopped_at("queue.claimed", 1, || {
            queue.put(&[b"1"], Deadline::NOW).expect("no limit");
        });
        let reader = stopped_at("queue.stepped_over", 1, || {
            for cell in 0..2 {
                let message = queue.get(patiently()).expect("a message");
                slate.write(FREE_CELLS + cell, message.bytes()[0].into());
            }
        });
        writer.go_on();
        writer.succeed();
        queue.put(&[b"2"], Deadline::NOW).expect("no limit");
        reader.go_on();
        reader.succeed();
        let received = [0, 1].map(|cell| slate.read(FREE_CELLS + cell));
        assert_eq!(received, [b'1', b'2'].map(u64::from));
    });
}

/// Each chunk that is over leaves, though the first one stays as long as its writer is stopped.
#[test]
fn a_stopped_producer_keeps_no_memory_of_what_passes_meanwhile() {
    isolated(|| {
        process::ensure().expect("an arena");
        let queue = Queue::new(0).expect("a queue");
        let writer = stopped_at("queue.claimed", 1, || {
            queue.put(&[b"late"], Deadline::NOW).expect("no limit");
        });
        let turn = |number: u32| {
            queue
                .put(&[&number.to_ne_bytes()], Deadline::NOW)
                .expect("no limit");
            let message = queue.get(promptly()).expect("a message");
            assert_eq!(message.bytes(), number.to_ne_bytes());
            assert_eq!(queue.len(), 1);
        };
        (0..600).for_each(turn);
        let before = Footprint::take();
        (0..5_000).for_each(turn);
        before.assert_about(4);
        writer.go_on();
        writer.succeed();
        assert_eq!(queue.get(promptly()).expect("a message").bytes(), b"late");
        assert!(queue.is_empty());
    });
}

/// A bounded queue is no longer than it was while a slot of it stays claimed.
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
        writer.go_on();
        writer.succeed();
    });
}

/// As a worker of a pool does that stops in the middle of its result.
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
        let turn = |number: u32| {
            queue
                .put(&[&number.to_ne_bytes()], Deadline::NOW)
                .expect("no limit");
            let message = queue.get(promptly()).expect("a message");
            assert_eq!(message.bytes(), number.to_ne_bytes());
        };
        (0..600).for_each(turn);
        let before = Footprint::take();
        (0..5_000).for_each(turn);
        before.assert_about(4);
        reader.go_on();
        reader.succeed();
    });
}
