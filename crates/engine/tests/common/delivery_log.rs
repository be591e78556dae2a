//! Messages that show whether they arrived whole, and a log that shows whether each arrived once. The log lies in
//! shared cells, so the entries of a killed process are not lost.

use super::SharedCells;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const HEADER: usize = 24;
const MAGIC: u64 = 0x5ea1_ed1e_77e5_0001;

/// One message: its writer, its number, and a body derived from both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestMessage {
    /// Which writer.
    pub writer: usize,
    /// The message's number among those of its writer, from 0.
    pub number: usize,
    /// Length of the whole message.
    pub len: usize,
}

impl TestMessage {
    /// A message of at least `len` bytes.
    pub fn new(writer: usize, number: usize, len: usize) -> TestMessage {
        TestMessage {
            writer,
            number,
            len: len.max(HEADER),
        }
    }

    /// The bytes to send.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&((self.writer as u64) << 32 | self.number as u64).to_le_bytes());
        bytes.extend_from_slice(&(self.len as u64).to_le_bytes());
        let mut state = self.seed();
        while bytes.len() < self.len {
            state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ 0x2545_f491;
            let rest = (self.len - bytes.len()).min(8);
            bytes.extend_from_slice(&state.to_le_bytes()[..rest]);
        }
        bytes
    }

    /// Reads a message; panics if it is torn.
    #[track_caller]
    pub fn read(bytes: &[u8]) -> TestMessage {
        assert!(
            bytes.len() >= HEADER,
            "torn: {} bytes are no message",
            bytes.len()
        );
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        assert_eq!(word(0), MAGIC, "torn: no message begins like this");
        let message = TestMessage {
            writer: (word(8) >> 32) as usize,
            number: (word(8) & 0xffff_ffff) as usize,
            len: word(16) as usize,
        };
        assert_eq!(
            message.len,
            bytes.len(),
            "torn: {message:?} has another length"
        );
        assert!(
            message.bytes() == bytes,
            "torn: the body of {message:?} is not its own"
        );
        message
    }

    fn seed(&self) -> u64 {
        (self.writer as u64 + 1) * 0x1000_0000_01b3 + self.number as u64
    }
}

/// Sent and received messages of a few writers.
#[derive(Clone, Copy)]
pub struct DeliveryLog {
    cells: &'static [AtomicU64],
    each: usize,
}

const BEGUN: u64 = 1 << 32;
const SENT: u64 = 1 << 33;
const COUNT: u64 = BEGUN - 1;

impl DeliveryLog {
    /// A log of `writers` writers with up to `each` messages each, in the shared cells from number `from` on.
    pub fn new(cells: SharedCells, from: usize, writers: usize, each: usize) -> DeliveryLog {
        DeliveryLog {
            cells: cells.range(from, writers * each),
            each,
        }
    }

    /// Notes that a writer is about to send the message.
    pub fn begin(&self, message: TestMessage) {
        self.cell(message).fetch_or(BEGUN, SeqCst);
    }

    /// Notes that `put` or `send` returned.
    pub fn sent(&self, message: TestMessage) {
        self.cell(message).fetch_or(SENT, SeqCst);
    }

    /// Notes that a reader has received the message.
    #[track_caller]
    pub fn received(&self, bytes: &[u8]) -> TestMessage {
        let message = TestMessage::read(bytes);
        let before = self.cell(message).fetch_add(1, SeqCst);
        assert_ne!(before & BEGUN, 0, "{message:?} was never sent");
        assert_eq!(before & COUNT, 0, "{message:?} came twice");
        message
    }

    /// The messages that were certainly sent and have not been received.
    pub fn missing(&self) -> Vec<TestMessage> {
        let found = |(at, cell): (usize, &AtomicU64)| {
            let value = cell.load(SeqCst);
            let missing = value & SENT != 0 && value & COUNT == 0;
            missing.then(|| TestMessage {
                writer: at / self.each,
                number: at % self.each,
                len: 0,
            })
        };
        self.cells.iter().enumerate().filter_map(found).collect()
    }

    /// How many messages were received.
    pub fn received_count(&self) -> usize {
        self.cells
            .iter()
            .filter(|cell| cell.load(SeqCst) & COUNT != 0)
            .count()
    }

    fn cell(&self, message: TestMessage) -> &AtomicU64 {
        assert!(
            message.number < self.each,
            "the log has no line for {message:?}"
        );
        &self.cells[message.writer * self.each + message.number]
    }
}
