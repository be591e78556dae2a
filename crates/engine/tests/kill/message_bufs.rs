//! Deaths with a message that is written in place and passed on from reader to reader.

use crate::case::Scenario;
use crate::common::{SharedCells, promptly};
use procession_engine::Deadline;
use procession_engine::channel::{MessageBuf, Queue};

const LENGTH: usize = 20_000;

/// The victim creates a message, sends it, receives it, changes it in place and sends it on.
pub struct PassingOn {
    queue: Queue,
}

impl PassingOn {
    pub fn new(_: SharedCells) -> PassingOn {
        PassingOn {
            queue: Queue::new(0).expect("a queue"),
        }
    }

    fn put(&self, buf: MessageBuf) {
        self.queue
            .put_buf(&mut Some(buf), promptly())
            .expect("no limit");
    }

    fn round(&self, byte: u8) {
        let mut buf = MessageBuf::new(LENGTH, &[]).expect("memory");
        buf.bytes_mut().fill(byte);
        self.put(buf);
        let message = self.queue.get(promptly()).expect("a message");
        let mut buf = message.into_buf().expect("it was one");
        buf.bytes_mut().fill(byte + 1);
        self.put(buf);
        let message = self.queue.get(promptly()).expect("a message");
        let first = message.bytes()[0];
        assert_eq!(message.bytes(), [first; LENGTH], "it is not whole");
        drop(MessageBuf::new(LENGTH, &[]).expect("memory"));
    }
}

impl Scenario for PassingOn {
    fn victim(&mut self, _: SharedCells) {
        (0..4).for_each(|_| self.round(1));
    }

    fn while_stopped(&mut self, _: SharedCells) {
        self.round(5);
    }

    fn survive(&mut self, _: SharedCells) {
        // What the victim had put and not received.
        while let Ok(message) = self.queue.get(Deadline::NOW) {
            let first = message.bytes()[0];
            assert_eq!(message.bytes(), [first; LENGTH], "it is not whole");
        }
        (0..2).for_each(|_| self.round(9));
    }

    fn verify(&mut self, _: SharedCells) {
        while self.queue.get(Deadline::NOW).is_ok() {}
    }
}
