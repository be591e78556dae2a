//! Errors on their way: the Python helpers that take them apart in a worker and rebuild them here.

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyModule};

fn helpers(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static HELPERS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    HELPERS
        .get_or_try_init(py, || {
            py.import("procession._core.pool.errors").map(Bound::unbind)
        })
        .map(|module| module.bind(py))
}

/// The bytes that stand for an exception a task raised.
pub(super) fn describe<'py>(py: Python<'py>, error: &PyErr) -> PyResult<Bound<'py, PyBytes>> {
    let described = helpers(py)?.call_method1("describe", (with_traceback(py, error),))?;
    Ok(described.cast_into()?)
}

/// The exception object; before Python 3.12 its traceback is kept apart from it.
fn with_traceback(py: Python<'_>, error: &PyErr) -> Py<PyBaseException> {
    error.clone_ref(py).into_value(py)
}

/// The bytes that stand for a result which could not be encoded.
pub(super) fn describe_unsendable<'py>(
    py: Python<'py>,
    error: &PyErr,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let described = helpers(py)?.call_method1("describe_unsendable", (error.value(py), value))?;
    Ok(described.cast_into()?)
}

/// The exception behind the bytes of [`describe`]. Never fails: the failure would be the exception.
pub(super) fn rebuild<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    let rebuilt =
        helpers(py).and_then(|helpers| helpers.call_method1("rebuild", (PyBytes::new(py, bytes),)));
    rebuilt.unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any())
}
