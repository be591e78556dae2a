//! Whose a guard is.

use procession_engine::{self as engine, OwnerId, process};

use crate::error::Error;

/// The process that took what a guard stands for, and that alone may use it and give it back.
///
/// A guard that a forked child captured is its parent's. Whether the lock is held by the thread at hand does not
/// tell that: the child may have taken the same lock itself, under a guard of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuardOwner(OwnerId);

impl GuardOwner {
    /// This process.
    pub(crate) fn current() -> GuardOwner {
        GuardOwner(process::me())
    }

    pub(crate) fn is_current(self) -> bool {
        self == GuardOwner::current()
    }

    /// # Errors
    /// In a forked child of the process that took it.
    pub(crate) fn check(self) -> Result<(), Error> {
        match self.is_current() {
            true => Ok(()),
            false => Err(engine::Error::Invalid(NOT_THE_CHILDS.to_owned()).into()),
        }
    }

    /// # Panics
    /// In a forked child of the process that took it.
    #[track_caller]
    pub(crate) fn assert_current(self) {
        assert!(self.is_current(), "{NOT_THE_CHILDS}");
    }
}

const NOT_THE_CHILDS: &str =
    "a guard that a forked process captured is its parent's: lock in the child instead";
