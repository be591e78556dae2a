//! The reader of plain values.

use procession_wire::{MAX_DEPTH, Reader, tag};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::frozenset::PyFrozenSetBuilder;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PySet, PyString, PyTuple,
};

use super::error::{DecodeError, Decoded, build_error};
use super::is_too_deep_for_stack;
use super::key_cache::KeyCache;

mod deep;

/// Decodes a message that is not pickled.
pub(super) fn plain<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let mut decoder = Decoder::new(py, bytes);
    let value = decoder.value()?;
    decoder.finish()?;
    Ok(value)
}

/// Appends the items of the list in a message to another list. Returns false, and does nothing, if the message is not a
/// plain list.
pub(super) fn items_onto(bytes: &[u8], list: &Bound<'_, PyList>) -> PyResult<bool> {
    // A kept list (tag in upper case) can contain itself.
    if bytes.first() != Some(&tag::LIST) {
        return Ok(false);
    }
    let mut decoder = Decoder::new(list.py(), bytes);
    decoder.reader.byte().map_err(DecodeError::from)?;
    decoder.nested(|decoder| decoder.extend(list))?;
    decoder.finish()?;
    Ok(true)
}

struct Decoder<'a, 'py> {
    py: Python<'py>,
    reader: Reader<'a>,
    depth: usize,
    /// The greatest height of the hashable containers read since the innermost open container began.
    height: usize,
    /// How many values the open containers still expect. Each takes at least one byte, so counts that add up to more than
    /// the rest of the message are rejected.
    promised: usize,
    /// Values with later references, by ascending offset.
    kept: Vec<Kept<'py>>,
    /// The index in `kept` of the next reference, if dicts repeat each other's keys in order.
    likely: usize,
    keys: Option<KeyCache>,
}

struct Kept<'py> {
    offset: usize,
    /// `None` while an immutable container is being read.
    value: Option<Bound<'py, PyAny>>,
    height: usize,
}

/// Iterates over the items of a container whose constructor needs the size.
struct Items<'d, 'a, 'py> {
    decoder: &'d mut Decoder<'a, 'py>,
    left: usize,
}

/// An item of [`Items`].
struct Item<'py>(Decoded<Bound<'py, PyAny>>);

impl<'py> Iterator for Items<'_, '_, 'py> {
    type Item = Item<'py>;

    #[inline]
    fn next(&mut self) -> Option<Item<'py>> {
        self.left = self.left.checked_sub(1)?;
        Some(Item(self.decoder.item()))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Items<'_, '_, '_> {}

impl<'py> IntoPyObject<'py> for Item<'py> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = DecodeError;

    #[inline]
    fn into_pyobject(self, _: Python<'py>) -> Decoded<Bound<'py, PyAny>> {
        self.0
    }
}

impl<'a, 'py> Decoder<'a, 'py> {
    fn new(py: Python<'py>, bytes: &'a [u8]) -> Decoder<'a, 'py> {
        Decoder {
            py,
            reader: Reader::new(bytes),
            depth: 0,
            height: 0,
            promised: 0,
            kept: Vec::new(),
            likely: 0,
            keys: None,
        }
    }

