//! Whose a guard is.

use procession_engine::{self as engine, OwnerId, process};

use crate::error::Error;

/// The process that took what a guard stands for, and that alone may use it and give it back.
///
/// A guard that a forked child captured is its parent's. Whether the lock is held by the thread at hand does not
/// tell that: the child may have taken the same lock itself, under a guard of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taker(OwnerId);

impl Taker {
    /// This process.
    pub(crate) fn me() -> Taker {
        Taker(process::me())
    }

    pub(crate) fn is_me(self) -> bool {
        self == Taker::me()
    }

    /// # Errors
    /// In a forked child of the process that took it.
    pub(crate) fn check(self) -> Result<(), Error> {
        match self.is_me() {
            true => Ok(()),
            false => Err(engine::Error::Invalid(NOT_THE_CHILDS.to_owned()).into()),
        }
    }

    /// # Panics
    /// In a forked child of the process that took it.
    #[track_caller]
    pub(crate) fn assert_is_me(self) {
        assert!(self.is_me(), "{NOT_THE_CHILDS}");
    }
}

const NOT_THE_CHILDS: &str =
    "a guard that a forked process captured is its parent's: lock in the child instead";
