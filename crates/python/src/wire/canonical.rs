//! Values that are equal exactly if their bytes are.

use procession_wire::{MAX_DEPTH, tag, varint};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};

use super::encode::{self, Foreign};

/// Appends the bytes of a `str`, `bytes`, `int`, `None` or tuple of such, all of exactly these types. Equal
/// values of them have the same bytes, others (`1` and `True`, `1` and `1.0`) may be equal and have not.
pub(super) fn write(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<(), Foreign> {
    nested(obj, out, MAX_DEPTH)
}

fn nested(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Result<(), Foreign> {
    let is_atom = obj.is_exact_instance_of::<PyString>()
        || obj.is_exact_instance_of::<PyInt>()
        || obj.is_exact_instance_of::<PyBytes>()
        || obj.is_none();
    if is_atom {
        return encode::plain(obj, out);
    }
    let tuple = match obj.cast_exact::<PyTuple>() {
        Ok(tuple) if depth > 0 => tuple,
        _ => return Err(Foreign),
    };
    out.push(tag::TUPLE);
    varint::write(out, tuple.len());
    tuple
        .iter_borrowed()
        .try_for_each(|item| nested(&item, out, depth - 1))
}
