//! The wire format: plain values as the bytes of a message.
//!
//! A message is one value. `None`, `bool`, `int`, `float`, `str`, `bytes`, `bytearray`, `tuple`, `list`,
//! `dict`, `set` and `frozenset`, of exactly these types, are encoded here. A value that contains anything else
//! is pickled as a whole, and only Python reads it.
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
//! Lengths, counts and offsets are unsigned LEB128. The tag of a value that some `'r'` refers to is in upper
//! case: the reader memoizes those values and no others. The writer learns of a reference only later, and goes
//! back to change the letter.
//!
//! This crate has what both languages share: the [tags](tag), the [lengths](varint), and a [cursor](Reader)
//! that never leaves a message. Converting values is left to each language's crate.

#![forbid(unsafe_code)]

mod form;
mod reader;
pub mod tag;
pub mod varint;

pub use form::Form;
pub use reader::{Damaged, Reader};

/// How deep containers may nest, because writing, reading and hashing recurse. Nesting through references
/// counts.
pub const MAX_DEPTH: usize = 100;
