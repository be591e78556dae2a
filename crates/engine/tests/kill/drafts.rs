//! Deaths with a message that is written where it lies, and goes on from reader to reader.

use crate::case::Play;
use crate::common::{Slate, promptly};
use procession_engine::Deadline;
use procession_engine::channel::{MessageBuf, Queue};

const LENGTH: usize = 20_000;

/// The victim begins a message, sends it, receives it, changes it where it lies and sends it on.
pub struct PassingOn {
    queue: Queue,
}

impl PassingOn {
    pub fn new(_: Slate) -> PassingOn {
        PassingOn {
            queue: Queue::new(0).expect("a queue"),
        }
    }

    fn put(&self, draft: MessageBuf) {
        self.queue
            .put_draft(&mut Some(draft), promptly())
            .expect("no limit");
    }

    fn turn(&self, byte: u8) {
        let mut draft = MessageBuf::new(LENGTH, &[]).expect("memory");
        draft.bytes_mut().fill(byte);
        self.put(draft);
        let message = self.queue.get(promptly()).expect("a message");
        let mut draft = message.into_draft().expect("it was one");
        draft.bytes_mut().fill(byte + 1);
        self.put(draft);
        let message = self.queue.get(promptly()).expect("a message");
        let first = message.bytes()[0];
        assert_eq!(message.bytes(), [first; LENGTH], "it is not whole");
        drop(MessageBuf::new(LENGTH, &[]).expect("memory"));
    }
}

impl Play for PassingOn {
    fn victim(&mut self, _: Slate) {
        (0..4).for_each(|_| self.turn(1));
    }

    fn while_stopped(&mut self, _: Slate) {
        self.turn(5);
    }

    fn survive(&mut self, _: Slate) {
        // What the victim had put and not taken.
        while let Ok(message) = self.queue.get(Deadline::NOW) {
            let first = message.bytes()[0];
            assert_eq!(message.bytes(), [first; LENGTH], "it is not whole");
        }
        (0..2).for_each(|_| self.turn(9));
    }

    fn verify(&mut self, _: Slate) {
        while self.queue.get(Deadline::NOW).is_ok() {}
    }
}
