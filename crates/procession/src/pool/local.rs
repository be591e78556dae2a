//! A value that only the process that created it may use.

use std::fmt;

use crate::error::TaskError;
use crate::sync::guard_owner::GuardOwner;

/// A value that a forked copy of its process can neither use nor drop.
///
/// The copy has none of the pool's threads, a lock may be held by a thread that does not exist there, and new
/// job numbers would collide with the parent's. All access to a pool's inner state goes through this type, so
/// no call can omit the check.
pub(super) struct Local<T> {
    maker: GuardOwner,
    pid: u32,
    /// `None` only during drop.
    value: Option<T>,
}

impl<T> Local<T> {
    pub(super) fn new(value: T) -> Local<T> {
        Local {
            maker: GuardOwner::current(),
            pid: std::process::id(),
            value: Some(value),
        }
    }

    /// # Errors
    /// Returns [`TaskError::NotOurs`] in a forked copy of the process that created it.
    pub(super) fn get(&self) -> Result<&T, TaskError> {
        let value = self.value.as_ref().filter(|_| self.maker.is_current());
        value.ok_or(TaskError::NotOurs { pid: self.pid })
    }

    /// Like [`get`](Local::get), mutably.
    pub(super) fn get_mut(&mut self) -> Result<&mut T, TaskError> {
        let value = self.value.as_mut().filter(|_| self.maker.is_current());
        value.ok_or(TaskError::NotOurs { pid: self.pid })
    }

    /// Like [`get`](Local::get), for callers that return no error.
    ///
    /// # Panics
    /// Panics in a forked copy of the process that created it.
    #[track_caller]
    pub(super) fn expect(&self) -> &T {
        self.get().unwrap_or_else(|error| panic!("{error}"))
    }
}

impl<T: Clone> Clone for Local<T> {
    /// A clone made in a forked copy of the process cannot be used either.
    fn clone(&self) -> Local<T> {
        Local {
            maker: self.maker,
            pid: self.pid,
            value: self.get().ok().cloned(),
        }
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if !self.maker.is_current() {
            std::mem::forget(self.value.take());
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Ok(value) => value.fmt(f),
            Err(_) => write!(f, "<of process {}>", self.pid),
        }
    }
}
