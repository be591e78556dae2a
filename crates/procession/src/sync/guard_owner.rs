//! The process that owns a guard.

use procession_engine::{self as engine, ProcId, process};

use crate::error::Error;

/// The process that created a guard, and that alone may use and release it.
///
/// A guard captured by a forked child belongs to the parent. Asking whether the current thread holds the lock
/// is not enough: the child may have taken the same lock itself, with a guard of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuardOwner(ProcId);

impl GuardOwner {
    /// Returns this process.
    pub(crate) fn current() -> GuardOwner {
        GuardOwner(process::me())
    }

    pub(crate) fn is_current(self) -> bool {
        self == GuardOwner::current()
    }

    /// # Errors
    /// Returns an error in a forked child of the owner.
    pub(crate) fn check(self) -> Result<(), Error> {
        match self.is_current() {
            true => Ok(()),
            false => Err(engine::Error::Invalid(NOT_THE_CHILDS.to_owned()).into()),
        }
    }

    /// # Panics
    /// Panics in a forked child of the owner.
    #[track_caller]
    pub(crate) fn assert_current(self) {
        assert!(self.is_current(), "{NOT_THE_CHILDS}");
    }
}

const NOT_THE_CHILDS: &str =
    "a guard captured by a forked process is its parent's: lock in the child instead";
