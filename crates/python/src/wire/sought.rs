//! A value that is looked for among encoded ones: most of them need not be decoded to see that they are not it.

use procession_wire::{Reader, tag};
use pyo3::prelude::*;
use pyo3::types::PyFloat;

use super::canonical;

/// What the bytes of a value tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is equal to what is sought.
    Equal,
    /// It is not.
    Different,
    /// The objects have to be compared.
    Unsure,
}

/// What is sought.
#[derive(Debug)]
pub enum Sought {
    /// The bytes of a value of canonical types: those of equal ones are the same.
    Canonical(Vec<u8>),
    /// A float.
    Float(f64),
    /// Anything else.
    Other,
}

impl Sought {
    /// Looks at the value once.
    pub fn new(value: &Bound<'_, PyAny>) -> Sought {
        if let Ok(float) = value.cast_exact::<PyFloat>() {
            return Sought::Float(float.value());
        }
        let mut bytes = Vec::new();
        match canonical::write(value, &mut bytes) {
            Ok(()) => Sought::Canonical(bytes),
            Err(_) => Sought::Other,
        }
    }

    /// Whether it is the value with these bytes.
    #[inline]
    pub fn compare(&self, bytes: &[u8]) -> Verdict {
        match self {
            Sought::Canonical(sought) if sought == bytes => Verdict::Equal,
            Sought::Canonical(_) if is_canonical(bytes) => Verdict::Different,
            Sought::Float(sought) => compare_float(*sought, bytes),
            _ => Verdict::Unsure,
        }
    }
}

fn compare_float(sought: f64, bytes: &[u8]) -> Verdict {
    match bytes {
        [tag::FLOAT, float @ ..] => match <[u8; 8]>::try_from(float) {
            Ok(float) if f64::from_le_bytes(float) == sought => Verdict::Equal,
            Ok(_) => Verdict::Different,
            Err(_) => Verdict::Unsure,
        },
        [tag::STR | tag::BYTES | tag::NONE, ..] => Verdict::Different,
        _ => Verdict::Unsure,
    }
}

/// Whether these are the bytes of a value whose equals all have the same.
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

/// Walks over tuples and what is in them; `None` at the first value that is no such one.
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
