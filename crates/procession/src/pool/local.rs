//! What only the process that made a pool may use.

use std::fmt;

use crate::error::TaskError;
use crate::sync::guard_owner::GuardOwner;

/// A value that a forked copy of the process that made it can neither use nor drop.
///
/// The copy has none of the threads that answer, a lock may be held there by a thread that it does not have, and the
/// numbers it would give to its jobs are those of its parent's. This type is the only way to the inside of a pool, so
/// that no call can forget to look.
pub(super) struct Local<T> {
    maker: GuardOwner,
    pid: u32,
    /// There until it is dropped.
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
    /// [`TaskError::NotOurs`] in a forked copy of the process that made it.
    pub(super) fn get(&self) -> Result<&T, TaskError> {
        let value = self.value.as_ref().filter(|_| self.maker.is_current());
        value.ok_or(TaskError::NotOurs { pid: self.pid })
    }

    /// As [`get`](Local::get), to change it.
    pub(super) fn get_mut(&mut self) -> Result<&mut T, TaskError> {
        let value = self.value.as_mut().filter(|_| self.maker.is_current());
        value.ok_or(TaskError::NotOurs { pid: self.pid })
    }

    /// As [`get`](Local::get), for calls that have no error.
    ///
    /// # Panics
    /// In a forked copy of the process that made it.
    #[track_caller]
    pub(super) fn expect(&self) -> &T {
        self.get().unwrap_or_else(|error| panic!("{error}"))
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
