//! The wire format: how Python values become the bytes of a message.
//!
//! [`procession_wire`] defines the format. A value that is not plain there is pickled as a whole by `multiprocessing`'s
//! `ForkingPickler`, so that its registered reducers apply. Encoding exact built-in types here skips no reducer, because
//! pickle's C code also handles these types before it looks for one. The large buffers of a pickle are stored beside it
//! (`out_of_band.rs`).
//!
//! # Invariants
//!
//! * Identity is kept as pickle keeps it: a mutable container that occurs twice is written once, also in cycles. An
//!   immutable value that is large or contains others is written once too, so a message is never much larger than its
//!   value. Short strings are written once where that is cheap.
//! * No message nests deeper than [`procession_wire::MAX_DEPTH`]. Pickle encodes deeper values, and values that are too
//!   deep for the stack of the thread. The reader continues on the heap where the stack ends.
//! * The reader accepts any bytes. It checks sizes before it allocates, and fails with `UnpicklingError`.

mod attachments;
mod canonical;
mod decode;
mod encode;
mod error;
mod key_cache;
mod memo;
pub mod message;
pub mod out_of_band;
mod pickle;

use procession_engine::channel::Message;
use procession_engine::{BorrowedBuffer, CowBuffer, ObjectRef, stack};
use procession_wire::{Form, tag, varint};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

pub use attachments::{attach_to_message, is_pickling_message};
pub use canonical::{Comparison, Needle};
pub use out_of_band::OutOfBand;

/// Up to this depth the stack is not checked: sending and receiving use more of it anyway.
const SHALLOW: usize = 2;

/// Returns whether a container at this depth is too deep to be written, or read, by recursion.
#[inline]
fn is_too_deep_for_stack(depth: usize) -> bool {
    depth >= SHALLOW && stack::is_low()
}

/// Appends the message of `obj` to `out`, and the shared objects in it to `attachments`. Leaves both unchanged if that
/// fails.
///
/// This can run any Python code: hold no lock and no borrow that such code could need.
pub fn encode(
    py: Python<'_>,
    obj: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    attachments: &mut Vec<ObjectRef>,
) -> PyResult<()> {
    let start = out.len();
    let buffers = encode_out_of_band(py, obj, out, attachments)?;
    if !buffers.is_empty() {
        out_of_band::write_here(py, &buffers, out, start)?;
    }
    Ok(())
}

/// Like [`encode`], but leaves out and returns the large buffers of a pickled value.
///
/// If there are any, `out` gets the pickle alone, and [`out_of_band::write`] completes the message.
pub fn encode_out_of_band(
    py: Python<'_>,
    obj: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    attachments: &mut Vec<ObjectRef>,
) -> PyResult<Vec<OutOfBand>> {
    let start = out.len();
    if encode::plain(obj, out).is_ok() {
        return Ok(Vec::new());
    }
    out.truncate(start);
    out.push(tag::PICKLE);
    let (pickled, attached) = attachments::collect(|| pickle::dump_out_of_band(py, obj, out));
    let buffers = pickled.inspect_err(|_| out.truncate(start))?;
    if !buffers.is_empty() {
        out.remove(start);
    }
    attachments.extend(attached);
    Ok(buffers)
}

/// Appends the message of a plain value. Returns false, and appends nothing, for any other value.
pub fn encode_plain(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let written = encode::plain(obj, out).is_ok();
    if !written {
        out.truncate(start);
    }
    written
}

/// Appends the message of a canonical value: two of them are equal if and only if their messages are.
///
/// Returns false, and appends nothing, for any other value.
pub fn encode_key(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let written = canonical::write(obj, out).is_ok();
    if !written {
        out.truncate(start);
    }
    written
}

/// Appends the head of the message of a `bytes` or `bytearray`; its `length` bytes follow.
pub fn begin_bytes(is_array: bool, length: usize, out: &mut Vec<u8>) {
    out.push(if is_array { tag::BYTEARRAY } else { tag::BYTES });
    varint::write(out, length);
}

/// Appends the items of the list in a message to `list`. Returns false, and does nothing, if the message is not a plain
/// list.
pub fn decode_into(bytes: &[u8], list: &Bound<'_, PyList>) -> PyResult<bool> {
    decode::items_onto(bytes, list)
}

/// Decodes a received message. Large arrays use the memory of the message, which lives as long as they do.
///
/// Raises `RuntimeError` in a child forked after the message was received.
pub fn receive(py: Python<'_>, message: Message) -> PyResult<Bound<'_, PyAny>> {
    if !message.is_mine() {
        return Err(not_the_childs());
    }
    match Form::of(message.bytes()) {
        Form::OutOfBand => out_of_band::load(py, message, Message::lend).map(|(value, _)| value),
        _ => decode(py, message.bytes()),
    }
}

/// The message is the parent's, which may free it at any time.
#[cold]
pub fn not_the_childs() -> PyErr {
    PyRuntimeError::new_err("a forked child cannot use a message that its parent received")
}

/// Does what [`receive`] does, for a message in a copy-on-write buffer. Also returns its memory, if the value uses it.
pub fn receive_cow(
    py: Python<'_>,
    cow: CowBuffer,
) -> PyResult<(Bound<'_, PyAny>, Option<BorrowedBuffer>)> {
    match Form::of(cow.bytes()) {
        Form::OutOfBand => out_of_band::load(py, cow, CowBuffer::lend),
        _ => Ok((decode(py, cow.bytes())?, None)),
    }
}

/// Decodes a message, or a bare pickle that was sent as bytes.
pub fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match Form::of(bytes) {
        Form::Pickle(pickled) => pickle::load(py, pickled),
        Form::OutOfBand => out_of_band::load_copied(py, bytes),
        _ => decode::plain(py, bytes),
    }
}
