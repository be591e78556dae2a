//! Dicts and lists of plain values in shared memory: what `Manager().dict()` and `list()` are made of.
//!
//! Values are encoded before the store's lock is taken and decoded after it is released: no Python code runs in
//! between, and no fork of this process happens there. What a store cannot do raises [`Elsewhere`].

use procession_engine::Deadline;
use procession_engine::store::{Access, Room, Store, StoreError, StoreHandle, Turn};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyIndexError, PyKeyError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::args::{Keyword, Positional};
use crate::errors::raise;
use crate::patience;
use crate::slot::Slot;
use crate::wire;

create_exception!(
    procession._engine,
    Elsewhere,
    PyException,
    "The store cannot do that: what it held, or what is asked for, is the keeper's business."
);
create_exception!(
    procession._engine,
    NoRoom,
    PyException,
    "The keeper has to make room first; the arguments are those of `grow`."
);

/// What both classes have in common.
#[derive(Debug)]
struct Shared(Slot<Store>);

/// A key and a value, or two places in one buffer.
struct Pair {
    key: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

/// The bytes of several entries.
#[derive(Default)]
struct Pairs {
    bytes: Vec<u8>,
    places: Vec<Pair>,
}

impl Pairs {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.places.push(Pair {
            key: start..middle,
            value: middle..self.bytes.len(),
        });
    }

    fn write(&mut self, key: Option<&Bound<'_, PyAny>>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let start = self.bytes.len();
        if let Some(key) = key {
            write_key(key, &mut self.bytes)?;
        }
        let middle = self.bytes.len();
        write_value(value, &mut self.bytes)?;
        self.places.push(Pair {
            key: start..middle,
            value: middle..self.bytes.len(),
        });
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places.iter().map(|pair| {
            (
                &self.bytes[pair.key.clone()],
                &self.bytes[pair.value.clone()],
            )
        })
    }

    fn slices(&self) -> Vec<(&[u8], &[u8])> {
        self.iter().collect()
    }
}

fn write_key(key: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    match wire::encode_key(key, out) {
        true => Ok(()),
        false => Err(Elsewhere::new_err("the key is not of a plain type")),
    }
}

fn write_value(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    match wire::encode_plain(value, out) {
        true => Ok(()),
        false => Err(Elsewhere::new_err("the value is not plain")),
    }
}

fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    // In a tuple of its own: one as the key would be taken for the arguments.
    PyKeyError::new_err((key.clone().unbind(),))
}

fn refused(error: StoreError) -> PyErr {
    match error {
        StoreError::Elsewhere => Elsewhere::new_err(error.to_string()),
        StoreError::NoRoom(Room { entries, bytes }) => NoRoom::new_err((entries, bytes)),
        StoreError::Failed(error) => raise(error),
        other => Elsewhere::new_err(other.to_string()),
    }
}

impl Shared {
    fn empty() -> Shared {
        Shared(Slot::empty())
    }

    fn make(&self) -> PyResult<()> {
        self.0.fill(Store::new().map_err(raise)?)
    }

    fn adopt(&self, handle: &[u8]) -> PyResult<()> {
        let handle = StoreHandle::from_bytes(handle).map_err(raise)?;
        self.0.fill(Store::open(&handle).map_err(raise)?)
    }

    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.get()?.handle().to_bytes()))
    }

    fn is_here(&self) -> bool {
        self.0.get().is_ok_and(Store::is_here)
    }

    #[inline]
    fn enter(&self, py: Python<'_>) -> PyResult<Turn<'_>> {
        let Ok(store) = self.0.get() else {
            return Err(refused(StoreError::Elsewhere));
        };
        let entry = match store.wait(Deadline::NOW) {
            Ok(entry) => entry,
            Err(_) => patience::wait(py, Deadline::NEVER, |slice| store.wait(slice))?
                .map_err(|_| refused(StoreError::Elsewhere))?,
        };
        entry.begin().map_err(refused)
    }

    /// Does something while nobody else uses the store.
    #[inline]
    fn turn<T>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(Turn<'_>) -> Result<T, StoreError>,
    ) -> PyResult<T> {
        act(self.enter(py)?).map_err(refused)
    }

    /// Does something that takes several turns where values are large.
    #[inline]
    fn access<T>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&Access<'_, PyErr>) -> PyResult<T>,
    ) -> PyResult<T> {
        act(&Access::new(&|| self.enter(py), refused))
    }

    fn len(&self, py: Python<'_>) -> PyResult<usize> {
        self.turn(py, |turn| Ok(turn.len()))
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.turn(py, |turn| {
            turn.clear();
            Ok(())
        })
    }

    fn all(&self, py: Python<'_>) -> PyResult<Pairs> {
        self.access(py, |store| store.all(Pairs::default, Pairs::add))
    }

    fn grow(&self, py: Python<'_>, room: Room) -> PyResult<()> {
        self.turn(py, |mut turn| turn.grow(room))
    }

    fn retire(&self, py: Python<'_>) -> PyResult<Pairs> {
        self.turn(py, |turn| {
            let pairs = all_of(&turn)?;
            turn.retire();
            Ok(pairs)
        })
    }
}

