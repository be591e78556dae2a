//! Large buffers that several tasks of a job mention: they are written once.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_engine::channel::Draft;
use procession_engine::{Held, Lease};
use procession_pyffi::is_equal;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::support::errors::raise;
use crate::wire::OutOfBand;

/// Buffers from this size on get a lease of their own, for later tasks to find.
const LARGE: usize = 256 * 1024;

/// So many are remembered: what all tasks of a job share is not many, and each keeps its memory.
const MAX_CACHED: usize = 4;

/// What the last tasks of a job mentioned.
#[derive(Debug, Default)]
pub(super) struct BufferCache(Mutex<VecDeque<Known>>);

/// A buffer that was written before. Where it was says that it may be the same one again; whether it is,
/// its content says, which the program may have changed.
#[derive(Debug)]
struct Known {
    start: usize,
    lease: Lease,
}

impl BufferCache {
    fn known(&self) -> MutexGuard<'_, VecDeque<Known>> {
        // Held while attached only, and across no Python code.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the large ones of the buffers into leases, and adds what keeps these to `held`. Returns how many bytes were
    /// there already.
    pub(super) fn share(
        &self,
        py: Python<'_>,
        buffers: &mut [OutOfBand],
        held: &mut Vec<Held>,
    ) -> PyResult<usize> {
        let mut found = 0;
        for buffer in buffers {
            if buffer.view().len_bytes() < LARGE {
                continue;
            }
            if let Some(kept) = self.find(py, buffer)? {
                held.push(kept);
                found += buffer.view().len_bytes();
                continue;
            }
            let lease = lease_of(py, buffer.view())?;
            held.push(lease.hold().map_err(raise)?);
            buffer.pass_by_handle(&lease);
            let start = buffer.view().buf_ptr() as usize;
            let mut known = self.known();
            let outdated = known.iter().position(|other| other.start == start);
            if outdated.is_some() || known.len() == MAX_CACHED {
                known.remove(outdated.unwrap_or(0));
            }
            known.push_back(Known { start, lease });
        }
        Ok(found)
    }

    fn find(&self, py: Python<'_>, buffer: &mut OutOfBand) -> PyResult<Option<Held>> {
        let start = buffer.view().buf_ptr() as usize;
        let known = self.known();
        let Some(same) = known.iter().find(|known| known.start == start) else {
            return Ok(None);
        };
        if !is_equal(py, buffer.view(), same.lease.bytes()) {
            return Ok(None);
        }
        buffer.pass_by_handle(&same.lease);
        same.lease.hold().map(Some).map_err(raise)
    }
}

fn lease_of(py: Python<'_>, view: &PyBuffer<u8>) -> PyResult<Lease> {
    let length = view.len_bytes();
    let mut draft = py.detach(|| Draft::new(length, &[])).map_err(raise)?;
    view.copy_to_slice(py, draft.bytes_mut())?;
    draft.lease().map_err(raise)
}
