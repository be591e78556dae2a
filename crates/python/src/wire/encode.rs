//! The writer of plain values.

use std::ops::Range;

use procession_wire::{MAX_DEPTH, tag, varint};
use pyo3::PyTypeInfo;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString,
    PyTuple,
};

use super::seen::{Met, Place, RecentStrings, Seen};
use super::{is_too_deep_for_stack, pickle};

/// From this size on a string or bytes object that may be met again is remembered for certain.
const LARGE: usize = 64;
/// Below this size a reference would be no shorter than the string.
const TINY: usize = 2;

/// Lists of these lengths are copied to a tuple first, whose items need not be owned one by one.
const SNAPSHOT: Range<usize> = 32..1 << 20;

/// There is something in the value that only pickle can write.
#[derive(Debug)]
pub(super) struct Foreign;

impl From<PyErr> for Foreign {
    /// Pickle will meet the same error, or know better.
    fn from(_: PyErr) -> Self {
        Foreign
    }
}

type Written = Result<(), Foreign>;

/// Whether a container can hold itself, or can be hashed.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Mutable,
    Hashable,
}

/// Appends the message of a plain value; if it is not plain, leaves a piece of one.
pub(super) fn plain(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Written {
    Writer {
        start: out.len(),
        out,
        root: obj,
        depth: 0,
        height: 0,
        seen: Seen::default(),
        strings: RecentStrings::default(),
    }
    .value(obj, isize::MAX as usize)
}

struct Writer<'a, 'py> {
    out: &'a mut Vec<u8>,
    /// Where in `out` the message starts.
    start: usize,
    /// Not in `seen`: nearly every root is referred to elsewhere, nearly none by its own items.
    root: &'a Bound<'py, PyAny>,
    depth: usize,
    /// How high the hashable containers are that were written since the innermost open one began.
    height: usize,
    seen: Seen<'py>,
    strings: RecentStrings,
}

/// `obj` as a `T`, unless it is anything else, a subclass included.
#[inline]
fn exact<'a, 'py, T: PyTypeInfo>(obj: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, T>> {
    // A failed `cast_exact` builds an error, so ask first.
    if obj.is_exact_instance_of::<T>() {
        obj.cast_exact().ok()
    } else {
        None
    }
}

/// Whether anything refers to `obj` besides its container and the `held` references of ours.
#[inline]
#[expect(
    deprecated,
    reason = "what replaces it is unsafe, and this crate has no unsafe code"
)]
fn may_be_met_again(obj: &Bound<'_, PyAny>, held: usize) -> bool {
    // Some interpreters keep flags in the upper half; a count that looks too large does no harm.
    obj.get_refcnt() as usize > held + 1
}

/// Which way.
impl<'py> Writer<'_, 'py> {
    /// Writes a value to which we hold `held` references.
    #[inline]
    fn value(&mut self, obj: &Bound<'py, PyAny>, held: usize) -> Written {
        if obj.is_exact_instance_of::<PyInt>() {
            self.int(obj)
        } else if let Some(string) = exact::<PyString>(obj) {
            self.string(string, held)
        } else {
            self.neither_int_nor_string(obj, held)
        }
    }

    fn neither_int_nor_string(&mut self, obj: &Bound<'py, PyAny>, held: usize) -> Written {
        if obj.is_none() {
            self.out.push(tag::NONE);
        } else if let Some(float) = exact::<PyFloat>(obj) {
            self.float(float.value());
        } else if let Some(truth) = exact::<PyBool>(obj) {
            self.out.push(if truth.is_true() {
                tag::TRUE
            } else {
                tag::FALSE
            });
        } else if let Some(bytes) = exact::<PyBytes>(obj) {
            self.bytes(bytes, held);
        } else if let Some(dict) = exact::<PyDict>(obj) {
            self.nested(obj, held, Kind::Mutable, |writer| writer.dict(dict))?;
        } else if let Some(list) = exact::<PyList>(obj) {
            self.nested(obj, held, Kind::Mutable, |writer| writer.list(list))?;
        } else if let Some(tuple) = exact::<PyTuple>(obj) {
            self.tuple(tuple, held)?;
        } else if obj.is_exact_instance_of::<PySet>() {
            self.nested(obj, held, Kind::Mutable, |writer| writer.set(tag::SET, obj))?;
        } else if obj.is_exact_instance_of::<PyFrozenSet>() {
            self.nested(obj, held, Kind::Hashable, |writer| {
                writer.set(tag::FROZENSET, obj)
            })?;
        } else if obj.is_exact_instance_of::<PyByteArray>() {
            self.nested(obj, held, Kind::Mutable, |writer| writer.bytearray(obj))?;
        } else {
            return Err(Foreign);
        }
        Ok(())
    }
}