fn all_of(turn: &Turn<'_>) -> Result<Pairs, StoreError> {
    let mut pairs = Pairs::default();
    turn.each(|key, value| pairs.add(key, value))?;
    Ok(pairs)
}

/// A dict whose keys are of plain, canonical types and whose values are plain.
#[pyclass(frozen, subclass, module = "procession._engine")]
#[derive(Debug)]
pub struct DictStore(Shared);

impl DictStore {
    fn value_of<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        find: impl FnOnce(&Access<'_, PyErr>, &[u8], &mut Vec<u8>) -> PyResult<bool>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        let mut bytes = Vec::with_capacity(64);
        write_key(key, &mut bytes)?;
        let mut value = Vec::with_capacity(64);
        let found = self.0.access(py, |store| find(store, &bytes, &mut value))?;
        found.then(|| wire::decode(py, &value)).transpose()
    }

    fn dict_of<'py>(py: Python<'py>, pairs: &Pairs) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (key, value) in pairs.iter() {
            dict.set_item(wire::decode(py, key)?, wire::decode(py, value)?)?;
        }
        Ok(dict)
    }
}

#[pymethods]
impl DictStore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> DictStore {
        DictStore(Shared::empty())
    }

    fn __init__(&self) -> PyResult<()> {
        self.0.make()
    }

    fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
        self.0.adopt(handle)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.0.handle(py)
    }

    /// Whether the entries are here, and the process lives that keeps them.
    #[getter]
    fn is_here(&self) -> bool {
        self.0.is_here()
    }

    /// Makes room; for the keeper alone.
    fn grow(&self, py: Python<'_>, entries: usize, bytes: usize) -> PyResult<()> {
        self.0.grow(py, Room { entries, bytes })
    }

    /// Takes all out for good; for the keeper alone.
    fn retire<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        DictStore::dict_of(py, &self.0.retire(py)?)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.len(py)
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let mut bytes = Vec::with_capacity(64);
        write_key(key, &mut bytes)?;
        self.0.turn(key.py(), |turn| Ok(turn.contains(&bytes)))
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.value_of(key, |store, key, out| store.get(key, out))? {
            Some(value) => Ok(value),
            None => Err(missing(key)),
        }
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut bytes = Vec::with_capacity(128);
        write_key(key, &mut bytes)?;
        let end = bytes.len();
        write_value(value, &mut bytes)?;
        let (key_bytes, value_bytes) = bytes.split_at(end);
        self.0
            .access(key.py(), |store| store.set(key_bytes, value_bytes))
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut bytes = Vec::with_capacity(64);
        write_key(key, &mut bytes)?;
        let found = self
            .0
            .turn(key.py(), |turn| turn.remove(&bytes, &mut Vec::new()))?;
        match found {
            true => Ok(()),
            false => Err(missing(key)),
        }
    }

    /// The value of a key, or what stands for one.
    #[pyo3(signature = (key, default=None, /))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = self.value_of(key, |store, key, out| store.get(key, out))?;
        Ok(value.or(default))
    }

    /// Removes a key and returns its value; a tuple with the default instead of it must be given if it may
    /// be missing.
    #[pyo3(signature = (key, default=None, /))]
    fn pop<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let value = self.value_of(key, |store, key, out| store.remove(key, out))?;
        match (value, default) {
            (Some(value), _) => Ok(value),
            (None, Some(default)) => default.get_item(0),
            (None, None) => Err(missing(key)),
        }
    }

    /// Removes the key that was inserted last, and returns it with its value.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        match self
            .0
            .access(py, |store| store.pop_last(&mut key, &mut value))?
        {
            true => Ok((wire::decode(py, &key)?, wire::decode(py, &value)?)),
            false => Err(PyKeyError::new_err("popitem(): dictionary is empty")),
        }
    }

    /// The value of a key, which is set to the default if it has none.
    #[pyo3(signature = (key, default=None, /))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        let mut bytes = Vec::new();
        write_value(&default, &mut bytes)?;
        let found = self.value_of(key, |store, key, out| store.get_or_set(key, &bytes, out))?;
        Ok(found.unwrap_or(default))
    }

    /// Sets all the keys of a dict, at once.
    fn update(&self, other: &Bound<'_, PyDict>) -> PyResult<()> {
        let mut pairs = Pairs::default();
        for (key, value) in other.iter() {
            pairs.write(Some(&key), &value)?;
        }
        self.0
            .access(other.py(), |store| store.update(&pairs.slices()))
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.0.clear(py)
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let pairs = self.0.all(py)?;
        pairs.iter().map(|(key, _)| wire::decode(py, key)).collect()
    }

    fn values<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let pairs = self.0.all(py)?;
        let values = pairs.iter().map(|(_, value)| wire::decode(py, value));
        values.collect()
    }

    /// All of it, as a plain dict.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        DictStore::dict_of(py, &self.0.all(py)?)
    }
}

