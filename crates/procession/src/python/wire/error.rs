//! What serde says when a value and the format do not fit.

use std::fmt;

use procession_wire::Damaged;

/// A reason, in words. Boxed, so that results stay small.
#[derive(Debug)]
pub(super) struct WireError(Box<str>);

impl WireError {
    pub(super) fn new(reason: impl fmt::Display) -> WireError {
        WireError(reason.to_string().into())
    }
}

/// What a message is told with that only Python reads.
pub(super) fn pickled() -> WireError {
    WireError::new(
        "it is a pickle, which only Python reads; to Rust it sends None, bool, int, float, str, bytes, and \
         lists, tuples, sets and dicts of these, not nested deeper than 100",
    )
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WireError {}

impl serde::ser::Error for WireError {
    fn custom<T: fmt::Display>(reason: T) -> WireError {
        WireError::new(reason)
    }
}

impl serde::de::Error for WireError {
    fn custom<T: fmt::Display>(reason: T) -> WireError {
        WireError::new(reason)
    }
}

impl From<Damaged> for WireError {
    fn from(damaged: Damaged) -> WireError {
        WireError::new(damaged)
    }
}
