//! Shared objects that are met while a message is pickled.
//!
//! A queue, a lock or a value is pickled as its handle, and a handle keeps nothing alive. So whoever pickles
//! a message collects what the handles name, and the message holds it (`Queue::put_with` of the engine).

use std::cell::RefCell;

use procession_engine::{Handle, Held};
use pyo3::prelude::*;

use crate::support::errors::raise;

thread_local! {
    /// What was met in each of the messages that this thread pickles: reducers may send messages, too.
    static OPEN: RefCell<Vec<Vec<Held>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `pickle` and returns, beside what it returns, the objects that were enclosed meanwhile.
pub(super) fn collect<T>(pickle: impl FnOnce() -> T) -> (T, Vec<Held>) {
    struct Opened;
    impl Drop for Opened {
        fn drop(&mut self) {
            OPEN.with_borrow_mut(Vec::pop);
        }
    }
    OPEN.with_borrow_mut(|open| open.push(Vec::new()));
    let opened = Opened;
    let pickled = pickle();
    let enclosed = OPEN.with_borrow_mut(|open| open.last_mut().map(std::mem::take));
    drop(opened);
    (pickled, enclosed.unwrap_or_default())
}

/// Lets the message that this thread is pickling hold the object; False if it pickles none.
#[pyfunction]
pub fn attach_to_message(handle: &[u8]) -> PyResult<bool> {
    if !is_pickling_message() {
        return Ok(false);
    }
    let held = Held::of(&Handle::from_bytes(handle).map_err(raise)?).map_err(raise)?;
    OPEN.with_borrow_mut(|open| {
        if let Some(message) = open.last_mut() {
            message.push(held);
        }
    });
    Ok(true)
}

/// Whether this thread is pickling a message.
#[pyfunction]
pub fn is_pickling_message() -> bool {
    OPEN.with_borrow(|open| !open.is_empty())
}
