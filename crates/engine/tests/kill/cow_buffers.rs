//! Deaths with memory that was lent to the program.

use crate::case::Play;
use crate::common::{Child, Slate, promptly};
use crate::memory::sweep_orphans;
use procession_engine::channel::{MessageBuf, Queue};
use procession_engine::{BufferView, CowBuffer, Deadline, failpoint, process};

const LENGTH: usize = 50_000;

fn bytes_of(region: &BufferView) -> Vec<u8> {
    // SAFETY: the region is kept, and no other thread writes there.
    unsafe { std::slice::from_raw_parts(region.as_ptr(), region.len()) }.to_vec()
}

fn fill(region: &BufferView, byte: u8) {
    // SAFETY: as above.
    unsafe { region.as_ptr().write_bytes(byte, region.len()) };
}

/// Messages that are used where they lie, through forks.
pub struct BorrowedBuffer {
    queue: Queue,
}

impl BorrowedBuffer {
    pub fn new(_: Slate) -> BorrowedBuffer {
        BorrowedBuffer {
            queue: Queue::new(0).expect("a queue"),
        }
    }

    fn turn(&self, byte: u8, deadline: Deadline) {
        self.queue.put(&[&[byte; LENGTH]], deadline).expect("room");
        let message = self.queue.get(deadline).expect("a message");
        let lending = message.lend().expect("a large message can be lent");
        let region = lending.region(0..LENGTH).expect("all of it");
        drop(lending);
        fill(&region, byte + 1);
        let child = Child::fork(|| {
            // The one to die is the parent.
            failpoint::disarm();
            assert_eq!(bytes_of(&region), [byte + 1; LENGTH]);
            fill(&region, 0);
        });
        child.succeed();
        // Takes what this process alone holds by now out of the file.
        process::trim();
        assert_eq!(bytes_of(&region), [byte + 1; LENGTH]);
    }
}

impl Play for BorrowedBuffer {
    /// A slot reserved for a child that was never born is given up after a while only.
    const VISITS: &[u32] = &[1];

    fn victim(&mut self, _: Slate) {
        (0..2).for_each(|_| self.turn(1, Deadline::NEVER));
    }

    fn survive(&mut self, _: Slate) {
        // What the victim had put and not taken.
        while self.queue.get(Deadline::NOW).is_ok() {}
        (0..2).for_each(|_| self.turn(10, promptly()));
    }

    fn verify(&mut self, _: Slate) {
        while self.queue.get(Deadline::NOW).is_ok() {}
        sweep_orphans();
    }
}

/// Bytes that are written once and used by whoever has the handle.
pub struct Leasing;

impl Leasing {
    pub fn new(_: Slate) -> Leasing {
        Leasing
    }

    fn turn(byte: u8) {
        let mut draft = MessageBuf::new(LENGTH, &[]).expect("memory");
        draft.bytes_mut().fill(byte);
        let cow_buffer = draft.into_cow_buffer().expect("memory");
        let opened = CowBuffer::open(&cow_buffer.handle()).expect("it is there");
        assert_eq!(opened.bytes(), [byte; LENGTH]);
        let lending = opened.lend().expect("it was not lent before");
        let region = lending.region(0..LENGTH).expect("all of it");
        fill(&region, byte + 1);
        drop((lending, cow_buffer));
        assert_eq!(bytes_of(&region), [byte + 1; LENGTH]);
    }
}

impl Play for Leasing {
    fn victim(&mut self, _: Slate) {
        (0..4).for_each(|_| Leasing::turn(1));
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, _: Slate) {
        (0..4).for_each(|_| Leasing::turn(5));
    }
}
