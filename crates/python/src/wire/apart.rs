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
//! Numbers are little endian; buffers start at multiples of 64 bytes. The two highest bits of a length:
//!
//! * [`THAWED`]: an array of memory that was read-only is to be writable where it arrives;
//! * [`ELSEWHERE`]: at the offset lies the handle of a lease, of which the buffer is all. Only a pool's tasks
//!   have such, for what several of them mention ([`super::shared`]).

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use procession_engine::{Handle, Lease, Lending};
use procession_native::{SharedBuffer, Thawed};
use procession_wire::tag;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView};

use super::fault::damaged;
use super::pickle;
use crate::errors::raise;

/// Buffers from this size on travel beside the pickle: below, copying costs less than the bookkeeping, and
/// a small view would keep a whole message alive.
const APART_FROM: usize = 32 << 10;

const ALIGNMENT: usize = 64;
const HEADER: usize = 1 + 4 + 8;
const ENTRY: usize = 16;

const THAWED: u64 = 1 << 63;
const ELSEWHERE: u64 = 1 << 62;
const HANDLE: usize = 32;

/// A buffer that belongs to a pickle and is not in it.
#[derive(Debug)]
pub struct Beside {
    view: PyBuffer<u8>,
    thawed: bool,
    elsewhere: Option<Handle>,
}

impl Beside {
    /// The memory it is of, for as long as this is kept.
    pub fn view(&self) -> &PyBuffer<u8> {
        &self.view
    }

    /// From now on the message names the lease with the buffer's content, instead of having it.
    pub fn lies_in(&mut self, lease: &Lease) {
        self.elsewhere = Some(lease.handle());
    }

    fn len(&self) -> usize {
        match self.elsewhere {
            Some(_) => HANDLE,
            None => self.view.len_bytes(),
        }
    }

    fn entry(&self, place: &Range<usize>) -> [u8; ENTRY] {
        let length = self.view.len_bytes() as u64
            | if self.thawed { THAWED } else { 0 }
            | if self.elsewhere.is_some() {
                ELSEWHERE
            } else {
                0
            };
        let mut entry = [0; ENTRY];
        entry[..8].copy_from_slice(&(place.start as u64).to_le_bytes());
        entry[8..].copy_from_slice(&length.to_le_bytes());
        entry
    }
}

/// What a pickler is given to call with each buffer; false for those that it is to leave out.
#[pyclass(frozen)]
#[derive(Debug, Default)]
pub(super) struct Collector(Mutex<Vec<Beside>>);

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
        let thawed = view.readonly() && is_thawed(&raw)?;
        if view.len_bytes() < APART_FROM && !thawed {
            return Ok(true);
        }
        let elsewhere = None;
        self.lock().push(Beside {
            view,
            thawed,
            elsewhere,
        });
        Ok(false)
    }
}

/// Whether a read-only view is of an array that the standard library would have made writable on its way: its
/// pickles are of the interpreter's default protocol, and before protocol 5 the receiver of an array owns it.
fn is_thawed(raw: &Bound<'_, PyAny>) -> PyResult<bool> {
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
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Beside>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The buffers that were left out, in their order.
    pub(super) fn take(&self) -> Vec<Beside> {
        std::mem::take(&mut *self.lock())
    }
}

/// Where a buffer of a received message lies.
#[derive(Debug)]
struct Place {
    range: Range<usize>,
    thawed: bool,
    /// How long the buffer is whose lease's handle lies there.
    elsewhere: Option<usize>,
}

impl Place {
    fn read(offset: u64, length: u64) -> Option<Place> {
        let size = usize::try_from(length & !(THAWED | ELSEWHERE)).ok()?;
        let elsewhere = (length & ELSEWHERE != 0).then_some(size);
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(elsewhere.map_or(size, |_| HANDLE))?;
        Some(Place {
            range: start..end,
            thawed: length & THAWED != 0,
            elsewhere,
        })
    }
}

/// Where everything in a message lies that is about to be written.
#[derive(Debug)]
struct Layout {
    pickle: Range<usize>,
    buffers: Vec<Range<usize>>,
}

