//! The first byte of each value.

/// A pickle follows.
pub const PICKLE: u8 = b'P';
/// A pickle followed by its large buffers.
pub const OUT_OF_BAND: u8 = b'O';
/// The first byte of a pickle. Alone, as a message of one byte, it is the int 0.
pub const PROTO: u8 = 0x80;

/// Set in a byte that is a small int.
pub const SMALL_INT: u8 = 0x80;
/// A signed int of 8 bits.
pub const INT_8: u8 = b'1';
/// A signed int of 16 bits.
pub const INT_16: u8 = b'2';
/// A signed int of 32 bits.
pub const INT_32: u8 = b'4';
/// A signed int of 64 bits.
pub const INT_64: u8 = b'8';
/// An int of any length.
pub const BIG_INT: u8 = b'i';

/// `None`
pub const NONE: u8 = b'n';
/// `True`
pub const TRUE: u8 = b't';
/// `False`
pub const FALSE: u8 = b'f';
/// A float.
pub const FLOAT: u8 = b'd';

/// A `str`.
pub const STR: u8 = b's';
/// A `bytes`.
pub const BYTES: u8 = b'b';
/// A `bytearray`.
pub const BYTEARRAY: u8 = b'y';
/// A `tuple`.
pub const TUPLE: u8 = b'u';
/// A `list`.
pub const LIST: u8 = b'l';
/// A `dict`.
pub const DICT: u8 = b'm';
/// A `set`.
pub const SET: u8 = b'e';
/// A `frozenset`.
pub const FROZENSET: u8 = b'z';

/// A back-reference to an earlier value.
pub const BACKREF: u8 = b'r';

/// Returns the tag of a value that a back-reference points to.
pub const fn memo(tag: u8) -> u8 {
    tag.to_ascii_uppercase()
}

/// Like [`STR`], for a value that a back-reference points to.
pub const MEMO_STR: u8 = memo(STR);
/// Like [`BYTES`], for a value that a back-reference points to.
pub const MEMO_BYTES: u8 = memo(BYTES);
/// Like [`BYTEARRAY`], for a value that a back-reference points to.
pub const MEMO_BYTEARRAY: u8 = memo(BYTEARRAY);
/// Like [`TUPLE`], for a value that a back-reference points to.
pub const MEMO_TUPLE: u8 = memo(TUPLE);
/// Like [`LIST`], for a value that a back-reference points to.
pub const MEMO_LIST: u8 = memo(LIST);
/// Like [`DICT`], for a value that a back-reference points to.
pub const MEMO_DICT: u8 = memo(DICT);
/// Like [`SET`], for a value that a back-reference points to.
pub const MEMO_SET: u8 = memo(SET);
/// Like [`FROZENSET`], for a value that a back-reference points to.
pub const MEMO_FROZENSET: u8 = memo(FROZENSET);
