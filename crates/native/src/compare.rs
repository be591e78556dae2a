//! Whether an object's memory holds what it held before.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

/// How much is looked at in one piece: it stays in the processor's cache.
const STRIDE: usize = 4096;

/// Whether a buffer in one piece has these bytes.
pub fn is_equal(_py: Python<'_>, buffer: &PyBuffer<u8>, bytes: &[u8]) -> bool {
    if buffer.len_bytes() != bytes.len() || !buffer.is_c_contiguous() {
        return false;
    }
    let start = buffer.buf_ptr().cast::<u8>().cast_const();
    let mut piece = [0; STRIDE];
    bytes.chunks(STRIDE).enumerate().all(|(index, expected)| {
        let piece = &mut piece[..expected.len()];
        // SAFETY: the buffer is as long as `bytes`, and stays where it is for as long as it is exported. It is
        // copied, and so never taken for memory that nobody changes.
        unsafe {
            let from = start.add(index * STRIDE);
            std::ptr::copy_nonoverlapping(from, piece.as_mut_ptr(), piece.len());
        }
        piece == expected
    })
}
