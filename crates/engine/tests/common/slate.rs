//! A shared anonymous page of counters: how the processes of a test tell each other how far they
//! are, independent of the engine under test.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const CELLS: usize = 4096;
const BYTES: usize = CELLS * 8;

/// Zeroed at first; shared with every process forked later.
#[derive(Clone, Copy)]
pub struct Slate {
    cells: &'static [AtomicU64; CELLS],
}

impl Slate {
    /// A new one. It is never unmapped: stages are short-lived processes.
    pub fn new() -> Slate {
        // SAFETY: a fresh anonymous mapping, chosen by the kernel, page-aligned and zeroed: valid
        // as an array of atomics, never unmapped, and touched by atomic operations only.
        let cells = unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(at, libc::MAP_FAILED, "mmap of {BYTES} bytes");
            &*at.cast::<[AtomicU64; CELLS]>()
        };
        Slate { cells }
    }

    /// The cell with that number.
    pub fn cell(&self, at: usize) -> &'static AtomicU64 {
        &self.cells[at]
    }

    /// A run of cells.
    pub fn cells(&self, from: usize, len: usize) -> &'static [AtomicU64] {
        &self.cells[from..from + len]
    }

    /// Zeroes all cells.
    pub fn clear(&self) {
        self.cells.iter().for_each(|cell| cell.store(0, SeqCst));
    }

    /// Adds one; says how many it was before.
    pub fn count(&self, at: usize) -> u64 {
        self.cells[at].fetch_add(1, SeqCst)
    }

    /// Takes one off.
    pub fn uncount(&self, at: usize) {
        self.cells[at].fetch_sub(1, SeqCst);
    }

    /// What the cell holds.
    pub fn read(&self, at: usize) -> u64 {
        self.cells[at].load(SeqCst)
    }

    /// Writes the cell.
    pub fn write(&self, at: usize, value: u64) {
        self.cells[at].store(value, SeqCst);
    }

    /// Gives way until the cell holds at least `least`. The stage's limit ends a wait in vain.
    pub fn until(&self, at: usize, least: u64) {
        while self.read(at) < least {
            std::thread::yield_now();
        }
    }
}
