//! The reader of nested containers without recursion.
//!
//! In a thread with a small stack, [`Decoder::value`] could overflow it within the depth that a message may have. Deeper
//! containers are read here, with the open containers on the heap.

use procession_wire::{MAX_DEPTH, tag};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PySet, PyTuple};

use super::super::error::Decoded;
use super::{Decoder, Kept};

/// A container that still expects values.
enum Open<'py> {
    List(Bound<'py, PyList>),
    Set(Bound<'py, PySet>),
    Dict(Bound<'py, PyDict>, Option<Bound<'py, PyAny>>),
    Tuple(Vec<Bound<'py, PyAny>>),
    FrozenSet(Vec<Bound<'py, PyAny>>),
}

struct Level<'py> {
    open: Open<'py>,
    /// How many values are still expected.
    left: usize,
    /// Its index among the kept values and its offset, if it is hashable and kept.
    place: Option<(usize, usize)>,
    is_hashable: bool,
    /// The height outside of it, from before it began.
    before: usize,
}

impl<'py> Decoder<'_, 'py> {
    /// Reads a container whose tag was just read.
    #[cold]
    pub(super) fn deep(&mut self, tag: u8, offset: usize) -> Decoded<Bound<'py, PyAny>> {
        let mut around = Vec::new();
        let mut level = self.open(tag, offset)?;
        loop {
            while level.left > 0 {
                level.left -= 1;
                self.promised -= 1;
                let offset = self.reader.position();
                let tag = self.reader.byte()?;
                if is_container(tag) {
                    around.push(std::mem::replace(&mut level, self.open(tag, offset)?));
                    continue;
                }
                let value = match tag & tag::SMALL_INT {
                    0 => self.atom(tag, offset)?,
                    _ => self.int((tag & !tag::SMALL_INT).into()),
                };
                self.add(&mut level.open, value)?;
            }
            let value = self.close(level)?;
            let Some(outer) = around.pop() else {
                return Ok(value);
            };
            level = outer;
            self.add(&mut level.open, value)?;
        }
    }

    fn open(&mut self, tag: u8, offset: usize) -> Decoded<Level<'py>> {
        if self.depth == MAX_DEPTH {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let before = self.height;
        let (open, mutable) = match tag {
            tag::LIST | tag::MEMO_LIST => {
                let list = PyList::empty(self.py);
                (Open::List(list.clone()), Some(list.into_any()))
            }
            tag::SET | tag::MEMO_SET => {
                let set = PySet::empty(self.py)?;
                (Open::Set(set.clone()), Some(set.into_any()))
            }
            tag::DICT | tag::MEMO_DICT => {
                let dict = PyDict::new(self.py);
                (Open::Dict(dict.clone(), None), Some(dict.into_any()))
            }
            tag::TUPLE | tag::MEMO_TUPLE => (Open::Tuple(Vec::new()), None),
            _ => (Open::FrozenSet(Vec::new()), None),
        };
        let is_kept = tag == tag::memo(tag);
        let is_hashable = mutable.is_none();
        if is_hashable {
            self.height = 0;
        }
        let mut place = None;
        if is_kept {
            place = is_hashable.then_some((self.kept.len(), offset));
            self.kept.push(Kept {
                offset,
                value: mutable,
                height: 0,
            });
        }
        let values = 1 + usize::from(matches!(open, Open::Dict(..)));
        let left = self.count(values)? * values;
        Ok(Level {
            open,
            left,
            place,
            is_hashable,
            before,
        })
    }

    fn add(&self, open: &mut Open<'py>, value: Bound<'py, PyAny>) -> Decoded<()> {
        match open {
            Open::List(list) => list.append(value)?,
            Open::Set(set) => set.add(value).map_err(|error| self.unhashable(error))?,
            Open::Tuple(items) | Open::FrozenSet(items) => items.push(value),
            Open::Dict(dict, key) => match key.take() {
                None => *key = Some(value),
                Some(key) => dict
                    .set_item(key, value)
                    .map_err(|error| self.unhashable(error))?,
            },
        }
        Ok(())
    }

    fn close(&mut self, level: Level<'py>) -> Decoded<Bound<'py, PyAny>> {
        self.depth -= 1;
        let value = match level.open {
            Open::List(list) => list.into_any(),
            Open::Set(set) => set.into_any(),
            Open::Dict(dict, _) => dict.into_any(),
            Open::Tuple(items) => {
                self.height += 1;
                PyTuple::new(self.py, items)?.into_any()
            }
            Open::FrozenSet(items) => {
                self.height += 1;
                let set = PyFrozenSet::new(self.py, items);
                set.map_err(|error| self.unhashable(error))?.into_any()
            }
        };
        if let Some((place, offset)) = level.place {
            self.kept[place] = Kept {
                offset,
                value: Some(value.clone()),
                height: self.height,
            };
        }
        self.height = match level.is_hashable {
            true => level.before.max(self.height),
            false => level.before,
        };
        Ok(value)
    }
}

/// Returns whether the tag is that of a container.
#[inline]
pub(super) fn is_container(tag: u8) -> bool {
    matches!(
        tag,
        tag::LIST
            | tag::SET
            | tag::DICT
            | tag::TUPLE
            | tag::FROZENSET
            | tag::MEMO_LIST
            | tag::MEMO_SET
            | tag::MEMO_DICT
            | tag::MEMO_TUPLE
            | tag::MEMO_FROZENSET
    )
}
