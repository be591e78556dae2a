//! Messages that show whether they arrived whole, and a ledger that shows whether each arrived
//! once. The ledger lives on a slate, so that what a killed process had noted is not lost.

use super::Slate;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const HEADER: usize = 24;
const MAGIC: u64 = 0x5ea1_ed1e_77e5_0001;

/// One message: who wrote it, the how-manieth of its writer, and that many bytes of body derived
/// from both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Which writer.
    pub writer: usize,
    /// The how-manieth of that writer, from 0.
    pub number: usize,
    /// Length of the whole message.
    pub len: usize,
}

impl Letter {
    /// A letter of at least `len` bytes.
    pub fn new(writer: usize, number: usize, len: usize) -> Letter {
        Letter {
            writer,
            number,
            len: len.max(HEADER),
        }
    }

    /// The message.
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
    pub fn read(bytes: &[u8]) -> Letter {
        assert!(
            bytes.len() >= HEADER,
            "torn: {} bytes are no letter",
            bytes.len()
        );
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        assert_eq!(word(0), MAGIC, "torn: no letter begins like this");
        let letter = Letter {
            writer: (word(8) >> 32) as usize,
            number: (word(8) & 0xffff_ffff) as usize,
            len: word(16) as usize,
        };
        assert_eq!(
            letter.len,
            bytes.len(),
            "torn: {letter:?} has another length"
        );
        assert!(
            letter.bytes() == bytes,
            "torn: the body of {letter:?} is not its own"
        );
        letter
    }

    fn seed(&self) -> u64 {
        (self.writer as u64 + 1) * 0x1000_0000_01b3 + self.number as u64
    }
}

/// Sent and received letters of a few writers.
#[derive(Clone, Copy)]
pub struct Ledger {
    cells: &'static [AtomicU64],
    each: usize,
}

const BEGUN: u64 = 1 << 32;
const SENT: u64 = 1 << 33;
const COUNT: u64 = BEGUN - 1;

impl Ledger {
    /// Keeps the books of `writers` writers with up to `each` letters on the slate, from cell
    /// `from` on.
    pub fn on(slate: Slate, from: usize, writers: usize, each: usize) -> Ledger {
        Ledger {
            cells: slate.cells(from, writers * each),
            each,
        }
    }

    /// A writer is about to send it.
    pub fn begin(&self, letter: Letter) {
        self.cell(letter).fetch_or(BEGUN, SeqCst);
    }

    /// `put` or `send` returned.
    pub fn sent(&self, letter: Letter) {
        self.cell(letter).fetch_or(SENT, SeqCst);
    }

    /// A reader has it.
    #[track_caller]
    pub fn received(&self, bytes: &[u8]) -> Letter {
        let letter = Letter::read(bytes);
        let before = self.cell(letter).fetch_add(1, SeqCst);
        assert_ne!(before & BEGUN, 0, "{letter:?} was never sent");
        assert_eq!(before & COUNT, 0, "{letter:?} came twice");
        letter
    }

    /// How many letters were sent for sure and have not been received.
    pub fn missing(&self) -> Vec<Letter> {
        let found = |(at, cell): (usize, &AtomicU64)| {
            let value = cell.load(SeqCst);
            let missing = value & SENT != 0 && value & COUNT == 0;
            missing.then(|| Letter {
                writer: at / self.each,
                number: at % self.each,
                len: 0,
            })
        };
        self.cells.iter().enumerate().filter_map(found).collect()
    }

    /// How many letters were received.
    pub fn received_count(&self) -> usize {
        self.cells
            .iter()
            .filter(|cell| cell.load(SeqCst) & COUNT != 0)
            .count()
    }

    fn cell(&self, letter: Letter) -> &AtomicU64 {
        assert!(
            letter.number < self.each,
            "the ledger has no line for {letter:?}"
        );
        &self.cells[letter.writer * self.each + letter.number]
    }
}
