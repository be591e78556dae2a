//! Canonical values, which are equal if and only if their bytes are, and a search among encoded values.
//!
//! The search compares bytes where it can, and so decodes few values.

use procession_wire::{MAX_DEPTH, Reader, tag, varint};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyString, PyTuple};

use super::encode::{self, NeedsPickle};

/// Appends the bytes of a `str`, `bytes`, `int`, `None` or a tuple of such, all of exactly these types.
///
/// Equal values of these types have equal bytes. Other values (`1` and `True`, `1` and `1.0`) can be equal and have
/// different bytes.
pub(super) fn write(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<(), NeedsPickle> {
    nested(obj, out, MAX_DEPTH)
}

fn nested(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Result<(), NeedsPickle> {
    let is_atom = obj.is_exact_instance_of::<PyString>()
        || obj.is_exact_instance_of::<PyInt>()
        || obj.is_exact_instance_of::<PyBytes>()
        || obj.is_none();
    if is_atom {
        return encode::plain(obj, out);
    }
    let tuple = match obj.cast_exact::<PyTuple>() {
        Ok(tuple) if depth > 0 => tuple,
        _ => return Err(NeedsPickle),
    };
    out.push(tag::TUPLE);
    varint::write(out, tuple.len());
    tuple
        .iter_borrowed()
        .try_for_each(|item| nested(&item, out, depth - 1))
}

/// The result of comparing the bytes of a value with a needle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The values are equal.
    Equal,
    /// The values differ.
    Different,
    /// The bytes do not tell: compare the objects.
    Unsure,
}

/// The value to search for.
#[derive(Debug)]
pub enum Needle {
    /// The bytes of a canonical value.
    Canonical(Vec<u8>),
    /// A float.
    Float(f64),
    /// Anything else.
    Other,
}

impl Needle {
    /// Prepares a search for `value`.
    pub fn new(value: &Bound<'_, PyAny>) -> Needle {
        if let Ok(float) = value.cast_exact::<PyFloat>() {
            return Needle::Float(float.value());
        }
        let mut bytes = Vec::new();
        match write(value, &mut bytes) {
            Ok(()) => Needle::Canonical(bytes),
            Err(_) => Needle::Other,
        }
    }

    /// Compares it with the value that has these bytes.
    #[inline]
    pub fn compare(&self, bytes: &[u8]) -> Comparison {
        match self {
            Needle::Canonical(needle) if needle == bytes => Comparison::Equal,
            Needle::Canonical(_) if is_canonical(bytes) => Comparison::Different,
            Needle::Float(needle) => compare_float(*needle, bytes),
            _ => Comparison::Unsure,
        }
    }
}

fn compare_float(needle: f64, bytes: &[u8]) -> Comparison {
    match bytes {
        [tag::FLOAT, float @ ..] => match <[u8; 8]>::try_from(float) {
            Ok(float) if f64::from_le_bytes(float) == needle => Comparison::Equal,
            Ok(_) => Comparison::Different,
            Err(_) => Comparison::Unsure,
        },
        [tag::STR | tag::BYTES | tag::NONE, ..] => Comparison::Different,
        _ => Comparison::Unsure,
    }
}

/// Returns whether these are the bytes of a canonical value.
#[inline]
fn is_canonical(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(&tag::TUPLE) => all_canonical(&mut Reader::new(bytes)).is_some(),
        Some(&first) => is_canonical_atom(first),
        None => false,
    }
}

fn is_canonical_atom(first: u8) -> bool {
    first & tag::SMALL_INT != 0
        || matches!(
            first,
            tag::INT_8 | tag::INT_16 | tag::INT_32 | tag::INT_64 | tag::BIG_INT
        )
        || matches!(first, tag::STR | tag::BYTES | tag::NONE)
}

/// Reads a value, tuples included. Returns `None` at the first value that is not canonical.
fn all_canonical(reader: &mut Reader<'_>) -> Option<()> {
    let mut left = 1_usize;
    while left > 0 {
        left -= 1;
        match reader.byte().ok()? {
            tag::TUPLE => left = left.checked_add(reader.number().ok()?)?,
            tag::INT_8 => drop(reader.array::<1>().ok()?),
            tag::INT_16 => drop(reader.array::<2>().ok()?),
            tag::INT_32 => drop(reader.array::<4>().ok()?),
            tag::INT_64 => drop(reader.array::<8>().ok()?),
            tag::BIG_INT | tag::STR | tag::BYTES => drop(reader.blob().ok()?),
            first if is_canonical_atom(first) => {}
            _ => return None,
        }
    }
    Some(())
}
