//! A dict in shared memory.

use procession_engine::store::{Access, Room};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::{Pairs, Shared, write_key, write_value};
use crate::support::late_init::{Keyword, Positional};
use crate::wire;

/// A dict with canonical keys and plain values.
#[pyclass(frozen, subclass, module = "procession._native")]
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

    /// Whether the entries are in the store and its owner is alive.
    #[getter]
    fn is_attached(&self) -> bool {
        self.0.is_attached()
    }

    /// Makes room. Only the owner may call this.
    fn grow(&self, py: Python<'_>, entries: usize, bytes: usize) -> PyResult<()> {
        self.0.grow(py, Room { entries, bytes })
    }

    /// Takes all entries out and detaches the store for good. Only the owner may call this.
    fn detach<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        DictStore::dict_of(py, &self.0.detach(py)?)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.len(py)
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let mut bytes = Vec::with_capacity(64);
        write_key(key, &mut bytes)?;
        self.0
            .exclusive(key.py(), |access| Ok(access.contains(&bytes)))
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
            .exclusive(key.py(), |access| access.remove(&bytes, &mut Vec::new()))?;
        match found {
            true => Ok(()),
            false => Err(missing(key)),
        }
    }

    /// Returns the value of a key, or the default.
    #[pyo3(signature = (key, default=None, /))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = self.value_of(key, |store, key, out| store.get(key, out))?;
        Ok(value.or(default))
    }

    /// Removes a key and returns its value.
    ///
    /// If the key is missing, returns the item of the tuple `default`, or raises `KeyError` without one.
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

    /// Removes the last inserted key, and returns it with its value.
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

    /// Returns the value of a key, after setting it to the default if it is missing.
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

    /// Sets all keys of a dict in one step.
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

    /// Returns a copy, as a plain dict.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        DictStore::dict_of(py, &self.0.all(py)?)
    }
}

fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    // In a tuple: a key that is a tuple would become the arguments of the exception.
    PyKeyError::new_err((key.clone().unbind(),))
}