    fn finish(&self) -> Decoded<()> {
        match self.reader.left() {
            0 => Ok(()),
            _ => Err(self.reader.damaged("more than one value").into()),
        }
    }
}

impl<'py> Decoder<'_, 'py> {
    fn value(&mut self) -> Decoded<Bound<'py, PyAny>> {
        let offset = self.reader.position();
        let tag = self.reader.byte()?;
        if tag & tag::SMALL_INT != 0 {
            return Ok(self.int((tag & !tag::SMALL_INT).into()));
        }
        match tag {
            // Only containers check the stack, so that other values do not pay for it.
            _ if deep::is_container(tag) && is_too_deep_for_stack(self.depth) => {
                self.deep(tag, offset)
            }
            tag::TUPLE => self.hashable(None, Self::tuple),
            tag::LIST => self.nested(Self::list),
            tag::DICT => self.nested(|decoder| decoder.dict(&PyDict::new(decoder.py))),
            tag::SET => self.nested(|decoder| decoder.set(&PySet::empty(decoder.py)?)),
            tag::FROZENSET => self.hashable(None, Self::frozenset),
            tag::MEMO_TUPLE => self.hashable(Some(offset), Self::tuple),
            tag::MEMO_FROZENSET => self.hashable(Some(offset), Self::frozenset),
            tag::MEMO_LIST => {
                let list = PyList::empty(self.py);
                self.keep(offset, list.clone().into_any());
                self.nested(|decoder| decoder.extend(&list))
            }
            tag::MEMO_DICT => {
                let dict = PyDict::new(self.py);
                self.keep(offset, dict.clone().into_any());
                self.nested(|decoder| decoder.dict(&dict))
            }
            tag::MEMO_SET => {
                let set = PySet::empty(self.py)?;
                self.keep(offset, set.clone().into_any());
                self.nested(|decoder| decoder.set(&set))
            }
            _ => self.atom(tag, offset),
        }
    }

    /// Reads the rest of a value that is not a small int or container; its tag was just read.
    #[inline(always)]
    fn atom(&mut self, tag: u8, offset: usize) -> Decoded<Bound<'py, PyAny>> {
        match tag {
            tag::INT_8 => Ok(self
                .reader
                .array()
                .map(|n| self.int(i8::from_le_bytes(n).into()))?),
            tag::INT_16 => Ok(self
                .reader
                .array()
                .map(|n| self.int(i16::from_le_bytes(n).into()))?),
            tag::INT_32 => Ok(self
                .reader
                .array()
                .map(|n| self.int(i32::from_le_bytes(n).into()))?),
            tag::INT_64 => Ok(self
                .reader
                .array()
                .map(|n| self.int(i64::from_le_bytes(n)))?),
            tag::STR => Ok(self.string()?.into_any()),
            tag::NONE => Ok(self.py.None().into_bound(self.py)),
            tag::TRUE => Ok(PyBool::new(self.py, true).to_owned().into_any()),
            tag::FALSE => Ok(PyBool::new(self.py, false).to_owned().into_any()),
            tag::FLOAT => {
                let bits = u64::from_le_bytes(self.reader.array()?);
                Ok(PyFloat::new(self.py, f64::from_bits(bits)).into_any())
            }
            tag::BYTES => Ok(self.bytes()?),
            tag::BACKREF => self.reference(),
            tag::MEMO_STR => self
                .string()
                .map(|string| self.keep(offset, string.into_any())),
            tag::MEMO_BYTES => self.bytes().map(|bytes| self.keep(offset, bytes)),
            tag::BYTEARRAY => self.bytearray(),
            tag::MEMO_BYTEARRAY => self
                .bytearray()
                .map(|bytearray| self.keep(offset, bytearray)),
            tag::BIG_INT => self.big_int(),
            _ => Err(self.reader.damaged("unknown kind of value").into()),
        }
    }
}

/// Atoms.
impl<'py> Decoder<'_, 'py> {
    #[inline]
    fn int(&self, n: i64) -> Bound<'py, PyAny> {
        PyInt::new(self.py, n).into_any()
    }

    #[cold]
    fn big_int(&mut self) -> Decoded<Bound<'py, PyAny>> {
        let py = self.py;
        let digits = PyBytes::new(py, self.reader.blob()?);
        let signed = PyDict::new(py);
        signed.set_item(intern!(py, "signed"), true)?;
        let digits = (digits, intern!(py, "little"));
        Ok(py
            .get_type::<PyInt>()
            .call_method(intern!(py, "from_bytes"), digits, Some(&signed))?)
    }

    #[inline]
    fn string(&mut self) -> Decoded<Bound<'py, PyString>> {
        let text = self.reader.blob()?;
        PyString::from_bytes(self.py, text).map_err(|error| self.bad_text(error))
    }

    #[cold]
    fn bad_text(&self, error: PyErr) -> DecodeError {
        build_error(&self.reader, self.py, error, "text that is not UTF-8")
    }

    #[inline]
    fn bytes(&mut self) -> Decoded<Bound<'py, PyAny>> {
        Ok(PyBytes::new(self.py, self.reader.blob()?).into_any())
    }

    fn bytearray(&mut self) -> Decoded<Bound<'py, PyAny>> {
        Ok(PyByteArray::new(self.py, self.reader.blob()?).into_any())
    }
}