/// Atoms.
impl<'py> Writer<'_, 'py> {
    fn int(&mut self, obj: &Bound<'py, PyAny>) -> Written {
        let Ok(n) = obj.extract::<i64>() else {
            return self.big_int(obj);
        };
        match n {
            0..=127 => self.out.push(tag::SMALL_INT | n as u8),
            -0x80..=0x7f => self.number(tag::INT_8, (n as i8).to_le_bytes()),
            -0x8000..=0x7fff => self.number(tag::INT_16, (n as i16).to_le_bytes()),
            -0x8000_0000..=0x7fff_ffff => self.number(tag::INT_32, (n as i32).to_le_bytes()),
            _ => self.number(tag::INT_64, n.to_le_bytes()),
        }
        Ok(())
    }

    fn float(&mut self, value: f64) {
        self.number(tag::FLOAT, value.to_bits().to_le_bytes());
    }

    #[inline]
    fn number<const N: usize>(&mut self, tag: u8, bytes: [u8; N]) {
        self.out.reserve(1 + N);
        self.out.push(tag);
        self.out.extend_from_slice(&bytes);
    }

    #[cold]
    fn big_int(&mut self, obj: &Bound<'py, PyAny>) -> Written {
        let py = obj.py();
        let bits: usize = obj.call_method0(intern!(py, "bit_length"))?.extract()?;
        let signed = PyDict::new(py);
        signed.set_item(intern!(py, "signed"), true)?;
        let digits = (bits / 8 + 1, intern!(py, "little"));
        let digits = obj.call_method(intern!(py, "to_bytes"), digits, Some(&signed))?;
        let digits = exact::<PyBytes>(&digits).ok_or(Foreign)?;
        self.blob(tag::BIG_INT, digits.as_bytes());
        self.python_ran();
        Ok(())
    }

    fn string(&mut self, string: &Bound<'py, PyString>, held: usize) -> Written {
        let content = if may_be_met_again(string, held) {
            if let Some(offset) = self.strings.find(string) {
                self.again(offset);
                return Ok(());
            }
            let content = string.to_str()?.as_bytes();
            match content.len() {
                0..TINY => {}
                TINY..LARGE => self.strings.note(string, self.offset()),
                LARGE.. if self.repeated(string) => return Ok(()),
                LARGE.. => {}
            }
            content
        } else {
            string.to_str()?.as_bytes()
        };
        self.blob(tag::STR, content);
        Ok(())
    }

    fn bytes(&mut self, bytes: &Bound<'py, PyBytes>, held: usize) {
        let content = bytes.as_bytes();
        if content.len() < LARGE || !may_be_met_again(bytes, held) || !self.repeated(bytes) {
            self.blob(tag::BYTES, content);
        }
    }

    /// Refers to an atom if it was written before; else remembers that it is written now.
    #[cold]
    fn repeated(&mut self, atom: &Bound<'py, PyAny>) -> bool {
        match self.seen.meet(atom, self.offset()) {
            Met::New(place) => self.seen.finish(place, 0),
            Met::Before { offset, .. } => {
                self.again(offset);
                return true;
            }
            Met::Unfinished => {}
        }
        false
    }

    #[inline]
    fn blob(&mut self, tag: u8, content: &[u8]) {
        self.out.push(tag);
        varint::write(self.out, content.len());
        self.out.extend_from_slice(content);
    }
}

