//! Synchronisation between processes.
//!
//! Most types wrap one object of the engine. [`mutex`] and [`rwlock`] protect a value in a [`serialized_cell`], and
//! report the death of a holder through [`guard_error`]. Every guard has a [`guard_owner`], because a forked child must not
//! release what its parent took.

pub(crate) mod barrier;
pub(crate) mod condvar;
pub(crate) mod event;
pub(crate) mod guard_error;
pub(crate) mod guard_owner;
pub(crate) mod lock;
pub(crate) mod mutex;
pub(crate) mod once;
pub(crate) mod rlock;
pub(crate) mod rwlock;
pub(crate) mod semaphore;
mod serialized_cell;
