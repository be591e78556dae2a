//! The way out for everything that is not plain: `multiprocessing`'s own pickler.

use pyo3::buffer::PyBuffer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyModule};

const PROTOCOL: u8 = 5;

/// Looked up at each call, since programs replace it.
fn forking_pickler(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static REDUCTION: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    REDUCTION
        .get_or_try_init(py, || {
            py.import("multiprocessing.reduction").map(Bound::unbind)
        })?
        .bind(py)
        .getattr(intern!(py, "ForkingPickler"))
}

pub(super) fn dump(py: Python<'_>, obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let pickled = forking_pickler(py)?.call_method1(intern!(py, "dumps"), (obj, PROTOCOL))?;
    append_buffer(&pickled, out)
}

pub(super) fn load<'py>(py: Python<'py>, pickled: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    forking_pickler(py)?.call_method1(intern!(py, "loads"), (PyBytes::new(py, pickled),))
}

/// Appends what an object with the buffer protocol holds.
pub(super) fn append_buffer(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let buffer = PyBuffer::<u8>::get(obj)?;
    let start = out.len();
    out.resize(start + buffer.item_count(), 0);
    buffer.copy_to_slice(obj.py(), &mut out[start..])
}
