//! Questions and requests to the interpreter that PyO3 has no safe function for.

use pyo3::buffer::PyBuffer;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::ffi::{c_int, c_void};
use std::panic::catch_unwind;

/// The number of bytes that are compared at once, so that they stay in the processor's cache.
const STRIDE: usize = 4096;

/// Returns whether a contiguous buffer has these bytes.
pub fn is_equal(_py: Python<'_>, buffer: &PyBuffer<u8>, bytes: &[u8]) -> bool {
    if buffer.len_bytes() != bytes.len() || !buffer.is_c_contiguous() {
        return false;
    }
    let start = buffer.buf_ptr().cast::<u8>().cast_const();
    let mut piece = [0; STRIDE];
    bytes.chunks(STRIDE).enumerate().all(|(index, expected)| {
        let piece = &mut piece[..expected.len()];
        // SAFETY: the buffer is as long as `bytes`, and does not move while it is exported. The bytes are copied, so
        // no reference to memory that can change is created.
        unsafe {
            let from = start.add(index * STRIDE);
            std::ptr::copy_nonoverlapping(from, piece.as_mut_ptr(), piece.len());
        }
        piece == expected
    })
}

/// Returns whether a class was created by a `class` statement. Its instances then contain, besides the data of its bases,
/// only attributes.
///
/// Such classes share one destructor, so it is compared with that of a class that is created here.
pub fn is_made_by_python(class: &Bound<'_, PyType>) -> PyResult<bool> {
    static SAMPLE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = class.py();
    let sample = SAMPLE.get_or_try_init(py, || {
        let made = py
            .get_type::<PyType>()
            .call1(("Made", PyTuple::empty(py), PyDict::new(py)))?;
        Ok::<_, PyErr>(made.cast_into::<PyType>()?.unbind())
    })?;
    let destructor = |class: &Bound<'_, PyType>| {
        // SAFETY: the argument is a type, and the slot is valid for every type.
        unsafe { ffi::PyType_GetSlot(class.as_type_ptr(), ffi::Py_tp_dealloc) }
    };
    Ok(destructor(class) == destructor(sample.bind(py)))
}

/// Makes the main thread call `work` between two bytecodes, usually within a moment.
pub fn in_a_moment(work: fn()) {
    // SAFETY: the function needs no thread state and can be called from any thread. `call` has the required signature,
    // and its argument is a function, which is valid for ever.
    let refused = unsafe { ffi::Py_AddPendingCall(Some(call), work as *mut c_void) } != 0;
    if refused {
        // The interpreter's table of pending calls is full.
        work();
    }
}

/// The function that the interpreter calls; `work` is a `fn()`.
extern "C" fn call(work: *mut c_void) -> c_int {
    // SAFETY: only `in_a_moment` uses this, with a function. On the systems that Procession supports, function and data
    // pointers have the same representation.
    let work = unsafe { std::mem::transmute::<*mut c_void, fn()>(work) };
    // A panic has reported itself.
    let _reported = catch_unwind(work);
    0
}
