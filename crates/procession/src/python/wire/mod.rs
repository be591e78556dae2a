//! Encodes values in the format of Python's plain data: serde over [`procession_wire`].
//!
//! | Rust | Python |
//! |---|---|
//! | `()`, unit structs, `None` | `None` |
//! | `bool`, all ints, `f32` and `f64` | `bool`, `int`, `float` |
//! | `char`, `str`, unit variants | `str` |
//! | what serialises as bytes ([`Bytes`](super::Bytes)) | `bytes` |
//! | tuples, arrays, tuple structs | `tuple` |
//! | sequences and sets | `list` |
//! | maps, structs | `dict` |
//! | other variants | `{variant: value}` |
//! | newtype structs, `Some` | what they hold |
//!
//! When decoding, lists, tuples and sets are all sequences, `bytes` and `bytearray` also decode as sequences of
//! numbers, and an int decodes as a float.

mod access;
mod compound;
mod deserializer;
mod int;
mod serializer;

use std::any::type_name;
use std::collections::HashMap;
use std::fmt;

use procession_engine::sync;
use procession_wire::{Damaged, Form, Reader, tag};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::transfer::context::{self, Serialising};
use crate::transfer::shared::Object;
use deserializer::Decoder;
use serializer::Writer;

/// Encodes a value as a message.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    context::forget_reason();
    let mut message = Vec::new();
    let serialising = Serialising::next();
    let written = value.serialize(&mut Writer::new(&mut message));
    drop(serialising);
    written.map_err(|error| match context::take_reason() {
        Some(Error::NotSpawning(kind)) => Error::Encode {
            kind,
            reason:
                "between Rust and Python an object is an argument of a process, and in no message"
                    .to_owned(),
        },
        Some(reason) => reason,
        None => Error::Encode {
            kind: type_name::<T>(),
            reason: error.to_string(),
        },
    })?;
    Ok(message)
}

/// Decodes a message.
pub(crate) fn decode<'de, T: Deserialize<'de>>(message: &'de [u8]) -> Result<T, Error> {
    context::forget_reason();
    read(message).map_err(|error| {
        context::take_reason().unwrap_or_else(|| Error::Decode {
            kind: type_name::<T>(),
            reason: error.to_string(),
        })
    })
}

fn read<'de, T: Deserialize<'de>>(message: &'de [u8]) -> Result<T, WireError> {
    if Form::of(message) != Form::Plain {
        return Err(pickled());
    }
    let mut decoder = Decoder::new(message);
    let value = T::deserialize(&mut decoder)?;
    decoder.finish()?;
    Ok(value)
}

/// Returns whether a message holds arguments for a Python function: a tuple or list, a dict with strings as
/// keys, or `None`.
pub(crate) fn is_call(message: &[u8]) -> bool {
    match message.first() {
        Some(&(tag::TUPLE | tag::LIST | tag::NONE)) => true,
        Some(&tag::DICT) => decode::<HashMap<&str, IgnoredAny>>(message).is_ok(),
        _ => false,
    }
}

/// Returns the number of items if the message is a tuple or list.
pub(crate) fn count_items(message: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(message);
    match reader.byte() {
        Ok(tag::TUPLE | tag::LIST | tag::MEMO_TUPLE | tag::MEMO_LIST) => reader.number().ok(),
        _ => None,
    }
}

/// A reason, as text. Boxed, so that results stay small.
#[derive(Debug)]
pub(super) struct WireError(Box<str>);

impl WireError {
    pub(super) fn new(reason: impl fmt::Display) -> WireError {
        WireError(reason.to_string().into())
    }
}

/// Returns the error for a message that only Python can read.
pub(super) fn pickled() -> WireError {
    WireError::new(
        "it is a pickle, which only Python reads; Rust reads None, bool, int, float, str, bytes, and \
         lists, tuples, sets and dicts of these, not nested deeper than 100",
    )
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WireError {}

impl serde::ser::Error for WireError {
    fn custom<T: fmt::Display>(reason: T) -> WireError {
        WireError::new(reason)
    }
}

impl serde::de::Error for WireError {
    fn custom<T: fmt::Display>(reason: T) -> WireError {
        WireError::new(reason)
    }
}

impl From<Damaged> for WireError {
    fn from(damaged: Damaged) -> WireError {
        WireError::new(damaged)
    }
}

/// The newtype name of a [`Queue`](super::Queue)'s handle.
pub(in crate::python) const QUEUE: &str = "procession::python::Queue";

/// Returns the Python kind of the object whose handle has this newtype name, or `None` for other newtypes.
/// Fails for objects that Python does not share.
pub(super) fn kind_for_python(name: &'static str) -> Result<Option<&'static str>, &'static str> {
    let shared = [
        (QUEUE, "Queue"),
        (sync::Event::MARK, "Event"),
        (sync::Lock::MARK, "Lock"),
        (sync::RLock::MARK, "RLock"),
    ];
    match shared.iter().find(|(mark, _)| *mark == name) {
        Some((_, kind)) => Ok(Some(kind)),
        None if is_object(name) => Err(NOT_SHARED),
        None => Ok(None),
    }
}

/// Returns whether a newtype name belongs to an object that Python does not share.
pub(super) fn is_rusts_own(name: &'static str) -> bool {
    kind_for_python(name).is_err()
}

/// The error for such objects.
pub(super) const NOT_SHARED: &str = "Python shares a procession::python::Queue, an Event, a Lock or an RLock with \
     Rust; the contents of other objects are in Rust's own format";

fn is_object(name: &str) -> bool {
    // No type can have such a name.
    name.starts_with("procession::")
}

#[cfg(test)]
mod tests;
