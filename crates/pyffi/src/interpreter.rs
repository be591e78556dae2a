//! Questions and requests to the interpreter that PyO3 has no safe function for.

use pyo3::buffer::PyBuffer;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::ffi::{c_int, c_void};
use std::panic::catch_unwind;

/// How much is looked at in one piece: it stays in the processor's cache.
const STRIDE: usize = 4096;

/// Whether a buffer in one piece has these bytes.
pub fn is_equal(_py: Python<'_>, buffer: &PyBuffer<u8>, bytes: &[u8]) -> bool {
    if buffer.len_bytes() != bytes.len() || !buffer.is_c_contiguous() {
        return false;
    }
    let start = buffer.buf_ptr().cast::<u8>().cast_const();
    let mut piece = [0; STRIDE];
    bytes.chunks(STRIDE).enumerate().all(|(index, expected)| {
        let piece = &mut piece[..expected.len()];
        // SAFETY: the buffer is as long as `bytes`, and stays where it is for as long as it is exported. It is
        // copied, and so never taken for memory that nobody changes.
        unsafe {
            let from = start.add(index * STRIDE);
            std::ptr::copy_nonoverlapping(from, piece.as_mut_ptr(), piece.len());
        }
        piece == expected
    })
}

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

/// Has the main thread call `work` once it is between two steps of a program, in a moment as a rule.
pub fn in_a_moment(work: fn()) {
    // SAFETY: needs no thread state and may be called from anywhere; `call` has the signature asked for, and its
    // argument is a function, which is there for good.
    let refused = unsafe { ffi::Py_AddPendingCall(Some(call), work as *mut c_void) } != 0;
    if refused {
        // So many calls wait that there is no room for one more.
        work();
    }
}

/// What the interpreter calls; `work` is a `fn()`.
extern "C" fn call(work: *mut c_void) -> c_int {
    // SAFETY: `in_a_moment` alone names this, with a function; on the systems that Procession runs on, functions and data have addresses of one kind.
    let work = unsafe { std::mem::transmute::<*mut c_void, fn()>(work) };
    // What panics has said so.
    let _reported = catch_unwind(work);
    0
}
