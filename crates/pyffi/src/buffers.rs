//! Python objects with the buffer protocol.
//!
//! [`SharedBuffer`] exports memory of the engine. Its soundness rests on the type it exports: only the engine makes a
//! [`Region`], the memory of a region does not move while the region exists, and every view keeps the object that keeps
//! the region.

use procession_engine::Region;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;
use std::sync::OnceLock;

/// Bytes of shared memory that a program uses like its own, through `memoryview` and all that takes one.
#[pyclass(frozen, weakref, module = "procession._native")]
#[derive(Debug)]
pub struct SharedBuffer {
    region: Region,
    readonly: bool,
}

impl SharedBuffer {
    /// A buffer over the region, which may be written to unless `readonly`.
    pub fn new(region: Region, readonly: bool) -> SharedBuffer {
        SharedBuffer { region, readonly }
    }
}

#[pymethods]
impl SharedBuffer {
    fn __len__(&self) -> usize {
        self.region.len()
    }

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
        let this = slf.get();
        // No slice is longer.
        let length = isize::try_from(this.region.len())
            .map_err(|_| PyBufferError::new_err("longer than Python's buffers can be"))?;
        let start = this.region.as_ptr().cast();
        // SAFETY: `view` is valid; the memory is valid for `length` bytes and stays where it is for as long
        // as the region is kept, which `slf` does, of which the filled view owns a reference.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                start,
                length,
                this.readonly.into(),
                flags,
            )
        };
        match filled {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}

/// The base of classes whose buffer is that of the object they guard.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug, Default)]
pub struct BufferProxy(OnceLock<Py<PyAny>>);

impl BufferProxy {
    /// Names the object whose buffer this is; only the first name counts.
    pub fn name(&self, object: &Bound<'_, PyAny>) {
        let _ = self.0.set(object.clone().unbind());
    }
}

#[pymethods]
impl BufferProxy {
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

/// Memory that says it is read-only unless it is asked for to be written to.
///
/// A pickle of a read-only array says so, and the unpickler then makes a read-only view of what it is given, if
/// that is writable. It takes this for what it wants and leaves it as it is; the array that is made of it asks
/// whether it may write.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct WritableOnRequest(Py<PyAny>);

impl WritableOnRequest {
    /// Over the memory of an object whose buffer is writable.
    pub fn new(object: Bound<'_, PyAny>) -> WritableOnRequest {
        WritableOnRequest(object.unbind())
    }
}

#[pymethods]
impl WritableOnRequest {
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
