//! The wire format: how plain values become the bytes of a message.
//!
//! A message is one value. `None`, `bool`, `int`, `float`, `str`, `bytes`, `bytearray`, `tuple`,
//! `list`, `dict`, `set` and `frozenset`, all of exactly these types, are written here. A value with
//! anything else inside is pickled whole, which only Python reads.
//!
//! ```text
//! message  'P' pickle-bytes | 'O' a pickle and its large buffers | value | pickle-bytes as they are, which begin with 0x80 and a protocol
//! value    0x80..=0xff                     the ints 0..=127
//!          '1' '2' '4' '8'  bytes          a signed int of that many bytes, little endian
//!          'i' length bytes                any other int: two's complement, little endian
//!          'n' 't' 'f'                     None, True, False
//!          'd' 8 bytes                     a float's bits, little endian
//!          's' 'b' 'y'  length bytes       str (UTF-8), bytes, bytearray
//!          'u' 'l' 'e' 'z'  count values   tuple, list, set, frozenset
//!          'm' count (key value)*          dict
//!          'r' offset                      the value whose tag is at that offset, once more
//! ```
//!
//! Lengths, counts and offsets are unsigned LEB128. A tag that some `'r'` points at is in upper case:
//! the reader keeps those values and no others. The writer learns of it late, and goes back to change
//! the letter.
//!
//! What is here is what both fronts share: the [tags](tag), the [lengths](varint), and the
//! [cursor](Reader) that never leaves a message. What becomes of a value is a front's business.

mod form;
mod reader;
pub mod tag;
pub mod varint;

pub use form::Form;
pub use reader::{Damaged, Reader};

/// How deep containers may nest, as far as writing, reading or hashing would recurse. That counts what
/// references lead to.
pub const MAX_DEPTH: usize = 100;