/// Containers: the items.
impl<'py> Writer<'_, 'py> {
    fn list(&mut self, list: &Bound<'py, PyList>) -> Written {
        let count = list.len();
        self.head(tag::LIST, count);
        if SNAPSHOT.contains(&count) {
            let snapshot = list.to_tuple();
            self.python_ran();
            return snapshot
                .iter_borrowed()
                .try_for_each(|item| self.value(&item, 1));
        }
        for index in 0..count {
            self.value(&list.get_item(index)?, 1)?;
        }
        Ok(())
    }

    fn tuple(&mut self, tuple: &Bound<'py, PyTuple>, held: usize) -> Written {
        if tuple.is_empty() {
            // There is only one, and everything refers to it.
            self.head(tag::TUPLE, 0);
            return Ok(());
        }
        self.nested(tuple, held, Kind::Hashable, |writer| {
            writer.head(tag::TUPLE, tuple.len());
            tuple
                .iter_borrowed()
                .try_for_each(|item| writer.value(&item, 0))
        })
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>) -> Written {
        let count = dict.len();
        self.head(tag::DICT, count);
        let mut items = dict.iter();
        for _ in 0..count {
            // A finalizer may have changed the dict meanwhile, and then the iterator would panic.
            if dict.len() != count {
                return Err(Foreign);
            }
            let (key, value) = items.next().ok_or(Foreign)?;
            self.value(&key, 1)?;
            self.value(&value, 1)?;
        }
        Ok(())
    }

    fn set(&mut self, tag: u8, set: &Bound<'py, PyAny>) -> Written {
        let count = set.len()?;
        self.head(tag, count);
        let mut items = set.try_iter()?;
        self.python_ran();
        for _ in 0..count {
            self.value(&items.next().ok_or(Foreign)??, 1)?;
        }
        Ok(())
    }

    fn bytearray(&mut self, bytearray: &Bound<'py, PyAny>) -> Written {
        self.head(tag::BYTEARRAY, bytearray.len()?);
        pickle::append_buffer(bytearray, self.out)?;
        Ok(())
    }

    #[inline]
    fn head(&mut self, tag: u8, count: usize) {
        self.out.push(tag);
        varint::write(self.out, count);
    }

    /// Allocating a tracked object may collect garbage, whose finalizers are any Python code.
    fn python_ran(&mut self) {
        self.strings.forget(self.offset());
    }
}

/// Containers: sharing, cycles and depth.
impl<'py> Writer<'_, 'py> {
    #[inline]
    fn nested(
        &mut self,
        obj: &Bound<'py, PyAny>,
        held: usize,
        kind: Kind,
        write: impl FnOnce(&mut Self) -> Written,
    ) -> Written {
        let mut place = None;
        if may_be_met_again(obj, held) {
            place = self.meet(obj, kind)?;
            if place.is_none() {
                return Ok(());
            }
        }
        if self.depth == MAX_DEPTH || is_too_deep_for_stack(self.depth) {
            return Err(Foreign);
        }
        self.depth += 1;
        let around = std::mem::take(&mut self.height);
        write(self)?;
        self.depth -= 1;
        self.height = match kind {
            Kind::Mutable => around,
            Kind::Hashable => {
                let height = self.height + 1;
                if let Some(place) = place {
                    self.seen.finish(place, height);
                }
                around.max(height)
            }
        };
        Ok(())
    }

    /// Refers to a container if it was written before; else names the place of the new one.
    fn meet(&mut self, obj: &Bound<'py, PyAny>, kind: Kind) -> Result<Option<Place>, Foreign> {
        if obj.is(self.root) {
            return match kind {
                Kind::Mutable => {
                    self.again(0);
                    Ok(None)
                }
                Kind::Hashable => Err(Foreign),
            };
        }
        match self.seen.meet(obj, self.offset()) {
            Met::New(place) => {
                if let Kind::Mutable = kind {
                    self.seen.finish(place, 0);
                }
                Ok(Some(place))
            }
            Met::Before { offset, height } => {
                if self.depth + height > MAX_DEPTH {
                    return Err(Foreign);
                }
                self.height = self.height.max(height);
                self.again(offset);
                Ok(None)
            }
            Met::Unfinished => Err(Foreign),
        }
    }

    /// Refers to the value at `offset`, and marks it as one to keep.
    fn again(&mut self, offset: usize) {
        let tag = &mut self.out[self.start + offset];
        *tag = tag::memo(*tag);
        self.out.push(tag::BACKREF);
        varint::write(self.out, offset);
    }

    #[inline]
    fn offset(&self) -> usize {
        self.out.len() - self.start
    }
}
