//! Memory of the engine as a Python object with the buffer protocol.
//!
//! What makes it sound is the type it exports: a [`Region`] is made by the engine alone, its memory stays where
//! it is for as long as the region is kept, and every view keeps the object that keeps the region.

use std::ffi::c_int;

use procession_engine::Region;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Bytes of shared memory that a program uses like its own, through `memoryview` and all that takes one.
#[pyclass(frozen, weakref, module = "procession._engine")]
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
