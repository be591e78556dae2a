//! The sentinels of the children whose exit status is not known yet.

use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_engine::PollSet;
use pyo3::prelude::*;

static LIVING: Mutex<Living> = Mutex::new(Living {
    parent: 0,
    sentinels: PollSet::new(),
});

#[derive(Debug)]
struct Living {
    /// The pid of the parent: a forked child has no children yet.
    parent: u32,
    sentinels: PollSet,
}

/// Adds the sentinel of a child that was just started.
#[pyfunction]
pub fn add_sentinel(fd: RawFd) {
    living().sentinels.add(fd);
}

/// Removes the sentinel of a child whose exit status is known.
#[pyfunction]
pub fn discard_sentinel(fd: RawFd) {
    living().sentinels.remove(fd);
}

/// Returns whether there are `count` children and none of them has ended, by one system call for all of them.
#[pyfunction]
pub fn are_all_alive(count: usize) -> bool {
    let sentinels = &mut living().sentinels;
    sentinels.len() == count && !sentinels.has_ready()
}

fn living() -> MutexGuard<'static, Living> {
    let mut living = LIVING.lock().unwrap_or_else(PoisonError::into_inner);
    let parent = std::process::id();
    if living.parent != parent {
        *living = Living {
            parent,
            sentinels: PollSet::new(),
        };
    }
    living
}
