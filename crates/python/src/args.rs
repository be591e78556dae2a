//! Arguments as Python's own modules take them.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// A flag given as any object: what counts is its truth value, as in `acquire(block=1)`.
#[derive(Debug, Clone, Copy)]
pub struct Truth(pub bool);

impl<'a, 'py> FromPyObject<'a, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Truth> {
        object.is_truthy().map(Truth)
    }
}

/// The arguments of a `__new__` that leaves them all to `__init__`.
pub type Positional<'a, 'py> = &'a Bound<'py, PyTuple>;
/// The keyword half of [`Positional`].
pub type Keyword<'a, 'py> = &'a Bound<'py, PyDict>;
