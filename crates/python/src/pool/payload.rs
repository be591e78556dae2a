//! The payload of a task: its function, the arguments, and how to call it.
//!
//! ```text
//! payload   kind u8 | flags u8 | length u32 | function | value
//! function  a message of `length` bytes, or the handle of a copy-on-write buffer that contains it
//! value     a message, or the handle of a copy-on-write buffer that contains it
//! ```
//!
//! A function with a short pickle (by reference, usually) is part of every task. A long one is put into shared memory
//! once a job. Workers cache the functions they loaded, see [`super::functions`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use procession_engine::pool::Task;
use procession_engine::{BorrowedBuffer, CowBuffer, Handle, ObjectRef};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::buffer_cache::BufferCache;
use crate::support::errors::raise;
use crate::wire;
use crate::wire::message::Encoded;

/// The largest pickled function, in bytes, that is part of each task. With a small argument the payload still fits into
/// the record of a task.
const SHORT: usize = 96;
const HEADER: usize = 6;

/// Bits of `flags`.
const FUNCTION_BY_HANDLE: u8 = 1;
const VALUE_BY_HANDLE: u8 = 2;
const TIMED: u8 = 4;

/// If a function or chunk has more bytes, all chunks get the same size, as in the standard library, because each chunk
/// carries it.
pub(super) const HEAVY: usize = 64 * 1024;

/// How a task's value is passed to its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `function(value)`
    One = 0,
    /// `function(item)` for each item of the value
    Many = 1,
    /// `function(*value)`
    StarOne = 2,
    /// `function(*item)` for each item of the value
    StarMany = 3,
    /// `function(*value[0], **value[1])`
    Call = 4,
    /// `value[0](*value[1], **value[2])`, with no function in front
    Whole = 5,
}

/// A parsed payload.
#[derive(Debug)]
pub(super) struct Payload<'a> {
    pub(super) kind: Kind,
    /// Whether each call has a time limit.
    pub(super) timed: bool,
    pub(super) function: Content<'a>,
    value: Content<'a>,
}

/// A message, or the handle of the copy-on-write buffer that contains it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'a> {
    by_handle: bool,
    pub(super) bytes: &'a [u8],
}

impl Content<'_> {
    /// Decodes the object. Also returns its memory, if large arrays in it use that.
    pub(super) fn load<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<BorrowedBuffer>)> {
        if !self.by_handle {
            return Ok((wire::decode(py, self.bytes)?, None));
        }
        let handle = Handle::from_bytes(self.bytes).map_err(raise)?;
        wire::receive_cow(py, CowBuffer::open(&handle).map_err(raise)?)
    }
}

impl Payload<'_> {
    pub(super) fn parse(bytes: &[u8]) -> Option<Payload<'_>> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let kind = match header[0] {
            0 => Kind::One,
            1 => Kind::Many,
            2 => Kind::StarOne,
            3 => Kind::StarMany,
            4 => Kind::Call,
            5 => Kind::Whole,
            _ => return None,
        };
        let length = u32::from_le_bytes(header[2..].try_into().ok()?);
        let (function, value) = rest.split_at_checked(length as usize)?;
        Some(Payload {
            kind,
            timed: header[1] & TIMED != 0,
            function: Content {
                by_handle: header[1] & FUNCTION_BY_HANDLE != 0,
                bytes: function,
            },
            value: Content {
                by_handle: header[1] & VALUE_BY_HANDLE != 0,
                bytes: value,
            },
        })
    }
}

impl Payload<'_> {
    /// Decodes the value.
    pub(super) fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.value.load(py).map(|(value, _)| value)
    }
}

/// Writes an encoded object to its own copy-on-write buffer.
fn write_cow(py: Python<'_>, encoded: &Encoded) -> PyResult<CowBuffer> {
    encoded
        .message_buf_after(py, 0, &[])?
        .into_cow_buffer()
        .map_err(raise)
}

/// The size of a value in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    pub(super) whole: usize,
    /// Without the buffers that earlier tasks have put into shared memory.
    pub(super) new: usize,
}

