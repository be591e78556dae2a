//! A buffer whose receivers decide whether it is read-only.

use std::ffi::c_int;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Memory that says it is read-only unless it is asked for to be written to.
///
/// A pickle of a read-only array says so, and the unpickler then makes a read-only view of what it is given, if
/// that is writable. It takes this for what it wants and leaves it as it is; the array that is made of it asks
/// whether it may write.
#[pyclass(frozen, module = "procession._engine")]
#[derive(Debug)]
pub struct Thawed(Py<PyAny>);

impl Thawed {
    /// Over the memory of an object whose buffer is writable.
    pub fn new(object: Bound<'_, PyAny>) -> Thawed {
        Thawed(object.unbind())
    }
}

#[pymethods]
impl Thawed {
    // The caller, which is the interpreter, passes a view that is null or valid for writing.
    #[expect(unsafe_code, reason = "the buffer protocol is one of raw pointers")]
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no view to fill"));
        }
        // SAFETY: `view` is valid, and the object fills it as if it had been asked itself: the view keeps
        // the object, and its release goes there.
        if unsafe { ffi::PyObject_GetBuffer(slf.get().0.as_ptr(), view, flags) } != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        if flags & ffi::PyBUF_WRITABLE == 0 {
            // SAFETY: valid, and filled above; memory that may be written to may be called read-only.
            unsafe { (*view).readonly = 1 };
        }
        Ok(())
    }
}
