//! The wire format: how Python values become the bytes of a message.
//!
//! A message is one value. `None`, `bool`, `int`, `float`, `str`, `bytes`, `bytearray`, `tuple`,
//! `list`, `dict`, `set` and `frozenset`, all of exactly these types, are written here. A value with
//! anything else inside is pickled whole by `multiprocessing`'s `ForkingPickler`, so that what is
//! registered there is honoured. No registration is missed by writing the exact types here: pickle's
//! C code looks at them first, too.
//!
//! ```text
//! message  'P' pickle-bytes | 'O' a pickle and its large buffers (`apart.rs`) | value | pickle-bytes as they are, which begin with 0x80 and a protocol
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
//! # What holds
//!
//! * What pickle keeps together stays together: a mutable container that is met twice is written once,
//!   cycles included. Immutable values that are large or hold others are not written twice either, so
//!   a message is never much larger than its value. Short strings are written once where that is cheap.
//! * No value nests deeper than [`MAX_DEPTH`], as far as writing, reading or hashing it would recurse.
//!   That counts what references lead to.
//! * The reader takes any bytes: it checks before it allocates, and fails with `UnpicklingError`.

pub mod apart;
mod canonical;
mod decode;
mod enclosure;
mod encode;
mod keys;
mod pickle;
mod reader;
mod seen;
mod tag;
mod varint;

use procession_engine::channel::Message;
use procession_engine::{Held, Lease};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyList;

pub use enclosure::{enclose, is_enclosing};

/// How deep containers may nest; pickle takes what is deeper.
const MAX_DEPTH: usize = 100;

/// Appends the message that carries `obj`, and the shared objects in it to `held`; leaves both as they
/// were if that fails.
///
/// Any Python code may run meanwhile: hold no lock and borrow nothing that it could want.
pub fn encode(
    py: Python<'_>,
    obj: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    held: &mut Vec<Held>,
) -> PyResult<()> {
    let start = out.len();
    if encode::plain(obj, out).is_ok() {
        return Ok(());
    }
    out.truncate(start);
    out.push(tag::PICKLE);
    let (pickled, enclosed) = enclosure::collect(|| pickle::dump(py, obj, out));
    pickled.inspect_err(|_| out.truncate(start))?;
    held.extend(enclosed);
    Ok(())
}

/// As [`encode`], but leaves out the large buffers of a value that is pickled, and returns them: then `out`
/// gets the pickle alone, of which [`apart::write`] makes a message.
pub fn encode_apart(
    py: Python<'_>,
    obj: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    held: &mut Vec<Held>,
) -> PyResult<Vec<PyBuffer<u8>>> {
    let start = out.len();
    if encode::plain(obj, out).is_ok() {
        return Ok(Vec::new());
    }
    out.truncate(start);
    out.push(tag::PICKLE);
    let (pickled, enclosed) = enclosure::collect(|| pickle::dump_apart(py, obj, out));
    let buffers = pickled.inspect_err(|_| out.truncate(start))?;
    if !buffers.is_empty() {
        out.remove(start);
    }
    held.extend(enclosed);
    Ok(buffers)
}

/// Appends the message that carries a plain value; false, and nothing appended, if it is anything else.
pub fn encode_plain(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let written = encode::plain(obj, out).is_ok();
    if !written {
        out.truncate(start);
    }
    written
}

/// Appends the message that carries a value which is equal to another if and only if their messages are;
/// false, and nothing appended, if this cannot be said of it.
pub fn encode_key(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let written = canonical::write(obj, out).is_ok();
    if !written {
        out.truncate(start);
    }
    written
}

/// Begins the message of so many `bytes`, or of a `bytearray`, which are to follow.
pub fn begin_bytes(is_array: bool, length: usize, out: &mut Vec<u8>) {
    out.push(if is_array { tag::BYTEARRAY } else { tag::BYTES });
    varint::write(out, length);
}

/// Appends the items of the list that a message carries to `list`; false, and nothing done, if the message is
/// anything but a plain list.
pub fn decode_onto(bytes: &[u8], list: &Bound<'_, PyList>) -> PyResult<bool> {
    decode::items_onto(bytes, list)
}

/// The value that a received message carries. Its arrays may use the message's memory for as long as they
/// live.
pub fn receive(py: Python<'_>, message: Message) -> PyResult<Bound<'_, PyAny>> {
    match message.bytes() {
        [tag::APART, ..] => apart::load(py, message, Message::lend),
        bytes => decode(py, bytes),
    }
}

/// As [`receive`], of a message that lies in a lease.
pub fn receive_lease(py: Python<'_>, lease: Lease) -> PyResult<Bound<'_, PyAny>> {
    match lease.bytes() {
        [tag::APART, ..] => apart::load(py, lease, Lease::lend),
        bytes => decode(py, bytes),
    }
}

/// The value that a message carries, or the pickle that somebody sent as bytes.
pub fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match bytes {
        [tag::PICKLE, pickled @ ..] => pickle::load(py, pickled),
        [tag::PROTO, 2..=5, _, ..] => pickle::load(py, bytes),
        plain => decode::plain(py, plain),
    }
}
