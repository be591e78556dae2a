//! What a task carries: which function, how to call it, on what.
//!
//! ```text
//! payload   kind u8 | where u8 | length u32 | function | value
//! function  a message of `length` bytes, or the handle of a lease of one
//! value     a message, or the handle of a lease of one
//! ```
//!
//! A function that is short when pickled (as it is by reference) travels with every task, a long one
//! is put into shared memory once a job. Workers keep what they loaded, see [`super::functions`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use procession_engine::pool::Task;
use procession_engine::{Handle, Held, Lease, Lending};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::buffer_cache::BufferCache;
use crate::support::errors::raise;
use crate::wire;
use crate::wire::message::Encoded;

/// A pickled function up to this size travels with the task; with a small argument the whole payload
/// still fits into a task's record.
const SHORT: usize = 96;
const HEADER: usize = 6;

/// Bits of `where`.
const FUNCTION_LEASED: u8 = 1;
const VALUE_LEASED: u8 = 2;
const TIMED: u8 = 4;

/// A function or chunk that weighs more is cut as the standard library cuts: every chunk brings it along.
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

/// A payload taken apart.
#[derive(Debug)]
pub(super) struct Payload<'a> {
    pub(super) kind: Kind,
    /// Whether each call has a time limit.
    pub(super) timed: bool,
    pub(super) function: Content<'a>,
    value: Content<'a>,
}

/// A message, or where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'a> {
    leased: bool,
    pub(super) bytes: &'a [u8],
}

impl Content<'_> {
    /// The object, and the memory it came in if large arrays in it use that.
    pub(super) fn load<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Lending>)> {
        if !self.leased {
            return Ok((wire::decode(py, self.bytes)?, None));
        }
        let handle = Handle::from_bytes(self.bytes).map_err(raise)?;
        wire::receive_lease(py, Lease::open(&handle).map_err(raise)?)
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
                leased: header[1] & FUNCTION_LEASED != 0,
                bytes: function,
            },
            value: Content {
                leased: header[1] & VALUE_LEASED != 0,
                bytes: value,
            },
        })
    }
}

impl Payload<'_> {
    /// The value.
    pub(super) fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.value.load(py).map(|(value, _)| value)
    }
}

/// The lease of an encoded object that is not small, or is not to travel with each task.
fn lease(py: Python<'_>, encoded: &Encoded) -> PyResult<Lease> {
    encoded
        .message_buf_after(py, 0, &[])?
        .lease()
        .map_err(raise)
}

/// What a value comes to, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    pub(super) whole: usize,
    /// Without what the tasks before have put into shared memory.
    pub(super) new: usize,
}

/// Ends a payload that was begun with its value: a large one is written to memory of its own, once, for
/// each worker that gets the task to use in place. Returns how much the value weighs.
pub(super) fn end(
    value: &Bound<'_, PyAny>,
    common: Option<&BufferCache>,
    payload: &mut Vec<u8>,
    held: &mut Vec<Held>,
) -> PyResult<Weight> {
    let py = value.py();
    let mut encoded = Encoded::of(value)?;
    let whole = encoded.weight();
    let mut new = whole;
    match encoded.small() {
        Some(bytes) => payload.extend_from_slice(bytes),
        None => {
            if let Some(common) = common {
                new -= common.share(py, encoded.buffers_mut(), held)?;
            }
            let lease = lease(py, &encoded)?;
            payload.extend_from_slice(&lease.handle().to_bytes());
            payload[1] |= VALUE_LEASED;
            held.push(lease.hold().map_err(raise)?);
        }
    }
    held.append(&mut encoded.take_held());
    Ok(Weight { whole, new })
}

/// Starts a payload whose function is part of the value.
pub(super) fn whole() -> Vec<u8> {
    let mut payload = vec![0; HEADER];
    payload[0] = Kind::Whole as u8;
    payload
}

/// How the tasks of a job may be ended or repeated.
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

    /// Task `index` of a job, which begins with item `first` and takes so many bytes.
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

/// A function as its tasks carry it.
#[derive(Debug, Default)]
pub(super) struct EncodedFunction {
    lease: Option<Lease>,
    /// A message, or the handle of the lease.
    bytes: Vec<u8>,
    weight: usize,
    /// What the function mentions.
    held: Vec<Held>,
}

