//! Which objects Rust and Python have in common.

use crate::shared::Object;
use procession_engine::sync;

/// The name that the handle of a [`Queue`](super::Queue) goes by.
pub(super) const QUEUE: &str = "procession::python::Queue";

/// The kind of the object whose handle a newtype of this name is, as Python knows it; `None` for all other
/// newtypes.
pub(super) fn kind_for_python(name: &'static str) -> Result<Option<&'static str>, &'static str> {
    let shared = [
        (QUEUE, "Queue"),
        (sync::Event::MARK, "Event"),
        (sync::Lock::MARK, "Lock"),
        (sync::RLock::MARK, "RLock"),
    ];
    match shared.iter().find(|(mark, _)| *mark == name) {
        Some((_, kind)) => Ok(Some(kind)),
        None if is_object(name) => Err(NOT_SHARED),
        None => Ok(None),
    }
}

/// Whether a newtype of this name is the handle of an object that Python has no use for.
pub(super) fn is_rusts_own(name: &'static str) -> bool {
    kind_for_python(name).is_err()
}

/// What those are told with who try to share such an object.
pub(super) const NOT_SHARED: &str = "Python shares a procession::python::Queue, an Event, a Lock or an RLock with \
     Rust; what the other objects hold is in Rust's own form";

fn is_object(name: &str) -> bool {
    // No type can be called so.
    name.starts_with("procession::")
}