/// A list of plain values.
#[pyclass(frozen, subclass, module = "procession._engine")]
#[derive(Debug)]
pub struct ListStore(Shared);

impl ListStore {
    fn list_of<'py>(py: Python<'py>, pairs: &Pairs) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (_, value) in pairs.iter() {
            list.append(wire::decode(py, value)?)?;
        }
        Ok(list)
    }
}

/// The place an index means, if there is one.
fn place(index: isize, length: usize) -> usize {
    match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => length
            .checked_sub(index.unsigned_abs())
            .unwrap_or(usize::MAX),
    }
}

fn index(index: &Bound<'_, PyAny>) -> PyResult<isize> {
    let number = index.extract();
    number.map_err(|_| Elsewhere::new_err("the index is no small int"))
}

#[pymethods]
impl ListStore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> ListStore {
        ListStore(Shared::empty())
    }

    fn __init__(&self) -> PyResult<()> {
        self.0.make()
    }

    fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
        self.0.adopt(handle)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.0.handle(py)
    }

    /// Whether the items are here, and the process lives that keeps them.
    #[getter]
    fn is_here(&self) -> bool {
        self.0.is_here()
    }

    /// Makes room; for the keeper alone.
    fn grow(&self, py: Python<'_>, entries: usize, bytes: usize) -> PyResult<()> {
        self.0.grow(py, Room { entries, bytes })
    }

    /// Takes all out for good; for the keeper alone.
    fn retire<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        ListStore::list_of(py, &self.0.retire(py)?)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.len(py)
    }

    /// The item at an index.
    fn get<'py>(&self, at: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = at.py();
        let index = index(at)?;
        let mut value = Vec::new();
        let found = self.0.access(py, |store| {
            store.get_at(|length| place(index, length), &mut value)
        })?;
        match found {
            true => wire::decode(py, &value),
            false => Err(PyIndexError::new_err("list index out of range")),
        }
    }

    /// Replaces the item at an index.
    fn set(&self, at: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let index = index(at)?;
        let mut bytes = Vec::with_capacity(64);
        write_value(value, &mut bytes)?;
        let found = self.0.access(at.py(), |store| {
            store.set_at(|length| place(index, length), &bytes)
        })?;
        match found {
            true => Ok(()),
            false => Err(PyIndexError::new_err("list assignment index out of range")),
        }
    }

    fn append(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut bytes = Vec::with_capacity(64);
        write_value(value, &mut bytes)?;
        self.0.access(value.py(), |store| store.push(&bytes))
    }

    /// Appends all the items of a list, at once.
    fn extend(&self, values: &Bound<'_, PyList>) -> PyResult<()> {
        let mut pairs = Pairs::default();
        for value in values.iter() {
            pairs.write(None, &value)?;
        }
        self.0
            .access(values.py(), |store| store.extend(&pairs.slices()))
    }

    /// Removes the last item and returns it.
    fn pop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut value = Vec::new();
        match self.0.access(py, |store| store.pop(&mut value))? {
            true => wire::decode(py, &value),
            false => Err(PyIndexError::new_err("pop from empty list")),
        }
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.0.clear(py)
    }

    /// All of it, as a plain list.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        ListStore::list_of(py, &self.0.all(py)?)
    }
}