/// Containers: the items.
impl<'py> Decoder<'_, 'py> {
    fn tuple(&mut self) -> Decoded<Bound<'py, PyAny>> {
        let left = self.count(1)?;
        Ok(PyTuple::new(
            self.py,
            Items {
                left,
                decoder: self,
            },
        )?
        .into_any())
    }

    fn list(&mut self) -> Decoded<Bound<'py, PyAny>> {
        let left = self.count(1)?;
        Ok(PyList::new(
            self.py,
            Items {
                left,
                decoder: self,
            },
        )?
        .into_any())
    }

    fn extend(&mut self, list: &Bound<'py, PyList>) -> Decoded<Bound<'py, PyAny>> {
        for _ in 0..self.count(1)? {
            list.append(self.item()?)?;
        }
        Ok(list.clone().into_any())
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>) -> Decoded<Bound<'py, PyAny>> {
        for _ in 0..self.count(2)? {
            let key = self.key()?;
            let value = self.item()?;
            dict.set_item(key, value)
                .map_err(|error| self.unhashable(error))?;
        }
        Ok(dict.clone().into_any())
    }

    fn key(&mut self) -> Decoded<Bound<'py, PyAny>> {
        let offset = self.reader.position();
        let kept = match self.reader.peek() {
            Some(tag::STR) => false,
            Some(tag::MEMO_STR) => true,
            _ => return self.item(),
        };
        self.promised -= 1;
        self.reader.byte()?;
        let text = self.reader.blob()?;
        let keys = self.keys.get_or_insert_with(KeyCache::borrow);
        let key = keys
            .get(self.py, text)
            .map_err(|error| self.bad_text(error))?
            .into_any();
        Ok(if kept { self.keep(offset, key) } else { key })
    }

    fn set(&mut self, set: &Bound<'py, PySet>) -> Decoded<Bound<'py, PyAny>> {
        for _ in 0..self.count(1)? {
            let item = self.item()?;
            set.add(item).map_err(|error| self.unhashable(error))?;
        }
        Ok(set.clone().into_any())
    }

    fn frozenset(&mut self) -> Decoded<Bound<'py, PyAny>> {
        let mut set = PyFrozenSetBuilder::new(self.py)?;
        for _ in 0..self.count(1)? {
            let item = self.item()?;
            set.add(item).map_err(|error| self.unhashable(error))?;
        }
        Ok(set.finalize().into_any())
    }

    #[cold]
    fn unhashable(&self, error: PyErr) -> DecodeError {
        build_error(&self.reader, self.py, error, "a key that has no hash")
    }

    /// Reads the number of items, of `values` values each.
    #[inline]
    fn count(&mut self, values: usize) -> Decoded<usize> {
        let count = self.reader.number()?;
        let free = self.reader.left().saturating_sub(self.promised);
        if count > free / values {
            return Err(self.reader.damaged("more items than bytes").into());
        }
        self.promised += count * values;
        Ok(count)
    }

    /// Reads a value that was counted in `promised`.
    #[inline]
    fn item(&mut self) -> Decoded<Bound<'py, PyAny>> {
        self.promised -= 1;
        self.value()
    }
}

/// Containers: sharing, cycles and depth.
impl<'py> Decoder<'_, 'py> {
    #[inline]
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Decoded<T>) -> Decoded<T> {
        let height = self.height;
        let value = self.deeper(read)?;
        self.height = height;
        Ok(value)
    }

    #[inline]
    fn hashable(
        &mut self,
        offset: Option<usize>,
        read: impl FnOnce(&mut Self) -> Decoded<Bound<'py, PyAny>>,
    ) -> Decoded<Bound<'py, PyAny>> {
        let place = self.kept.len();
        if let Some(offset) = offset {
            self.kept.push(Kept {
                offset,
                value: None,
                height: 0,
            });
        }
        let before = std::mem::take(&mut self.height);
        let value = self.deeper(read)?;
        let height = self.height + 1;
        self.height = before.max(height);
        if let Some(offset) = offset {
            self.kept[place] = Kept {
                offset,
                value: Some(value.clone()),
                height,
            };
        }
        Ok(value)
    }

    #[inline]
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Decoded<T>) -> Decoded<T> {
        if self.depth == MAX_DEPTH {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    #[cold]
    fn too_deep(&self) -> DecodeError {
        self.reader.damaged("containers nested too deep").into()
    }

    fn keep(&mut self, offset: usize, value: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        self.kept.push(Kept {
            offset,
            value: Some(value.clone()),
            height: 0,
        });
        value
    }

    fn reference(&mut self) -> Decoded<Bound<'py, PyAny>> {
        let offset = self.reader.number()?;
        let place = match self.kept.get(self.likely) {
            Some(kept) if kept.offset == offset => self.likely,
            _ => self
                .kept
                .binary_search_by_key(&offset, |kept| kept.offset)
                .map_err(|_| self.reader.damaged("a reference to nothing"))?,
        };
        self.likely = place + 1;
        let Kept { value, height, .. } = &self.kept[place];
        let value = value
            .clone()
            .ok_or_else(|| self.reader.damaged("a tuple within itself"))?;
        if self.depth + height > MAX_DEPTH {
            return Err(self.too_deep());
        }
        self.height = self.height.max(*height);
        Ok(value)
    }
}
