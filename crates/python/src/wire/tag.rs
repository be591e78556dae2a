//! The bytes that values begin with.

pub(super) const PICKLE: u8 = b'P';
/// A pickle whose large buffers lie behind it.
pub(super) const APART: u8 = b'O';
/// What a pickle begins with; as a message of one byte it is the int 0.
pub(super) const PROTO: u8 = 0x80;

/// Set in a byte that is a small int by itself.
pub(super) const SMALL_INT: u8 = 0x80;
pub(super) const INT_8: u8 = b'1';
pub(super) const INT_16: u8 = b'2';
pub(super) const INT_32: u8 = b'4';
pub(super) const INT_64: u8 = b'8';
pub(super) const BIG_INT: u8 = b'i';

pub(super) const NONE: u8 = b'n';
pub(super) const TRUE: u8 = b't';
pub(super) const FALSE: u8 = b'f';
pub(super) const FLOAT: u8 = b'd';

pub(super) const STR: u8 = b's';
pub(super) const BYTES: u8 = b'b';
pub(super) const BYTEARRAY: u8 = b'y';
pub(super) const TUPLE: u8 = b'u';
pub(super) const LIST: u8 = b'l';
pub(super) const DICT: u8 = b'm';
pub(super) const SET: u8 = b'e';
pub(super) const FROZENSET: u8 = b'z';

pub(super) const AGAIN: u8 = b'r';

/// The tag of a value that is referred to later on.
pub(super) const fn kept(tag: u8) -> u8 {
    tag.to_ascii_uppercase()
}

pub(super) const KEPT_STR: u8 = kept(STR);
pub(super) const KEPT_BYTES: u8 = kept(BYTES);
pub(super) const KEPT_BYTEARRAY: u8 = kept(BYTEARRAY);
pub(super) const KEPT_TUPLE: u8 = kept(TUPLE);
pub(super) const KEPT_LIST: u8 = kept(LIST);
pub(super) const KEPT_DICT: u8 = kept(DICT);
pub(super) const KEPT_SET: u8 = kept(SET);
pub(super) const KEPT_FROZENSET: u8 = kept(FROZENSET);
