//! Several objects in one call: `put_many` and `get_many`, which have the names of faster-fifo.

use procession_engine::Deadline;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::channel::queue::Queue;
use crate::support::errors::{EMPTY, FULL};
use crate::wire;

/// Puts objects one by one. Each is in the queue before the next one is taken from the iterable.
///
/// Raises `Full` if there is no room in time; its attribute `put` is the number of objects that were put.
pub fn put(slf: &Bound<'_, Queue>, objects: &Bound<'_, PyAny>, deadline: Deadline) -> PyResult<()> {
    for (count, object) in objects.try_iter()?.enumerate() {
        Queue::put_object(slf, &object?, deadline).or_else(|error| {
            if FULL.is(slf.py(), &error) {
                error.value(slf.py()).setattr("put", count)?;
            }
            Err(error)
        })?;
    }
    Ok(())
}

/// Takes the available objects out, at least one and at most `limit`. Waits only for the first one.
///
/// If an object cannot be loaded, the attribute `got` of the error is the list of objects before it.
pub fn get<'py>(
    slf: &Bound<'py, Queue>,
    deadline: Deadline,
    limit: Option<usize>,
) -> PyResult<Bound<'py, PyList>> {
    if limit == Some(0) {
        return Err(PyValueError::new_err(
            "max_messages_to_get must be greater than 0",
        ));
    }
    let objects = PyList::empty(slf.py());
    let mut until = deadline;
    while limit.is_none_or(|limit| objects.len() < limit) {
        let mut came = false;
        let object = Queue::pop(slf, until, |py, message| {
            came = true;
            wire::receive(py, message)
        });
        match object {
            Ok(object) => objects.append(object)?,
            Err(error) if objects.is_empty() => return Err(error),
            Err(error) if !came && EMPTY.is(slf.py(), &error) => break,
            Err(error) => {
                // Some exceptions accept no attributes. Raise those, too.
                let _ = error.value(slf.py()).setattr("got", objects);
                return Err(error);
            }
        }
        until = Deadline::NOW;
    }
    Ok(objects)
}
