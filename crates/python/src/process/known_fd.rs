//! Descriptors that remember their file, and the numbers of standard input, output and error.

use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use procession_engine::FileId;
use pyo3::prelude::*;
use rustix::fs::{Mode, OFlags};

use super::sentinels;

/// A descriptor that the program may close behind our back; it remembers its file, and is closed with this object.
///
/// A program may close every descriptor it has, as daemons do, and the next file that it opens gets one of the
/// numbers. So a descriptor that is kept for long is compared with its file before it is used or closed. Only the process
/// that made this object closes it: a forked child has inherited the descriptor, and may need the number.
#[pyclass(module = "procession._native", frozen)]
#[derive(Debug)]
pub struct KnownFd {
    #[pyo3(get)]
    number: RawFd,
    file: Option<FileId>,
    owner: u32,
    is_given_up: AtomicBool,
}

#[pymethods]
impl KnownFd {
    #[new]
    pub fn new(number: RawFd) -> KnownFd {
        KnownFd {
            number,
            file: FileId::of(number),
            owner: std::process::id(),
            is_given_up: AtomicBool::new(false),
        }
    }

    /// Returns whether the number still refers to the same file.
    fn is_open(&self) -> bool {
        let is_same = |file: FileId| file.is_behind(self.number);
        !self.is_given_up.load(Ordering::Relaxed) && self.file.is_some_and(is_same)
    }

    /// Closes it, unless the program did so already.
    fn close(&self) {
        if self.detach() == self.number && self.owner == std::process::id() {
            sentinels::discard_sentinel(self.number);
            if let Some(file) = self.file {
                file.close(self.number);
            }
        }
    }

    /// Leaves the descriptor to the caller, and returns it; -1 if it was closed or left before.
    fn detach(&self) -> RawFd {
        if self.is_given_up.swap(true, Ordering::Relaxed) {
            -1
        } else {
            self.number
        }
    }
}

impl Drop for KnownFd {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns the identity of the file behind a descriptor, to compare later; None if it is closed.
#[pyfunction]
pub fn identity_of(fd: RawFd) -> Option<(u64, u64, i64)> {
    FileId::of(fd).map(FileId::numbers)
}

/// Opens the null device under those of the numbers 0, 1 and 2 that are free; returns them.
///
/// In a program that closed them (it has no terminal), the next open files get these numbers. A process started then
/// would write its output into such a file, or close it as its standard input.
#[pyfunction]
pub fn fill_standard_numbers() -> PyResult<Vec<RawFd>> {
    let is_free = |number: &RawFd| FileId::of(*number).is_none();
    let open_null = |_| {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty());
        Ok(null.map_err(std::io::Error::from)?)
    };
    // If one fails, those before it are closed.
    let opened: PyResult<Vec<OwnedFd>> = (0..3).filter(is_free).map(open_null).collect();
    Ok(opened?.into_iter().map(OwnedFd::into_raw_fd).collect())
}
