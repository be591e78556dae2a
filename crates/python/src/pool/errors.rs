//! Exceptions as bytes: the Python functions that describe an exception in a worker and rebuild it in the pool.

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

/// Returns the bytes that describe the exception of a task.
pub(super) fn describe<'py>(py: Python<'py>, error: &PyErr) -> PyResult<Bound<'py, PyBytes>> {
    let described = helpers(py)?.call_method1("describe", (with_traceback(py, error),))?;
    Ok(described.cast_into()?)
}

/// Returns the exception object with its traceback; before Python 3.12 PyO3 stores the traceback separately.
fn with_traceback(py: Python<'_>, error: &PyErr) -> Py<PyBaseException> {
    error.clone_ref(py).into_value(py)
}

/// Returns the bytes that describe the failure to encode a result.
pub(super) fn describe_unsendable<'py>(
    py: Python<'py>,
    error: &PyErr,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let described = helpers(py)?.call_method1("describe_unsendable", (error.value(py), value))?;
    Ok(described.cast_into()?)
}

/// Returns the exception that [`describe`] described. If that fails, returns the exception of the failure.
pub(super) fn rebuild<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    let rebuilt =
        helpers(py).and_then(|helpers| helpers.call_method1("rebuild", (PyBytes::new(py, bytes),)));
    rebuilt.unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any())
}
