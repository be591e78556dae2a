//! Having the interpreter do something in a moment.

use std::ffi::{c_int, c_void};
use std::panic::catch_unwind;

use pyo3::ffi;

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
