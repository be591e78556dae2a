//! A shared anonymous mapping of counters. With it the processes of a test tell each other how far they are,
//! independently of the engine under test.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const CELLS: usize = 4096;
const BYTES: usize = CELLS * 8;

/// Initially zero; shared with every process forked later.
#[derive(Clone, Copy)]
pub struct SharedCells {
    cells: &'static [AtomicU64; CELLS],
}

impl SharedCells {
    /// Maps new cells. They are never unmapped: sandboxes are short-lived processes.
    pub fn new() -> SharedCells {
        // SAFETY: a fresh anonymous mapping, chosen by the kernel, page-aligned and zeroed: valid as an array of
        // atomics, never unmapped, and accessed by atomic operations only.
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
        SharedCells { cells }
    }

    /// The cell with that number.
    pub fn cell(&self, at: usize) -> &'static AtomicU64 {
        &self.cells[at]
    }

    /// `len` cells, beginning with number `from`.
    pub fn range(&self, from: usize, len: usize) -> &'static [AtomicU64] {
        &self.cells[from..from + len]
    }

    /// Sets all cells to zero.
    pub fn clear(&self) {
        self.cells.iter().for_each(|cell| cell.store(0, SeqCst));
    }

    /// Adds one; returns the value before.
    pub fn count(&self, at: usize) -> u64 {
        self.cells[at].fetch_add(1, SeqCst)
    }

    /// Subtracts one.
    pub fn uncount(&self, at: usize) {
        self.cells[at].fetch_sub(1, SeqCst);
    }

    /// Reads the cell.
    pub fn read(&self, at: usize) -> u64 {
        self.cells[at].load(SeqCst)
    }

    /// Writes the cell.
    pub fn write(&self, at: usize, value: u64) {
        self.cells[at].store(value, SeqCst);
    }

    /// Yields until the cell holds at least `least`. The sandbox's time limit ends a wait in vain.
    pub fn until(&self, at: usize, least: u64) {
        while self.read(at) < least {
            std::thread::yield_now();
        }
    }
}
