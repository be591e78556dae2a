//! Which pages of a private mapping this process has written to.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::memfd;

/// Bits of an entry: the page is in memory; it is swapped out; it belongs to the file and is no copy.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

const ENTRY: usize = 8;

/// Entries read at a time.
const PIECE: usize = 4096;

/// Whether all pages of a private file mapping still belong to the file. `None` if the kernel does not tell.
pub(crate) fn is_untouched(start: usize, length: usize) -> Option<bool> {
    let page = memfd::page() as usize;
    let pages = (start / page)..(start + length).div_ceil(page);
    let map = File::open("/proc/self/pagemap").ok()?;
    let mut piece = vec![0; PIECE.min(pages.len()) * ENTRY];
    for first in pages.clone().step_by(PIECE) {
        let count = PIECE.min(pages.end - first);
        let piece = &mut piece[..count * ENTRY];
        map.read_exact_at(piece, (first * ENTRY) as u64).ok()?;
        let touched = piece.chunks_exact(ENTRY).any(|entry| {
            let entry = u64::from_ne_bytes(entry.try_into().expect("eight bytes"));
            entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0
        });
        if touched {
            return Some(false);
        }
    }
    Some(true)
}
