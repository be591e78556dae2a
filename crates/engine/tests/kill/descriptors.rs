//! Deaths around a queue's descriptor.

use crate::case::Play;
use crate::common::Slate;
use procession_engine::Deadline;
use procession_engine::channel::Queue;

/// A queue whose descriptor somebody watches, the victim first or not.
pub struct Showing {
    queue: Queue,
}

impl Showing {
    pub fn new(_: Slate) -> Showing {
        Showing {
            queue: Queue::new(0).expect("a queue"),
        }
    }

    pub fn asked(slate: Slate) -> Showing {
        let showing = Showing::new(slate);
        showing.queue.fileno().expect("a descriptor");
        showing
    }

    fn is_readable(&self) -> bool {
        let number = self.queue.fileno().expect("a descriptor");
        let mut watched = libc::pollfd {
            fd: number,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one record, which lives on; the call does not wait.
        unsafe { libc::poll(&raw mut watched, 1, 0) == 1 }
    }

    fn drain(&self) {
        while self.queue.get(Deadline::NOW).is_ok() {}
    }
}

impl Play for Showing {
    fn victim(&mut self, _: Slate) {
        for _ in 0..3 {
            let _ = self.is_readable();
            self.queue.put(&[b"one"], Deadline::NEVER).expect("room");
            assert!(self.is_readable(), "a message waits");
            self.queue.get(Deadline::NEVER).expect("the message");
            assert!(!self.is_readable(), "no message waits");
        }
    }

    fn survive(&mut self, _: Slate) {
        self.drain();
        assert!(!self.is_readable(), "no message waits");
        self.queue.put(&[b"two"], Deadline::NOW).expect("room");
        assert!(self.is_readable(), "a message waits");
        self.queue.get(Deadline::NOW).expect("the message");
        assert!(!self.is_readable(), "no message waits");
    }
}
