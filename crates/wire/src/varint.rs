//! Lengths, counts and offsets as unsigned LEB128.

/// Appends `n`, seven bits per byte, lowest first.
#[inline]
pub fn write(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Returns the number at the start of `bytes` and its length in bytes, or `None` when it is cut off or too
/// large.
#[inline]
pub fn read(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut n = 0;
    for (taken, &byte) in bytes.iter().enumerate() {
        let shift = 7 * taken as u32;
        let bits = usize::from(byte & 0x7f);
        if shift >= usize::BITS || bits > usize::MAX >> shift {
            return None;
        }
        n |= bits << shift;
        if byte < 0x80 {
            return Some((n, taken + 1));
        }
    }
    None
}
