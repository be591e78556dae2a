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

use super::memo::{Lookup, Memo, Place, RecentStrings};
use super::{is_too_deep_for_stack, pickle};

/// A string or bytes object of this size that can occur again always enters the memo.
const LARGE: usize = 64;
/// A reference to a shorter string would not be shorter than the string.
const TINY: usize = 2;

/// Lists of these lengths are copied to a tuple first, because the items of a tuple can be borrowed.
const SNAPSHOT: Range<usize> = 32..1 << 20;

/// The value contains something that only pickle can encode.
#[derive(Debug)]
pub(super) struct NeedsPickle;

impl From<PyErr> for NeedsPickle {
    /// Pickle will hit the same error, or can encode the value.
    fn from(_: PyErr) -> Self {
        NeedsPickle
    }
}

type Written = Result<(), NeedsPickle>;

/// The kind of a container: a mutable one can contain itself, a hashable one cannot.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Mutable,
    Hashable,
}

/// Appends the message of a plain value. Leaves a part of it behind if the value is not plain.
pub(super) fn plain(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Written {
    Writer {
        start: out.len(),
        out,
        root: obj,
        depth: 0,
        height: 0,
        memo: Memo::default(),
        strings: RecentStrings::default(),
    }
    .value(obj, isize::MAX as usize)
}

struct Writer<'a, 'py> {
    out: &'a mut Vec<u8>,
    /// Where in `out` the message starts.
    start: usize,
    /// It is not in `memo`: nearly every root has other references, and nearly none is one of its own items.
    root: &'a Bound<'py, PyAny>,
    depth: usize,
    /// The greatest height of the hashable containers written since the innermost open container began.
    height: usize,
    memo: Memo<'py>,
    strings: RecentStrings,
}

/// Returns `obj` as a `T`; `None` if its type is any other, including a subclass.
#[inline]
fn exact<'a, 'py, T: PyTypeInfo>(obj: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, T>> {
    // A failed `cast_exact` builds an error, so check first.
    if obj.is_exact_instance_of::<T>() {
        obj.cast_exact().ok()
    } else {
        None
    }
}

/// Returns whether `obj` has references besides the one of its container and our `held` ones.
#[inline]
#[expect(
    deprecated,
    reason = "what replaces it is unsafe, and this crate has no unsafe code"
)]
fn can_occur_again(obj: &Bound<'_, PyAny>, held: usize) -> bool {
    // Some interpreters store flags in the upper half. A count that seems too large does no harm.
    obj.get_refcnt() as usize > held + 1
}

/// Dispatch by type.
impl<'py> Writer<'_, 'py> {
    /// Writes a value to which this writer holds `held` references.
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
            return Err(NeedsPickle);
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
        let digits = exact::<PyBytes>(&digits).ok_or(NeedsPickle)?;
        self.blob(tag::BIG_INT, digits.as_bytes());
        self.python_ran();
        Ok(())
    }

    fn string(&mut self, string: &Bound<'py, PyString>, held: usize) -> Written {
        let content = if can_occur_again(string, held) {
            if let Some(offset) = self.strings.find(string) {
                self.reference(offset);
                return Ok(());
            }
            let content = string.to_str()?.as_bytes();
            match content.len() {
                0..TINY => {}
                TINY..LARGE => self.strings.remember(string, self.offset()),
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
        if content.len() < LARGE || !can_occur_again(bytes, held) || !self.repeated(bytes) {
            self.blob(tag::BYTES, content);
        }
    }

    /// Writes a reference to an atom if it was written before; otherwise adds it to the memo and returns false.
    #[cold]
    fn repeated(&mut self, atom: &Bound<'py, PyAny>) -> bool {
        match self.memo.look_up(atom, self.offset()) {
            Lookup::New(place) => self.memo.finish(place, 0),
            Lookup::Written { offset, .. } => {
                self.reference(offset);
                return true;
            }
            Lookup::Unfinished => {}
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
            // It is a singleton, so its reference count says nothing.
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
            // A finalizer can change the dict between two items, and then the iterator would panic.
            if dict.len() != count {
                return Err(NeedsPickle);
            }
            let (key, value) = items.next().ok_or(NeedsPickle)?;
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
            self.value(&items.next().ok_or(NeedsPickle)??, 1)?;
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

    /// Forgets the recent strings: the allocation of a tracked object can collect garbage, and finalizers run any code.
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
        if can_occur_again(obj, held) {
            place = self.look_up(obj, kind)?;
            if place.is_none() {
                return Ok(());
            }
        }
        if self.depth == MAX_DEPTH || is_too_deep_for_stack(self.depth) {
            return Err(NeedsPickle);
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
                    self.memo.finish(place, height);
                }
                around.max(height)
            }
        };
        Ok(())
    }

    /// Writes a reference to a container if it was written before; otherwise returns its entry in the memo.
    fn look_up(
        &mut self,
        obj: &Bound<'py, PyAny>,
        kind: Kind,
    ) -> Result<Option<Place>, NeedsPickle> {
        if obj.is(self.root) {
            return match kind {
                Kind::Mutable => {
                    self.reference(0);
                    Ok(None)
                }
                Kind::Hashable => Err(NeedsPickle),
            };
        }
        match self.memo.look_up(obj, self.offset()) {
            Lookup::New(place) => {
                if let Kind::Mutable = kind {
                    self.memo.finish(place, 0);
                }
                Ok(Some(place))
            }
            Lookup::Written { offset, height } => {
                if self.depth + height > MAX_DEPTH {
                    return Err(NeedsPickle);
                }
                self.height = self.height.max(height);
                self.reference(offset);
                Ok(None)
            }
            Lookup::Unfinished => Err(NeedsPickle),
        }
    }

    /// Writes a reference to the value at `offset`, and marks that value for the reader to keep.
    fn reference(&mut self, offset: usize) {
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