impl EncodedFunction {
    /// A function for many tasks: a long one is written to memory of its own.
    fn of(function: &Bound<'_, PyAny>) -> PyResult<EncodedFunction> {
        let mut encoded = Encoded::of(function)?;
        let (weight, held) = (encoded.weight(), encoded.take_held());
        let (lease, bytes) = match encoded.small() {
            Some(bytes) if bytes.len() <= SHORT => (None, bytes.to_vec()),
            _ => {
                let lease = lease(function.py(), &encoded)?;
                let bytes = lease.handle().to_bytes().to_vec();
                (Some(lease), bytes)
            }
        };
        Ok(EncodedFunction {
            lease,
            bytes,
            weight,
            held,
        })
    }

    /// A function for one task, with which it travels however long it is.
    pub(super) fn single(function: &Bound<'_, PyAny>) -> PyResult<EncodedFunction> {
        let (mut bytes, mut held) = (Vec::new(), Vec::new());
        wire::encode(function.py(), function, &mut bytes, &mut held)?;
        Ok(EncodedFunction {
            lease: None,
            weight: bytes.len(),
            bytes,
            held,
        })
    }

    /// Whether the bytes only name the function, so that they are the same next time.
    pub(super) fn is_name(&self) -> bool {
        self.lease.is_none() && self.held.is_empty() && self.bytes.len() <= SHORT
    }

    /// What a task is to keep alive that carries the function of this one.
    pub(super) fn into_held(self) -> Vec<Held> {
        self.held
    }

    /// Whether each chunk more may cost as much as passing its items.
    pub(super) fn is_heavy(&self) -> bool {
        self.weight > HEAVY
    }

    /// Starts the payload of a task.
    pub(super) fn begin(&self, kind: Kind, timed: bool, payload: &mut Vec<u8>) {
        let mut bits = 0;
        if self.lease.is_some() {
            bits |= FUNCTION_LEASED;
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

/// What the tasks of a function are called with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// An item.
    Item,
    /// What an item consists of.
    StarItem,
    /// Each with arguments of its own, the function among them.
    Whole,
}

/// A function to be sent with many tasks, and its policy. Lives as long as its tasks.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct PoolFunction {
    encoded: OnceLock<EncodedFunction>,
    /// One that is to be encoded with its first task.
    late: Option<Py<PyAny>>,
    /// What it weighs, until a task brought it along.
    weight: AtomicU64,
    calls: Calls,
    pub(super) policy: TaskPolicy,
    pub(super) common: BufferCache,
}

impl PoolFunction {
    fn unready(policy: TaskPolicy, calls: Calls, late: Option<Py<PyAny>>) -> PoolFunction {
        PoolFunction {
            encoded: OnceLock::new(),
            late,
            weight: AtomicU64::new(0),
            calls,
            policy,
            common: BufferCache::default(),
        }
    }

    /// Whether it is still to be encoded, with its first task.
    pub(super) fn is_late(&self) -> bool {
        self.late.is_some() && self.encoded.get().is_none()
    }

    /// The function as tasks carry it; nothing if they bring their own.
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
        if encoded.lease.is_some() {
            self.weight.store(encoded.weight as u64, Ordering::Relaxed);
        }
        // Nobody else did it meanwhile: one thread submits the tasks of a function.
        let _ = self.encoded.set(encoded);
        Ok(())
    }

    /// What the first task weighs more than the others.
    pub(super) fn take_weight(&self) -> u64 {
        match self.weight.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.weight.swap(0, Ordering::Relaxed),
        }
    }

    /// Starts the payload of a task of one item, or of many.
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
    /// With `star`, items are unpacked as the arguments of their calls. If `late`, the function is pickled with its
    /// first task.
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
            return Ok(PoolFunction::unready(
                policy,
                calls,
                Some(function.clone().unbind()),
            ));
        }
        let made = PoolFunction::unready(policy, calls, None);
        made.encode(function)?;
        Ok(made)
    }

    /// For tasks that are (function, args, kwds) each.
    #[staticmethod]
    fn of_calls(timeout: Option<f64>, retries: u32) -> PyResult<PoolFunction> {
        let policy = TaskPolicy::new(timeout, retries)?;
        Ok(PoolFunction::unready(policy, Calls::Whole, None))
    }
}
