//! Attachments: the shared objects in a pickled message.
//!
//! A queue, a lock or a value is pickled as its handle, and a handle keeps nothing alive. So the encoder collects the
//! objects that the handles name, and the message keeps them alive (`Queue::put_with` of the engine).

use std::cell::RefCell;

use procession_engine::{Handle, ObjectRef};
use pyo3::prelude::*;

use crate::support::errors::raise;

thread_local! {
    /// The attachments of each message that this thread pickles. There can be several: reducers can send messages.
    static OPEN: RefCell<Vec<Vec<ObjectRef>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `pickle` and returns its result, with the objects that were attached during the call.
pub(super) fn collect<T>(pickle: impl FnOnce() -> T) -> (T, Vec<ObjectRef>) {
    struct Opened;
    impl Drop for Opened {
        fn drop(&mut self) {
            OPEN.with_borrow_mut(Vec::pop);
        }
    }
    OPEN.with_borrow_mut(|open| open.push(Vec::new()));
    let opened = Opened;
    let pickled = pickle();
    let attached = OPEN.with_borrow_mut(|open| open.last_mut().map(std::mem::take));
    drop(opened);
    (pickled, attached.unwrap_or_default())
}

/// Attaches an object to the message that this thread is pickling. Returns False if there is none.
#[pyfunction]
pub fn attach_to_message(handle: &[u8]) -> PyResult<bool> {
    if !is_pickling_message() {
        return Ok(false);
    }
    let object = ObjectRef::of(&Handle::from_bytes(handle).map_err(raise)?).map_err(raise)?;
    OPEN.with_borrow_mut(|open| {
        if let Some(message) = open.last_mut() {
            message.push(object);
        }
    });
    Ok(true)
}

/// Returns whether this thread is pickling a message.
#[pyfunction]
pub fn is_pickling_message() -> bool {
    OPEN.with_borrow(|open| !open.is_empty())
}
