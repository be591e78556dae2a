//! Out-of-band buffers (PEP 574): the large buffers of a pickled value, stored beside the pickle.
//!
//! Pickle protocol 5 passes the memory of arrays to a callback instead of copying it. This module copies it once, into
//! the block of the message. The arrays of the receiver use that memory in place, for as long as they live.
//!
//! ```text
//! message  'O' count u32 | pickle-length u64 | (offset u64, length u64) for each buffer | pickle | buffers
//! ```
//!
//! Numbers are little endian; buffers start at multiples of 64 bytes. The two highest bits of a length:
//!
//! * [`MAKE_WRITABLE`]: the buffer was read-only, and the receiver's array must be writable;
//! * [`BY_HANDLE`]: at the offset is the handle of a copy-on-write buffer, whose whole content is the buffer. Only tasks
//!   of a pool use this, for buffers that several of them share (`pool/buffer_cache.rs`).

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use procession_engine::{BorrowedBuffer, CowBuffer, Handle};
use procession_pyffi::{self as pyffi, WritableOnRequest};
use procession_wire::tag;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView};

use super::error::damaged;
use super::pickle;
use crate::support::errors::raise;

/// The smallest buffer that goes out of band, in bytes. A smaller one is cheaper to copy, and its view would keep a
/// whole message alive.
const OUT_OF_BAND_FROM: usize = 32 << 10;

const ALIGNMENT: usize = 64;
const HEADER: usize = 1 + 4 + 8;
const ENTRY: usize = 16;

const MAKE_WRITABLE: u64 = 1 << 63;
const BY_HANDLE: u64 = 1 << 62;
const HANDLE: usize = 32;

/// A buffer that a pickle refers to and does not contain.
#[derive(Debug)]
pub struct OutOfBand {
    view: PyBuffer<u8>,
    make_writable: bool,
    by_handle: Option<Handle>,
}

impl OutOfBand {
    /// Returns its memory, which stays valid while this exists.
    pub fn view(&self) -> &PyBuffer<u8> {
        &self.view
    }

    /// Makes the message contain the handle of a copy-on-write buffer with the same content, instead of the content.
    pub fn pass_by_handle(&mut self, cow: &CowBuffer) {
        self.by_handle = Some(cow.handle());
    }

    fn len(&self) -> usize {
        match self.by_handle {
            Some(_) => HANDLE,
            None => self.view.len_bytes(),
        }
    }

    fn entry(&self, place: &Range<usize>) -> [u8; ENTRY] {
        let length = self.view.len_bytes() as u64
            | if self.make_writable { MAKE_WRITABLE } else { 0 }
            | if self.by_handle.is_some() {
                BY_HANDLE
            } else {
                0
            };
        let mut entry = [0; ENTRY];
        entry[..8].copy_from_slice(&(place.start as u64).to_le_bytes());
        entry[8..].copy_from_slice(&length.to_le_bytes());
        entry
    }
}

/// The `buffer_callback` of a pickler. It returns false for a buffer that the pickle must leave out.
#[pyclass(frozen)]
#[derive(Debug, Default)]
pub(super) struct Collector(Mutex<Vec<OutOfBand>>);

#[pymethods]
impl Collector {
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = buffer.py();
        let raw = match buffer.call_method0(intern!(py, "raw")) {
            Ok(raw) => raw,
            // The buffer is not contiguous: pickle copies it, or raises.
            Err(error) if error.is_instance_of::<PyBufferError>(py) => return Ok(true),
            Err(error) => return Err(error),
        };
        let view = PyBuffer::<u8>::get(&raw)?;
        let make_writable = view.readonly() && is_to_be_writable(&raw)?;
        if view.len_bytes() < OUT_OF_BAND_FROM && !make_writable {
            return Ok(true);
        }
        let by_handle = None;
        self.lock().push(OutOfBand {
            view,
            make_writable,
            by_handle,
        });
        Ok(false)
    }
}

