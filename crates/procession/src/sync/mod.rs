//! Synchronisation between processes.

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
