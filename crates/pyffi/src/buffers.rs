//! Python objects with the buffer protocol.
//!
//! [`BorrowedBuffer`] exports memory of the engine. Its soundness rests on the type it exports: only the engine makes
//! one, its memory does not move while it exists, and every view keeps the object that keeps it.

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;
use std::sync::OnceLock;

/// What `PyBuffer_FillInfo` calls `readonly`.
const WRITABLE: c_int = 0;

/// Memory that the program borrows from the engine, exported by the buffer protocol.
#[pyclass(frozen, weakref, module = "procession._native")]
#[derive(Debug)]
pub struct BorrowedBuffer(procession_engine::BorrowedBuffer);

impl From<procession_engine::BorrowedBuffer> for BorrowedBuffer {
    fn from(memory: procession_engine::BorrowedBuffer) -> BorrowedBuffer {
        BorrowedBuffer(memory)
    }
}

#[pymethods]
impl BorrowedBuffer {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    // The interpreter calls this, with a view that is null or valid for writing.
    #[expect(unsafe_code, reason = "the buffer protocol is one of raw pointers")]
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no view to fill"));
        }
        let memory = &slf.get().0;
        // No slice is longer than `isize::MAX`.
        let length = isize::try_from(memory.len())
            .map_err(|_| PyBufferError::new_err("longer than Python's buffers can be"))?;
        let start = memory.as_ptr().cast();
        // SAFETY: `view` is valid. The memory is valid for reading and writing `length` bytes, and does not move while
        // it is borrowed. `slf` keeps it, and the filled view keeps `slf`.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, WRITABLE, flags) };
        match filled {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}

/// The base of classes that export the buffer of another object.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug, Default)]
pub struct BufferProxy(OnceLock<Py<PyAny>>);

impl BufferProxy {
    /// Sets the object whose buffer this exports. Later calls have no effect.
    pub fn set(&self, object: &Bound<'_, PyAny>) {
        let _ = self.0.set(object.clone().unbind());
    }
}

#[pymethods]
impl BufferProxy {
    // The interpreter calls this, with a view that is null or valid for writing.
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
        // SAFETY: `view` is valid, and the object fills it as in a direct request: the view keeps that object, and is
        // released by it.
        match unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view, flags) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}

/// A writable buffer that claims to be read-only, unless a request asks to write.
///
/// The pickle of a read-only array says that its buffer is read-only, and the unpickler wraps a writable buffer in a
/// read-only view. It accepts this object as it is. The array on top of it then requests write access, and gets it.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct WritableOnRequest(Py<PyAny>);

impl WritableOnRequest {
    /// Creates it over an object whose buffer is writable.
    pub fn new(object: Bound<'_, PyAny>) -> WritableOnRequest {
        WritableOnRequest(object.unbind())
    }
}

#[pymethods]
impl WritableOnRequest {
    // The interpreter calls this, with a view that is null or valid for writing.
    #[expect(unsafe_code, reason = "the buffer protocol is one of raw pointers")]
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no view to fill"));
        }
        // SAFETY: `view` is valid, and the object fills it as in a direct request: the view keeps that object, and is
        // released by it.
        if unsafe { ffi::PyObject_GetBuffer(slf.get().0.as_ptr(), view, flags) } != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        if flags & ffi::PyBUF_WRITABLE == 0 {
            // SAFETY: the view is valid and filled above. A view of writable memory may be marked read-only.
            unsafe { (*view).readonly = 1 };
        }
        Ok(())
    }
}
