//! Deaths with memory that the program has borrowed.

use crate::case::Scenario;
use crate::common::{Child, SharedCells, promptly};
use crate::memory::sweep_orphans;
use procession_engine::channel::{MessageBuf, Queue};
use procession_engine::{BorrowedBuffer, CowBuffer, Deadline, failpoint, process};

const LENGTH: usize = 50_000;

fn bytes_of(view: &BorrowedBuffer) -> Vec<u8> {
    // SAFETY: the view is kept, and no other thread writes there.
    unsafe { std::slice::from_raw_parts(view.as_ptr(), view.len()) }.to_vec()
}

fn fill(view: &BorrowedBuffer, byte: u8) {
    // SAFETY: as above.
    unsafe { view.as_ptr().write_bytes(byte, view.len()) };
}

/// Messages that are used in place, through forks.
pub struct Borrowing {
    queue: Queue,
}

impl Borrowing {
    pub fn new(_: SharedCells) -> Borrowing {
        Borrowing {
            queue: Queue::new(0).expect("a queue"),
        }
    }

    fn round(&self, byte: u8, deadline: Deadline) {
        self.queue.put(&[&[byte; LENGTH]], deadline).expect("room");
        let message = self.queue.get(deadline).expect("a message");
        let borrowed = message.lend().expect("a large message can be borrowed");
        let view = borrowed.slice(0..LENGTH).expect("all of it");
        drop(borrowed);
        fill(&view, byte + 1);
        let child = Child::fork(|| {
            // The parent is the one to die.
            failpoint::disarm();
            assert_eq!(bytes_of(&view), [byte + 1; LENGTH]);
            fill(&view, 0);
        });
        child.succeed();
        // Moves what only this process holds by now out of the file.
        process::trim();
        assert_eq!(bytes_of(&view), [byte + 1; LENGTH]);
    }
}

impl Scenario for Borrowing {
    /// An entry reserved for a child that was never born is released only after a while.
    const VISITS: &[u32] = &[1];

    fn victim(&mut self, _: SharedCells) {
        (0..2).for_each(|_| self.round(1, Deadline::NEVER));
    }

    fn survive(&mut self, _: SharedCells) {
        // What the victim had put and not received.
        while self.queue.get(Deadline::NOW).is_ok() {}
        (0..2).for_each(|_| self.round(10, promptly()));
    }

    fn verify(&mut self, _: SharedCells) {
        while self.queue.get(Deadline::NOW).is_ok() {}
        sweep_orphans();
    }
}

/// Bytes that are written once and used by every process that has the handle.
pub struct Sharing;

impl Sharing {
    pub fn new(_: SharedCells) -> Sharing {
        Sharing
    }

    fn round(byte: u8) {
        let mut buf = MessageBuf::new(LENGTH, &[]).expect("memory");
        buf.bytes_mut().fill(byte);
        let cow_buffer = buf.into_cow_buffer().expect("memory");
        let opened = CowBuffer::open(&cow_buffer.handle()).expect("it is there");
        assert_eq!(opened.bytes(), [byte; LENGTH]);
        let borrowed = opened.lend().expect("it was not borrowed before");
        let view = borrowed.slice(0..LENGTH).expect("all of it");
        fill(&view, byte + 1);
        drop((borrowed, cow_buffer));
        assert_eq!(bytes_of(&view), [byte + 1; LENGTH]);
    }
}

impl Scenario for Sharing {
    fn victim(&mut self, _: SharedCells) {
        (0..4).for_each(|_| Sharing::round(1));
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, _: SharedCells) {
        (0..4).for_each(|_| Sharing::round(5));
    }
}
