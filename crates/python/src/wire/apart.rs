//! Large buffers of a pickled value, beside the pickle.
//!
//! Pickle's protocol 5 hands the memory of arrays to a callback instead of copying it. It is copied once,
//! straight into the message's block; and the receiver's arrays use it where it lies, for as long as they
//! live.
//!
//! ```text
//! message  'O' count u32 | pickle-length u64 | (offset u64, length u64) for each buffer | pickle | buffers
//! ```
//!
//! Numbers are little endian; buffers start at multiples of 64 bytes.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use procession_engine::Lending;
use procession_native::SharedBuffer;
use procession_wire::tag;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView};

use super::fault::damaged;
use super::pickle;

/// Buffers from this size on travel beside the pickle: below, copying costs less than the bookkeeping, and
/// a small view would keep a whole message alive.
const APART_FROM: usize = 32 << 10;

const ALIGNMENT: usize = 64;
const HEADER: usize = 1 + 4 + 8;
const ENTRY: usize = 16;

/// What a pickler is given to call with each buffer; false for those that it is to leave out.
#[pyclass(frozen)]
#[derive(Debug, Default)]
pub(super) struct Collector(Mutex<Vec<PyBuffer<u8>>>);

#[pymethods]
impl Collector {
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = buffer.py();
        let raw = match buffer.call_method0(intern!(py, "raw")) {
            Ok(raw) => raw,
            // Not in one piece: pickle knows what to say.
            Err(error) if error.is_instance_of::<PyBufferError>(py) => return Ok(true),
            Err(error) => return Err(error),
        };
        let view = PyBuffer::<u8>::get(&raw)?;
        if view.len_bytes() < APART_FROM {
            return Ok(true);
        }
        self.lock().push(view);
        Ok(false)
    }
}

impl Collector {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<PyBuffer<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The buffers that were left out, in their order.
    pub(super) fn take(&self) -> Vec<PyBuffer<u8>> {
        std::mem::take(&mut *self.lock())
    }
}

/// Where everything in a message lies.
#[derive(Debug)]
struct Layout {
    pickle: Range<usize>,
    buffers: Vec<Range<usize>>,
}

impl Layout {
    /// `skew`: how far behind a multiple of 64 the message begins.
    fn of(pickle: usize, buffers: &[PyBuffer<u8>], skew: usize) -> Layout {
        let start = HEADER + ENTRY * buffers.len();
        let mut end = start + pickle;
        let place = |buffer: &PyBuffer<u8>| {
            let start = (end + skew).next_multiple_of(ALIGNMENT) - skew;
            end = start + buffer.len_bytes();
            start..end
        };
        let buffers = buffers.iter().map(place).collect();
        Layout {
            pickle: start..start + pickle,
            buffers,
        }
    }

    /// The layout that a message says it has; `None` if it cannot have it.
    fn read(bytes: &[u8]) -> Option<Layout> {
        let count = u32::from_le_bytes(*bytes.get(1..)?.first_chunk()?) as usize;
        let number = |at: usize| {
            let digits = bytes.get(at..)?.first_chunk()?;
            usize::try_from(u64::from_le_bytes(*digits)).ok()
        };
        let range = |start: usize, length: usize| {
            let end = start.checked_add(length)?;
            (end <= bytes.len()).then_some(start..end)
        };
        let pickle = range(HEADER.checked_add(ENTRY.checked_mul(count)?)?, number(5)?)?;
        let buffers = (0..count).map(|index| {
            let entry = HEADER + ENTRY * index;
            range(number(entry)?, number(entry + 8)?)
        });
        Some(Layout {
            buffers: buffers.collect::<Option<_>>()?,
            pickle,
        })
    }

    fn size(&self) -> usize {
        self.buffers.last().map_or(self.pickle.end, |last| last.end)
    }
}

/// How long the message of a pickle and its buffers is, if it begins `skew` bytes behind a multiple of 64.
pub fn size(pickle: &[u8], buffers: &[PyBuffer<u8>], skew: usize) -> usize {
    Layout::of(pickle.len(), buffers, skew).size()
}

/// Writes the message of a pickle and its buffers to where it is to lie, which has its [`size`].
pub fn write(
    py: Python<'_>,
    pickle: &[u8],
    buffers: &[PyBuffer<u8>],
    skew: usize,
    to: &mut [u8],
) -> PyResult<()> {
    let layout = Layout::of(pickle.len(), buffers, skew);
    to[0] = tag::APART;
    to[1..5].copy_from_slice(&(buffers.len() as u32).to_le_bytes());
    to[5..HEADER].copy_from_slice(&(pickle.len() as u64).to_le_bytes());
    to[layout.pickle.clone()].copy_from_slice(pickle);
    for (index, (buffer, place)) in buffers.iter().zip(&layout.buffers).enumerate() {
        let entry = HEADER + ENTRY * index;
        to[entry..entry + 8].copy_from_slice(&(place.start as u64).to_le_bytes());
        to[entry + 8..entry + ENTRY].copy_from_slice(&(place.len() as u64).to_le_bytes());
        buffer.copy_to_slice(py, &mut to[place.clone()])?;
    }
    Ok(())
}

/// The value of such a message, whose memory it uses from then on: `lend` is what makes that possible.
pub(super) fn load<M: AsRef<[u8]>>(
    py: Python<'_>,
    message: M,
    lend: impl FnOnce(M) -> Result<Lending, M>,
) -> PyResult<Bound<'_, PyAny>> {
    let layout = Layout::read(message.as_ref()).ok_or_else(out_of_place)?;
    let pickled = PyBytes::new(py, &message.as_ref()[layout.pickle.clone()]);
    let buffers = PyList::empty(py);
    match lend(message) {
        Ok(lending) => {
            for place in layout.buffers {
                buffers.append(view(py, &lending, place)?)?;
            }
            let value = pickle::load_with(&pickled, &buffers);
            lending.unseal();
            value
        }
        Err(message) => {
            for place in layout.buffers {
                buffers.append(PyByteArray::new(py, &message.as_ref()[place]))?;
            }
            pickle::load_with(&pickled, &buffers)
        }
    }
}

fn out_of_place() -> PyErr {
    damaged("its parts lie outside of it")
}

fn view<'py>(
    py: Python<'py>,
    lending: &Lending,
    place: Range<usize>,
) -> PyResult<Bound<'py, PyMemoryView>> {
    let region = lending
        .region(place)
        .ok_or_else(|| damaged("its parts lie outside of it"))?;
    let buffer = Bound::new(py, SharedBuffer::new(region, false))?;
    PyMemoryView::from(&buffer)
}