/// Returns whether a read-only view belongs to an array that would arrive writable with the standard library.
///
/// The standard library pickles with the interpreter's default protocol, and before protocol 5 the receiver of an array
/// owns its memory.
fn is_to_be_writable(raw: &Bound<'_, PyAny>) -> PyResult<bool> {
    static COPIES: PyOnceLock<bool> = PyOnceLock::new();
    let py = raw.py();
    let copies = COPIES.get_or_try_init(py, || {
        let protocol: u8 = py
            .import("pickle")?
            .getattr("DEFAULT_PROTOCOL")?
            .extract()?;
        Ok::<bool, PyErr>(protocol < 5)
    })?;
    let exporter = raw.getattr(intern!(py, "obj"))?.get_type();
    Ok(*copies && exporter.hasattr(intern!(py, "__array_interface__"))?)
}

impl Collector {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<OutOfBand>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the buffers that were left out, in order.
    pub(super) fn take(&self) -> Vec<OutOfBand> {
        std::mem::take(&mut *self.lock())
    }
}

/// The place of a buffer in a received message.
#[derive(Debug)]
struct Place {
    range: Range<usize>,
    make_writable: bool,
    /// The length of the buffer, if there is a handle at the place.
    by_handle: Option<usize>,
}

impl Place {
    fn read(offset: u64, length: u64) -> Option<Place> {
        let size = usize::try_from(length & !(MAKE_WRITABLE | BY_HANDLE)).ok()?;
        let by_handle = (length & BY_HANDLE != 0).then_some(size);
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(by_handle.map_or(size, |_| HANDLE))?;
        Some(Place {
            range: start..end,
            make_writable: length & MAKE_WRITABLE != 0,
            by_handle,
        })
    }
}

/// The places of the parts of a message that will be written.
#[derive(Debug)]
struct Layout {
    pickle: Range<usize>,
    buffers: Vec<Range<usize>>,
}

impl Layout {
    /// `skew`: the start of the message, modulo 64.
    fn of(pickle: usize, buffers: &[OutOfBand], skew: usize) -> Layout {
        let start = HEADER + ENTRY * buffers.len();
        let mut end = start + pickle;
        let place = |buffer: &OutOfBand| {
            let start = (end + skew).next_multiple_of(ALIGNMENT) - skew;
            end = start + buffer.len();
            start..end
        };
        let buffers = buffers.iter().map(place).collect();
        Layout {
            pickle: start..start + pickle,
            buffers,
        }
    }

    fn size(&self) -> usize {
        self.buffers.last().map_or(self.pickle.end, |last| last.end)
    }
}

/// Returns the places of the pickle and of the buffers in a received message; `None` if they are invalid.
fn read(bytes: &[u8]) -> Option<(Range<usize>, Vec<Place>)> {
    let count = u32::from_le_bytes(*bytes.get(1..)?.first_chunk()?) as usize;
    let number = |at: usize| {
        let digits = bytes.get(at..)?.first_chunk()?;
        Some(u64::from_le_bytes(*digits))
    };
    let start = HEADER.checked_add(ENTRY.checked_mul(count)?)?;
    let end = start.checked_add(usize::try_from(number(5)?).ok()?)?;
    let places = (0..count).map(|index| {
        let entry = HEADER + ENTRY * index;
        let place = Place::read(number(entry)?, number(entry + 8)?)?;
        (place.range.end <= bytes.len()).then_some(place)
    });
    let places = places.collect::<Option<_>>()?;
    (end <= bytes.len()).then_some((start..end, places))
}

/// Returns the length of the message of a pickle and its buffers, if the message starts at `skew` modulo 64.
pub fn size(pickle: &[u8], buffers: &[OutOfBand], skew: usize) -> usize {
    Layout::of(pickle.len(), buffers, skew).size()
}

/// Writes the message of a pickle and its buffers to `to`, whose length is its [`size`].
pub fn write(
    py: Python<'_>,
    pickle: &[u8],
    buffers: &[OutOfBand],
    skew: usize,
    to: &mut [u8],
) -> PyResult<()> {
    let layout = Layout::of(pickle.len(), buffers, skew);
    to[0] = tag::OUT_OF_BAND;
    to[1..5].copy_from_slice(&(buffers.len() as u32).to_le_bytes());
    to[5..HEADER].copy_from_slice(&(pickle.len() as u64).to_le_bytes());
    to[layout.pickle.clone()].copy_from_slice(pickle);
    for (index, (buffer, place)) in buffers.iter().zip(&layout.buffers).enumerate() {
        let entry = HEADER + ENTRY * index;
        to[entry..entry + ENTRY].copy_from_slice(&buffer.entry(place));
        match &buffer.by_handle {
            Some(handle) => to[place.clone()].copy_from_slice(&handle.to_bytes()),
            None => buffer.view.copy_to_slice(py, &mut to[place.clone()])?,
        }
    }
    Ok(())
}