/// Appends the value to a payload and returns its size.
///
/// A large value is written to its own copy-on-write buffer, which the worker uses in place, also when the task is
/// repeated.
pub(super) fn end(
    value: &Bound<'_, PyAny>,
    common: Option<&BufferCache>,
    payload: &mut Vec<u8>,
    attachments: &mut Vec<ObjectRef>,
) -> PyResult<Weight> {
    let py = value.py();
    let mut encoded = Encoded::of(value)?;
    let whole = encoded.weight();
    let mut new = whole;
    match encoded.small() {
        Some(bytes) => payload.extend_from_slice(bytes),
        None => {
            if let Some(common) = common {
                new -= common.share(py, encoded.buffers_mut(), attachments)?;
            }
            let cow = write_cow(py, &encoded)?;
            payload.extend_from_slice(&cow.handle().to_bytes());
            payload[1] |= VALUE_BY_HANDLE;
            attachments.push(cow.hold().map_err(raise)?);
        }
    }
    attachments.append(&mut encoded.take_attachments());
    Ok(Weight { whole, new })
}

/// Begins a payload whose function is part of the value.
pub(super) fn whole() -> Vec<u8> {
    let mut payload = vec![0; HEADER];
    payload[0] = Kind::Whole as u8;
    payload
}

/// The time limit and the retries of the tasks of a job.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TaskPolicy {
    timeout: Option<Duration>,
    retries: u32,
}

impl TaskPolicy {
    pub(super) fn new(timeout: Option<f64>, retries: u32) -> PyResult<TaskPolicy> {
        let timeout = match timeout {
            None => None,
            Some(seconds) if seconds > 0.0 => Duration::try_from_secs_f64(seconds).ok(),
            Some(_) => return Err(PyValueError::new_err("task_timeout must be greater than 0")),
        };
        Ok(TaskPolicy { timeout, retries })
    }

    /// Returns task `index` of a job. Its first item is number `first`, and it has `weight` bytes.
    pub(super) fn task(self, job: u64, index: usize, first: usize, weight: u64) -> Task {
        Task {
            job,
            index: index as u64,
            timeout: self.timeout,
            retries: self.retries,
            first_item: first as u64,
            weight,
        }
    }
}

/// A function in the form in which tasks carry it.
#[derive(Debug, Default)]
pub(super) struct EncodedFunction {
    cow: Option<CowBuffer>,
    /// A message, or the handle of its copy-on-write buffer.
    bytes: Vec<u8>,
    weight: usize,
    /// The shared objects in the function.
    attachments: Vec<ObjectRef>,
}

impl EncodedFunction {
    /// Encodes a function for many tasks. A long one is written to its own copy-on-write buffer.
    fn of(function: &Bound<'_, PyAny>) -> PyResult<EncodedFunction> {
        let mut encoded = Encoded::of(function)?;
        let (weight, attachments) = (encoded.weight(), encoded.take_attachments());
        let (cow, bytes) = match encoded.small() {
            Some(bytes) if bytes.len() <= SHORT => (None, bytes.to_vec()),
            _ => {
                let cow = write_cow(function.py(), &encoded)?;
                let bytes = cow.handle().to_bytes().to_vec();
                (Some(cow), bytes)
            }
        };
        Ok(EncodedFunction {
            cow,
            bytes,
            weight,
            attachments,
        })
    }

    /// Encodes a function for one task, which carries it whatever its size.
    pub(super) fn single(function: &Bound<'_, PyAny>) -> PyResult<EncodedFunction> {
        let (mut bytes, mut attachments) = (Vec::new(), Vec::new());
        wire::encode(function.py(), function, &mut bytes, &mut attachments)?;
        Ok(EncodedFunction {
            cow: None,
            weight: bytes.len(),
            bytes,
            attachments,
        })
    }

    /// Returns whether the bytes are so short that they can only name the function, and so can be used again.
    pub(super) fn is_name(&self) -> bool {
        self.cow.is_none() && self.attachments.is_empty() && self.bytes.len() <= SHORT
    }

    /// Returns the shared objects that a task with this function must keep alive.
    pub(super) fn into_attachments(self) -> Vec<ObjectRef> {
        self.attachments
    }

    /// Returns whether an additional chunk can cost as much as its items do.
    pub(super) fn is_heavy(&self) -> bool {
        self.weight > HEAVY
    }

