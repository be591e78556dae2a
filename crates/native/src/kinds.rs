//! What kind of class a type is.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

/// Whether a class was made by a `class` statement: apart from what its bases have, its instances hold nothing
/// but attributes.
pub fn is_made_by_python(class: &Bound<'_, PyType>) -> PyResult<bool> {
    static OTHER: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = class.py();
    let other = OTHER.get_or_try_init(py, || {
        let made = py
            .get_type::<PyType>()
            .call1(("Made", PyTuple::empty(py), PyDict::new(py)))?;
        Ok::<_, PyErr>(made.cast_into::<PyType>()?.unbind())
    })?;
    let end = |class: &Bound<'_, PyType>| {
        // SAFETY: a type, and a slot that every type may be asked for.
        unsafe { ffi::PyType_GetSlot(class.as_type_ptr(), ffi::Py_tp_dealloc) }
    };
    Ok(end(class) == end(other.bind(py)))
}
