//! A buffer that is another object's.

use std::ffi::c_int;
use std::sync::OnceLock;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// The base of classes whose buffer is that of the object they guard.
#[pyclass(frozen, subclass, module = "procession._engine")]
#[derive(Debug, Default)]
pub struct BufferOf(OnceLock<Py<PyAny>>);

impl BufferOf {
    /// Names the object whose buffer this is; only the first name counts.
    pub fn name(&self, object: &Bound<'_, PyAny>) {
        let _ = self.0.set(object.clone().unbind());
    }
}

#[pymethods]
impl BufferOf {
    // The caller, which is the interpreter, passes a view that is null or valid for writing.
    #[expect(unsafe_code, reason = "the buffer protocol is one of raw pointers")]
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let object = match slf.get().0.get() {
            Some(object) if !view.is_null() => object,
            _ => return Err(PyBufferError::new_err("there is nothing to look at yet")),
        };
        // SAFETY: `view` is valid, and the object fills it as if it had been asked itself: the view keeps
        // the object, and its release goes there.
        match unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view, flags) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}