    /// Begins the payload of a task.
    pub(super) fn begin(&self, kind: Kind, timed: bool, payload: &mut Vec<u8>) {
        let mut bits = 0;
        if self.cow.is_some() {
            bits |= FUNCTION_BY_HANDLE;
        }
        if timed {
            bits |= TIMED;
        }
        payload.clear();
        payload.push(kind as u8);
        payload.push(bits);
        payload.extend_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        payload.extend_from_slice(&self.bytes);
    }
}

/// How the function of a [`PoolFunction`] is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// With an item.
    Item,
    /// With the elements of an item as arguments.
    StarItem,
    /// Each task has its own function and arguments.
    Whole,
}

/// A function that many tasks carry, and their policy. Keep it as long as they exist.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct PoolFunction {
    encoded: OnceLock<EncodedFunction>,
    /// The function, if it is encoded with its first task.
    late: Option<Py<PyAny>>,
    /// Its size in bytes, until a task has counted it.
    weight: AtomicU64,
    calls: Calls,
    pub(super) policy: TaskPolicy,
    pub(super) common: BufferCache,
}

impl PoolFunction {
    fn unencoded(policy: TaskPolicy, calls: Calls, late: Option<Py<PyAny>>) -> PoolFunction {
        PoolFunction {
            encoded: OnceLock::new(),
            late,
            weight: AtomicU64::new(0),
            calls,
            policy,
            common: BufferCache::default(),
        }
    }

    /// Returns whether it will be encoded with its first task.
    pub(super) fn is_late(&self) -> bool {
        self.late.is_some() && self.encoded.get().is_none()
    }

    /// Returns the encoded function; an empty one if each task has its own.
    pub(super) fn encoded(&self, py: Python<'_>) -> PyResult<&EncodedFunction> {
        if let Some(function) = &self.late
            && self.encoded.get().is_none()
        {
            self.encode(function.bind(py))?;
        }
        Ok(self.encoded.get_or_init(EncodedFunction::default))
    }

    fn encode(&self, function: &Bound<'_, PyAny>) -> PyResult<()> {
        let encoded = EncodedFunction::of(function)?;
        if encoded.cow.is_some() {
            self.weight.store(encoded.weight as u64, Ordering::Relaxed);
        }
        // It cannot be set twice: one thread submits the tasks of a function.
        let _ = self.encoded.set(encoded);
        Ok(())
    }

    /// Returns the size of the function at the first call, then 0: the first task counts it.
    pub(super) fn take_weight(&self) -> u64 {
        match self.weight.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.weight.swap(0, Ordering::Relaxed),
        }
    }

    /// Begins the payload of a task of one item, or of many.
    pub(super) fn begin_items(&self, encoded: &EncodedFunction, many: bool, payload: &mut Vec<u8>) {
        let kind = match (self.calls, many) {
            (Calls::Item, false) => Kind::One,
            (Calls::Item, true) => Kind::Many,
            (Calls::StarItem, false) => Kind::StarOne,
            (Calls::StarItem, true) => Kind::StarMany,
            (Calls::Whole, _) => Kind::Whole,
        };
        encoded.begin(kind, self.policy.timeout.is_some(), payload);
    }
}

#[pymethods]
impl PoolFunction {
    /// Encodes a function, or with `late` leaves that to its first task. With `star`, items are unpacked as arguments.
    ///
    /// `timeout` is in seconds. Raises `ValueError` if it is not greater than 0.
    #[new]
    #[pyo3(signature = (function, star=false, timeout=None, retries=0, late=false))]
    fn new(
        function: &Bound<'_, PyAny>,
        star: bool,
        timeout: Option<f64>,
        retries: u32,
        late: bool,
    ) -> PyResult<PoolFunction> {
        let policy = TaskPolicy::new(timeout, retries)?;
        let calls = if star { Calls::StarItem } else { Calls::Item };
        if late {
            return Ok(PoolFunction::unencoded(
                policy,
                calls,
                Some(function.clone().unbind()),
            ));
        }
        let made = PoolFunction::unencoded(policy, calls, None);
        made.encode(function)?;
        Ok(made)
    }

    /// Creates one for tasks that are each a tuple (function, args, kwds).
    #[staticmethod]
    fn of_calls(timeout: Option<f64>, retries: u32) -> PyResult<PoolFunction> {
        let policy = TaskPolicy::new(timeout, retries)?;
        Ok(PoolFunction::unencoded(policy, Calls::Whole, None))
    }
}
