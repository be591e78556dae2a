//! Forks: before, and afterwards in the parent and in the child.
//!
//! After a fork, each page of memory that the parent writes to is copied: that is most of the cost of a start. So one
//! call does several steps here, which would touch many objects in Python.

use std::os::fd::{IntoRawFd, RawFd};

use procession_engine::ProcId;
use procession_engine::process;
use pyo3::prelude::*;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::known_fd::KnownFd;
use crate::support::errors::raise;

/// Gives this process shared memory, unless it has some, and returns a pidfd of it for the child that is about to be
/// forked; None where the system refuses pidfds.
#[pyfunction]
pub fn prepare_fork() -> PyResult<Option<RawFd>> {
    process::ensure().map_err(raise)?;
    Ok(open_pidfd(getpid()))
}

/// Returns, in the parent, the id of the child just forked, a pidfd of the child, and None.
///
/// The id is None if this process had no shared memory, the pidfd if the system did not give one. In place of the last
/// None there is the error of `check_fork`, if the child could not take over what its parent holds; it is returned and
/// not raised, so that the caller can tell it from the exception of a signal handler.
#[pyfunction]
pub fn confirm_fork(pid: i32) -> (Option<u32>, Option<KnownFd>, Option<PyErr>) {
    let error = check_fork().err();
    let child = Pid::from_raw(pid).filter(|_| error.is_none());
    (
        forked_child(),
        child.and_then(open_pidfd).map(KnownFd::new),
        error,
    )
}

fn open_pidfd(pid: Pid) -> Option<RawFd> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    Some(pidfd.into_raw_fd())
}

/// Returns, in the parent and after a fork in this thread, the id of the child.
#[pyfunction]
pub fn forked_child() -> Option<u32> {
    process::forked_child().map(ProcId::as_u32)
}

/// Raises `MemoryError` or `OSError` if the child of the last fork could not share all that its parent holds.
///
/// Works in the child and in the parent, in the thread that forked.
#[pyfunction]
pub fn check_fork() -> PyResult<()> {
    process::check_fork().map_err(raise)
}
