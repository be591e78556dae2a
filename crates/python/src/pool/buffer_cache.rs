//! Large buffers that several tasks of a job share: they are written once.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_engine::channel::MessageBuf;
use procession_engine::{CowBuffer, ObjectRef};
use procession_pyffi::is_equal;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::support::errors::raise;
use crate::wire::OutOfBand;

/// The smallest buffer, in bytes, that is written to its own copy-on-write buffer for later tasks to use.
const LARGE: usize = 256 * 1024;

/// The size of the cache. The tasks of a job share few buffers, and each cached one keeps its memory.
const MAX_CACHED: usize = 4;

/// The buffers of the last tasks of a job.
#[derive(Debug, Default)]
pub(super) struct BufferCache(Mutex<VecDeque<Known>>);

/// A buffer that was written before. Its address tells that the same buffer may have come again. Its content decides,
/// since the program can have changed it.
#[derive(Debug)]
struct Known {
    start: usize,
    cow: CowBuffer,
}

impl BufferCache {
    fn known(&self) -> MutexGuard<'_, VecDeque<Known>> {
        // It is locked only while attached, and never across Python code.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the large buffers by handle, and adds the objects that keep their memory to `attachments`. Returns how many
    /// bytes were in the cache already.
    pub(super) fn share(
        &self,
        py: Python<'_>,
        buffers: &mut [OutOfBand],
        attachments: &mut Vec<ObjectRef>,
    ) -> PyResult<usize> {
        let mut found = 0;
        for buffer in buffers {
            if buffer.view().len_bytes() < LARGE {
                continue;
            }
            if let Some(kept) = self.find(py, buffer)? {
                attachments.push(kept);
                found += buffer.view().len_bytes();
                continue;
            }
            let cow = write_cow(py, buffer.view())?;
            attachments.push(cow.hold().map_err(raise)?);
            buffer.pass_by_handle(&cow);
            let start = buffer.view().buf_ptr() as usize;
            let mut known = self.known();
            let outdated = known.iter().position(|other| other.start == start);
            if outdated.is_some() || known.len() == MAX_CACHED {
                known.remove(outdated.unwrap_or(0));
            }
            known.push_back(Known { start, cow });
        }
        Ok(found)
    }

    fn find(&self, py: Python<'_>, buffer: &mut OutOfBand) -> PyResult<Option<ObjectRef>> {
        let start = buffer.view().buf_ptr() as usize;
        let known = self.known();
        let Some(same) = known.iter().find(|known| known.start == start) else {
            return Ok(None);
        };
        if !is_equal(py, buffer.view(), same.cow.bytes()) {
            return Ok(None);
        }
        buffer.pass_by_handle(&same.cow);
        same.cow.hold().map(Some).map_err(raise)
    }
}

fn write_cow(py: Python<'_>, view: &PyBuffer<u8>) -> PyResult<CowBuffer> {
    let length = view.len_bytes();
    let mut buf = py.detach(|| MessageBuf::new(length, &[])).map_err(raise)?;
    view.copy_to_slice(py, buf.bytes_mut())?;
    buf.into_cow_buffer().map_err(raise)
}
