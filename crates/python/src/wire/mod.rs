//! The wire format: how Python values become the bytes of a message.
//!
//! The format is [`procession_wire`]'s. What is not plain there is pickled whole by `multiprocessing`'s
//! `ForkingPickler`, so that what is registered there is honoured. No registration is missed by writing the
//! exact types here: pickle's C code looks at them first, too. A pickle's large buffers lie beside it
//! (`apart.rs`).
//!
//! # What holds
//!
//! * What pickle keeps together stays together: a mutable container that is met twice is written once,
//!   cycles included. Immutable values that are large or hold others are not written twice either, so
//!   a message is never much larger than its value. Short strings are written once where that is cheap.
//! * No value nests deeper than [`procession_wire::MAX_DEPTH`]; pickle takes what is deeper, or deeper than the
//!   thread's stack has room for. The reader does without the stack then.
//! * The reader takes any bytes: it checks before it allocates, and fails with `UnpicklingError`.

pub mod apart;
mod canonical;
mod decode;
mod enclosure;
mod encode;
mod fault;
mod keys;
mod pickle;
mod seen;
mod sought;

use procession_engine::channel::Message;
use procession_engine::{Held, Lease, Lending, stack};
use procession_wire::{Form, tag, varint};
use pyo3::prelude::*;
use pyo3::types::PyList;

pub use apart::Beside;
pub use enclosure::{enclose, is_enclosing};
pub use sought::{Sought, Verdict};

/// Up to this depth nobody looks at the stack: what sends and receives takes more of it.
const SHALLOW: usize = 2;

/// Whether a container at that depth had better not be written, or read, by recursion.
#[inline]
fn is_too_deep_for_stack(depth: usize) -> bool {
    depth >= SHALLOW && stack::is_low()
}

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
    let buffers = encode_apart(py, obj, out, held)?;
    if !buffers.is_empty() {
        apart::write_here(py, &buffers, out, start)?;
    }
    Ok(())
}

/// As [`encode`], but leaves out the large buffers of a value that is pickled, and returns them: then `out`
/// gets the pickle alone, of which [`apart::write`] makes a message.
pub fn encode_apart(
    py: Python<'_>,
    obj: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    held: &mut Vec<Held>,
) -> PyResult<Vec<Beside>> {
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
    match Form::of(message.bytes()) {
        Form::OutOfBand => apart::load(py, message, Message::lend).map(|(value, _)| value),
        _ => decode(py, message.bytes()),
    }
}

/// As [`receive`], of a message that lies in a lease. Also the memory of it that the value uses.
pub fn receive_lease(
    py: Python<'_>,
    lease: Lease,
) -> PyResult<(Bound<'_, PyAny>, Option<Lending>)> {
    match Form::of(lease.bytes()) {
        Form::OutOfBand => apart::load(py, lease, Lease::lend),
        _ => Ok((decode(py, lease.bytes())?, None)),
    }
}

/// The value that a message carries, or the pickle that somebody sent as bytes.
pub fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match Form::of(bytes) {
        Form::Pickle(pickled) => pickle::load(py, pickled),
        Form::OutOfBand => apart::load_copied(py, bytes),
        _ => decode::plain(py, bytes),
    }
}
