//! Several objects in one call: `put_many` and `get_many`, named as in faster-fifo.

use procession_engine::Deadline;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::channel::queue::Queue;
use crate::support::errors::{EMPTY, FULL};
use crate::wire;

/// Puts one object after the other; each is in the queue before the next one is looked at.
///
/// When there is no room in time, `Full` says with its attribute `put` how many were put.
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

/// Takes out what is there, at least one object and at most `limit`; waits for the first one only.
///
/// When an object cannot be loaded, the error says with its attribute `got` which ones came before it.
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
                // An exception that takes no attributes is told all the same.
                let _ = error.value(slf.py()).setattr("got", objects);
                return Err(error);
            }
        }
        until = Deadline::NOW;
    }
    Ok(objects)
}
