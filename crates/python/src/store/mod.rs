//! Dicts and lists of plain values in shared memory: the basis of `Manager().dict()` and `list()`.
//!
//! Values are encoded before the lock of the store is acquired, and decoded after it is released. So no Python code runs
//! while it is held, and this process does not fork. A store raises [`StoreDetached`] for what it cannot do.

mod dict;
mod list;

use procession_engine::Deadline;
use procession_engine::store::{Access, ExclusiveAccess, Room, Store, StoreError, StoreHandle};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::support::blocking;
use crate::support::errors::raise;
use crate::support::late_init::LateInit;
use crate::wire;

pub use dict::DictStore;
pub use list::ListStore;

create_exception!(
    procession._native,
    StoreDetached,
    PyException,
    "The store cannot do this: its owner has the values, or the request needs Python objects."
);
create_exception!(
    procession._native,
    StoreFull,
    PyException,
    "The store is full. Its owner must call `grow` with the arguments of this exception."
);

/// The common part of both classes.
#[derive(Debug)]
struct Shared(LateInit<Store>);

/// The places of a key and a value in one buffer.
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
        false => Err(StoreDetached::new_err("the key is not of a plain type")),
    }
}

fn write_value(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    match wire::encode_plain(value, out) {
        true => Ok(()),
        false => Err(StoreDetached::new_err("the value is not plain")),
    }
}

fn refused(error: StoreError) -> PyErr {
    match error {
        StoreError::Detached => StoreDetached::new_err(error.to_string()),
        StoreError::NoRoom(Room { entries, bytes }) => StoreFull::new_err((entries, bytes)),
        StoreError::Failed(error) => raise(error),
        other => StoreDetached::new_err(other.to_string()),
    }
}

impl Shared {
    fn empty() -> Shared {
        Shared(LateInit::empty())
    }

    fn make(&self) -> PyResult<()> {
        self.0.init(Store::new().map_err(raise)?)
    }

    fn adopt(&self, handle: &[u8]) -> PyResult<()> {
        let handle = StoreHandle::from_bytes(handle).map_err(raise)?;
        self.0.init(Store::open(&handle).map_err(raise)?)
    }

    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.get()?.handle().to_bytes()))
    }

    fn is_attached(&self) -> bool {
        self.0.get().is_ok_and(Store::is_here)
    }

    #[inline]
    fn enter(&self, py: Python<'_>) -> PyResult<ExclusiveAccess<'_>> {
        let Ok(store) = self.0.get() else {
            return Err(refused(StoreError::Detached));
        };
        let entry = match store.wait(Deadline::NOW) {
            Ok(entry) => entry,
            Err(_) => blocking::wait(py, Deadline::NEVER, |slice| store.wait(slice))?
                .map_err(|_| refused(StoreError::Detached))?,
        };
        entry.begin().map_err(refused)
    }

    /// Calls `act` with exclusive access to the store.
    #[inline]
    fn exclusive<T>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(ExclusiveAccess<'_>) -> Result<T, StoreError>,
    ) -> PyResult<T> {
        act(self.enter(py)?).map_err(refused)
    }

    /// Calls `act`, which acquires the store several times if values are large.
    #[inline]
    fn access<T>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&Access<'_, PyErr>) -> PyResult<T>,
    ) -> PyResult<T> {
        act(&Access::new(&|| self.enter(py), refused))
    }

    fn len(&self, py: Python<'_>) -> PyResult<usize> {
        self.exclusive(py, |access| Ok(access.len()))
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.exclusive(py, |access| {
            access.clear();
            Ok(())
        })
    }

    fn all(&self, py: Python<'_>) -> PyResult<Pairs> {
        self.access(py, |store| store.all(Pairs::default, Pairs::add))
    }

    fn grow(&self, py: Python<'_>, room: Room) -> PyResult<()> {
        self.exclusive(py, |mut access| access.grow(room))
    }

    fn detach(&self, py: Python<'_>) -> PyResult<Pairs> {
        self.exclusive(py, |access| {
            let pairs = all_of(&access)?;
            access.retire();
            Ok(pairs)
        })
    }
}

fn all_of(access: &ExclusiveAccess<'_>) -> Result<Pairs, StoreError> {
    let mut pairs = Pairs::default();
    access.each(|key, value| pairs.add(key, value))?;
    Ok(pairs)
}
