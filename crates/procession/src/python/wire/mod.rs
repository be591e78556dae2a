//! Values in the form that Python's plain data travels in: serde over [`procession_wire`].
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
//! In the other direction lists, tuples and sets are all sequences, `bytes` and `bytearray` may be taken for
//! sequences of numbers, and an int for a float.

mod access;
mod compound;
mod deserializer;
mod error;
mod int;
mod serializer;

use std::any::type_name;
use std::collections::HashMap;

use procession_wire::{Form, Reader, tag};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::handing::{self, Serialising};
use deserializer::Decoder;
use serializer::Writer;

/// The message of a value.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    handing::forget_reason();
    let mut message = Vec::new();
    let serialising = Serialising::next();
    let written = value.serialize(&mut Writer::onto(&mut message));
    drop(serialising);
    written.map_err(|error| match handing::take_reason() {
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

/// The value of a message.
pub(crate) fn decode<'de, T: Deserialize<'de>>(message: &'de [u8]) -> Result<T, Error> {
    handing::forget_reason();
    read(message).map_err(|error| {
        handing::take_reason().unwrap_or_else(|| Error::Decode {
            kind: type_name::<T>(),
            reason: error.to_string(),
        })
    })
}

fn read<'de, T: Deserialize<'de>>(message: &'de [u8]) -> Result<T, error::WireError> {
    if Form::of(message) != Form::Plain {
        return Err(error::pickled());
    }
    let mut decoder = Decoder::new(message);
    let value = T::deserialize(&mut decoder)?;
    decoder.finish()?;
    Ok(value)
}

/// Whether a message is what a Python function can be called with: a tuple or list, a dict with names for
/// keys, or nothing.
pub(crate) fn is_call(message: &[u8]) -> bool {
    match message.first() {
        Some(&(tag::TUPLE | tag::LIST | tag::NONE)) => true,
        Some(&tag::DICT) => decode::<HashMap<&str, IgnoredAny>>(message).is_ok(),
        _ => false,
    }
}

/// How many items the tuple or list has that a message is; `None` if it is neither.
pub(crate) fn count_items(message: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(message);
    match reader.byte() {
        Ok(tag::TUPLE | tag::LIST | tag::KEPT_TUPLE | tag::KEPT_LIST) => reader.number().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