impl Layout {
    /// `skew`: how far behind a multiple of 64 the message begins.
    fn of(pickle: usize, buffers: &[Beside], skew: usize) -> Layout {
        let start = HEADER + ENTRY * buffers.len();
        let mut end = start + pickle;
        let place = |buffer: &Beside| {
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

/// Where the pickle and the buffers of a received message lie; `None` if they cannot lie there.
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

/// How long the message of a pickle and its buffers is, if it begins `skew` bytes behind a multiple of 64.
pub fn size(pickle: &[u8], buffers: &[Beside], skew: usize) -> usize {
    Layout::of(pickle.len(), buffers, skew).size()
}

/// Writes the message of a pickle and its buffers to where it is to lie, which has its [`size`].
pub fn write(
    py: Python<'_>,
    pickle: &[u8],
    buffers: &[Beside],
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
        match &buffer.elsewhere {
            Some(handle) => to[place.clone()].copy_from_slice(&handle.to_bytes()),
            None => buffer.view.copy_to_slice(py, &mut to[place.clone()])?,
        }
    }
    Ok(())
}

/// Makes a message of the pickle that `out` has from `start` on, where it is.
pub fn write_here(
    py: Python<'_>,
    buffers: &[Beside],
    out: &mut Vec<u8>,
    start: usize,
) -> PyResult<()> {
    let pickle = out.split_off(start);
    out.resize(start + size(&pickle, buffers, 0), 0);
    write(py, &pickle, buffers, 0, &mut out[start..])
}

/// The value of such a message, whose memory it uses from then on: `lend` is what makes that possible. Also that
/// memory, if it is used.
pub(super) fn load<M: AsRef<[u8]>>(
    py: Python<'_>,
    message: M,
    lend: impl FnOnce(M) -> Result<Lending, M>,
) -> PyResult<(Bound<'_, PyAny>, Option<Lending>)> {
    let (pickle, places) = read(message.as_ref()).ok_or_else(out_of_place)?;
    let pickled = PyBytes::new(py, &message.as_ref()[pickle]);
    let elsewhere = leases(message.as_ref(), &places)?;
    if elsewhere.iter().all(Option::is_some) {
        let value = load_with(&pickled, &places, elsewhere, |_| Err(out_of_place()))?;
        return Ok((value, None));
    }
    match lend(message) {
        Ok(lending) => {
            let value = load_with(&pickled, &places, elsewhere, |range| {
                view(py, &lending, range)
            });
            lending.unseal();
            Ok((value?, Some(lending)))
        }
        Err(message) => {
            let value = load_with(&pickled, &places, elsewhere, |range| {
                Ok(copy(py, &message.as_ref()[range]))
            });
            Ok((value?, None))
        }
    }
}

/// The value of such a message, which it copies.
pub(super) fn load_copied<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    load(py, bytes, Err).map(|(value, _)| value)
}

/// The leases that hold what lies elsewhere.
fn leases(message: &[u8], places: &[Place]) -> PyResult<Vec<Option<Lease>>> {
    let open = |place: &Place| {
        let Some(length) = place.elsewhere else {
            return Ok(None);
        };
        let handle = Handle::from_bytes(&message[place.range.clone()]).map_err(raise)?;
        let lease = Lease::open(&handle).map_err(raise)?;
        match lease.bytes().len() == length {
            true => Ok(Some(lease)),
            false => Err(out_of_place()),
        }
    };
    places.iter().map(open).collect()
}

fn load_with<'py>(
    pickled: &Bound<'py, PyBytes>,
    places: &[Place],
    elsewhere: Vec<Option<Lease>>,
    here: impl Fn(Range<usize>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = pickled.py();
    let buffers = PyList::empty(py);
    for (place, lease) in places.iter().zip(elsewhere) {
        let buffer = match lease {
            None => here(place.range.clone())?,
            Some(lease) => match lease.lend() {
                Ok(lending) => view(py, &lending, 0..place.elsewhere.unwrap_or(0))?,
                Err(lease) => copy(py, lease.bytes()),
            },
        };
        match place.thawed {
            true => buffers.append(Bound::new(py, Thawed::new(buffer))?)?,
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
    lending: &Lending,
    place: Range<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let region = lending.region(place).ok_or_else(out_of_place)?;
    let buffer = Bound::new(py, SharedBuffer::new(region, false))?;
    Ok(PyMemoryView::from(&buffer)?.into_any())
}