/// Replaces the pickle in `out`, which begins at `start`, by the message of it and its buffers.
pub fn write_here(
    py: Python<'_>,
    buffers: &[OutOfBand],
    out: &mut Vec<u8>,
    start: usize,
) -> PyResult<()> {
    let pickle = out.split_off(start);
    out.resize(start + size(&pickle, buffers, 0), 0);
    write(py, &pickle, buffers, 0, &mut out[start..])
}

/// Decodes such a message. The value uses the memory of the message if `lend` can map it privately; then that memory is
/// returned, too. Otherwise the buffers are copied.
pub(super) fn load<M: AsRef<[u8]>>(
    py: Python<'_>,
    message: M,
    lend: impl FnOnce(M) -> Result<BorrowedBuffer, M>,
) -> PyResult<(Bound<'_, PyAny>, Option<BorrowedBuffer>)> {
    let (pickle, places) = read(message.as_ref()).ok_or_else(out_of_place)?;
    let pickled = PyBytes::new(py, &message.as_ref()[pickle]);
    let by_handle = open_by_handle(message.as_ref(), &places)?;
    if by_handle.iter().all(Option::is_some) {
        let value = load_with(&pickled, &places, by_handle, |_| Err(out_of_place()))?;
        return Ok((value, None));
    }
    match lend(message) {
        Ok(borrowed) => {
            let value = load_with(&pickled, &places, by_handle, |range| {
                view(py, &borrowed, range)
            });
            borrowed.detach_all();
            Ok((value?, Some(borrowed)))
        }
        Err(message) => {
            let value = load_with(&pickled, &places, by_handle, |range| {
                Ok(copy(py, &message.as_ref()[range]))
            });
            Ok((value?, None))
        }
    }
}

/// Decodes such a message and copies its buffers.
pub(super) fn load_copied<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    load(py, bytes, Err).map(|(value, _)| value)
}

/// Opens the copy-on-write buffers that are passed by handle.
fn open_by_handle(message: &[u8], places: &[Place]) -> PyResult<Vec<Option<CowBuffer>>> {
    let open = |place: &Place| {
        let Some(length) = place.by_handle else {
            return Ok(None);
        };
        let handle = Handle::from_bytes(&message[place.range.clone()]).map_err(raise)?;
        let cow = CowBuffer::open(&handle).map_err(raise)?;
        match cow.bytes().len() == length {
            true => Ok(Some(cow)),
            false => Err(out_of_place()),
        }
    };
    places.iter().map(open).collect()
}

fn load_with<'py>(
    pickled: &Bound<'py, PyBytes>,
    places: &[Place],
    by_handle: Vec<Option<CowBuffer>>,
    here: impl Fn(Range<usize>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = pickled.py();
    let buffers = PyList::empty(py);
    for (place, cow) in places.iter().zip(by_handle) {
        let buffer = match cow {
            None => here(place.range.clone())?,
            Some(cow) => match cow.lend() {
                Ok(borrowed) => view(py, &borrowed, 0..place.by_handle.unwrap_or(0))?,
                Err(cow) => copy(py, cow.bytes()),
            },
        };
        match place.make_writable {
            true => buffers.append(Bound::new(py, WritableOnRequest::new(buffer))?)?,
            false => buffers.append(buffer)?,
        }
    }
    pickle::load_with(pickled, &buffers)
}

fn copy<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    PyByteArray::new(py, bytes).into_any()
}

fn out_of_place() -> PyErr {
    damaged("its parts lie outside of it")
}

fn view<'py>(
    py: Python<'py>,
    borrowed: &BorrowedBuffer,
    place: Range<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let part = borrowed.slice(place).ok_or_else(out_of_place)?;
    let buffer = Bound::new(py, pyffi::BorrowedBuffer::from(part))?;
    Ok(PyMemoryView::from(&buffer)?.into_any())
}
