//! `Queue`: messages between any number of producers and consumers.
//!
//! `put` encodes the object before it claims a slot, so an object that cannot be pickled leaves no trace. When `put`
//! returns, the message is in shared memory and outlives its producer. `get` takes the message out before it decodes it.
//!
//! Closing is local, as in the standard library: it ends the use of the queue in this process and does not affect
//! others.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_engine::Deadline;
use procession_engine::channel::{self, Message, MessageBuf};
use procession_engine::error::{GetError, PutError};
use procession_engine::select::{Select, Source};
use pyo3::exceptions::{PyEOFError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::channel::batch;
use crate::support::blocking::{self, Truth};
use crate::support::errors::{EMPTY, FULL, raise};
use crate::support::late_init::LateInit;
use crate::support::late_init::{Keyword, Positional};
use crate::wire;
use crate::wire::message::{Encoded, message_buf_of_bytes};

/// The size that the standard library reports for a queue without a limit.
const NO_LIMIT: usize = i32::MAX as usize;

/// A queue of Python objects.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug)]
pub struct Queue {
    engine: LateInit<channel::Queue>,
    closed: AtomicBool,
    used: AtomicBool,
}

impl Queue {
    fn engine_of<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a channel::Queue> {
        let this = slf.get();
        if this.closed.load(Ordering::Relaxed) {
            return Err(PyValueError::new_err(format!(
                "Queue {} is closed",
                slf.repr()?
            )));
        }
        this.engine.get()
    }

    /// Puts a message by `put`, which tries until a deadline. The first try does not detach.
    fn push(
        &self,
        py: Python<'_>,
        deadline: Deadline,
        mut put: impl FnMut(&channel::Queue, Deadline) -> Result<(), PutError> + Send,
    ) -> PyResult<()> {
        let queue = self.engine.get()?;
        self.used.store(true, Ordering::Relaxed);
        match put(queue, Deadline::NOW) {
            Ok(()) => return Ok(()),
            Err(PutError::Full) if deadline == Deadline::NOW => {
                return Err(FULL.with(py, ()));
            }
            Err(PutError::Full | PutError::Interrupted) => {}
            Err(error) => return Err(put_error(py, error)),
        }
        blocking::wait(py, deadline, |slice| put(queue, slice))?
            .map_err(|error| put_error(py, error))
    }

    fn push_buf(&self, py: Python<'_>, buf: MessageBuf, deadline: Deadline) -> PyResult<()> {
        let mut buf = Some(buf);
        self.push(py, deadline, |queue, until| queue.put_buf(&mut buf, until))
    }

    /// Takes the oldest message out and returns the result of `with`.
    pub(crate) fn pop<'py, T>(
        slf: &Bound<'py, Self>,
        deadline: Deadline,
        with: impl FnOnce(Python<'py>, Message) -> PyResult<T>,
    ) -> PyResult<T> {
        let py = slf.py();
        let queue = Queue::engine_of(slf)?;
        let failed = |error| get_error(py, error);
        let mut message = Message::default();
        if deadline == Deadline::NOW {
            queue.get_into(&mut message, deadline).map_err(failed)?;
        } else if !queue.try_get_into(&mut message).map_err(raise)? {
            blocking::wait(py, deadline, |slice| queue.get_into(&mut message, slice))?
                .map_err(failed)?;
        }
        with(py, message)
    }

    /// Encodes an object and puts it in. Skips the encoding if the queue is full and `deadline` is now.
    pub(crate) fn put_object(
        slf: &Bound<'_, Self>,
        object: &Bound<'_, PyAny>,
        deadline: Deadline,
    ) -> PyResult<()> {
        let py = slf.py();
        let queue = Queue::engine_of(slf)?;
        if deadline == Deadline::NOW && queue.would_refuse() {
            slf.get().used.store(true, Ordering::Relaxed);
            return Err(FULL.with(py, ()));
        }
        let encoded = match Encoded::of(object) {
            Ok(encoded) => encoded,
            Err(error) => return slf.call_method1("_put_failed", (error, object)).map(drop),
        };
        if let Some(bytes) = encoded.small() {
            let put = |queue: &channel::Queue, until| {
                queue.put_with(&[bytes], encoded.attachments(), until)
            };
            return slf.get().push(py, deadline, put);
        }
        slf.get().push_buf(py, encoded.message_buf(py)?, deadline)
    }
}

/// Waits until a source is ready.
fn wait_for(py: Python<'_>, source: Source<'_>, deadline: Deadline) -> PyResult<bool> {
    let select = Select::default();
    let ready = blocking::wait(py, deadline, |slice| select.wait(&[source], slice))?;
    Ok(ready.is_ok())
}

fn put_error(py: Python<'_>, error: PutError) -> PyErr {
    match error {
        PutError::Full | PutError::Interrupted => FULL.with(py, ()),
        PutError::Closed => PyValueError::new_err("the queue is closed"),
        PutError::Failed(error) => raise(error),
    }
}

fn get_error(py: Python<'_>, error: GetError) -> PyErr {
    match error {
        GetError::Empty | GetError::Interrupted => EMPTY.with(py, ()),
        GetError::Closed => PyEOFError::new_err(()),
        GetError::Failed(error) => raise(error),
    }
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> Queue {
        Queue {
            engine: LateInit::empty(),
            closed: AtomicBool::new(false),
            used: AtomicBool::new(false),
        }
    }

    /// Creates a queue of at most `maxsize` messages; 0 or less means no limit but memory.
    ///
    /// A `joinable` queue counts the messages for which `task_done` was not called yet.
    #[pyo3(signature = (maxsize=0, *, joinable=false))]
    fn __init__(&self, maxsize: i64, joinable: bool) -> PyResult<()> {
        let maxsize = usize::try_from(maxsize).unwrap_or(0);
        let queue = match joinable {
            true => channel::Queue::joinable(maxsize),
            false => channel::Queue::new(maxsize),
        };
        self.engine.init(queue.map_err(raise)?)
    }

    fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
        self.engine.adopt(handle)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.engine.handle(py)
    }

    /// Puts an object in. Raises `queue.Full` if the timeout passed before there was room.
    #[pyo3(
        signature = (obj, block=Truth(true), timeout=None),
        text_signature = "($self, obj, block=True, timeout=None)"
    )]
    fn put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        Queue::put_object(slf, obj, blocking::deadline(block.0, timeout)?)
    }

    /// Puts an object in or raises `queue.Full`, without waiting.
    fn put_nowait(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        Queue::put_object(slf, obj, Deadline::NOW)
    }

    /// Takes the oldest object out; raises `queue.Empty` when none came before the timeout.
    #[pyo3(
        signature = (block=Truth(true), timeout=None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let deadline = blocking::deadline(block.0, timeout)?;
        Queue::pop(slf, deadline, wire::receive)
    }

    /// Takes the oldest object out or raises `queue.Empty`, without waiting.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Queue::pop(slf, Deadline::NOW, wire::receive)
    }

    /// Puts each object of an iterable in; `queue.Full` says with `put` how many there was room for.
    #[pyo3(
        signature = (objs, block=Truth(true), timeout=None),
        text_signature = "($self, objs, block=True, timeout=None)"
    )]
    fn put_many(
        slf: &Bound<'_, Self>,
        objs: &Bound<'_, PyAny>,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        batch::put(slf, objs, blocking::deadline(block.0, timeout)?)
    }

    /// `put_many` without waiting.
    fn put_many_nowait(slf: &Bound<'_, Self>, objs: &Bound<'_, PyAny>) -> PyResult<()> {
        batch::put(slf, objs, Deadline::NOW)
    }

    /// Takes out a list of the available objects. Waits for the first one.
    #[pyo3(
        signature = (block=Truth(true), timeout=None, max_messages_to_get=None),
        text_signature = "($self, block=True, timeout=None, max_messages_to_get=None)"
    )]
    fn get_many<'py>(
        slf: &Bound<'py, Self>,
        block: Truth,
        timeout: Option<f64>,
        max_messages_to_get: Option<usize>,
    ) -> PyResult<Bound<'py, PyList>> {
        let deadline = blocking::deadline(block.0, timeout)?;
        batch::get(slf, deadline, max_messages_to_get)
    }

    /// `get_many` without waiting.
    #[pyo3(signature = (max_messages_to_get=None))]
    fn get_many_nowait<'py>(
        slf: &Bound<'py, Self>,
        max_messages_to_get: Option<usize>,
    ) -> PyResult<Bound<'py, PyList>> {
        batch::get(slf, Deadline::NOW, max_messages_to_get)
    }

    /// Puts a message of these bytes in.
    #[pyo3(
        signature = (data, block=Truth(true), timeout=None),
        text_signature = "($self, data, block=True, timeout=None)"
    )]
    fn put_bytes(
        slf: &Bound<'_, Self>,
        data: &[u8],
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        Queue::engine_of(slf)?;
        let deadline = blocking::deadline(block.0, timeout)?;
        match message_buf_of_bytes(slf.py(), data)? {
            Some(buf) => slf.get().push_buf(slf.py(), buf, deadline),
            None => slf
                .get()
                .push(slf.py(), deadline, |queue, until| queue.put(&[data], until)),
        }
    }

    /// Takes a message out as bytes.
    #[pyo3(
        signature = (block=Truth(true), timeout=None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn get_bytes<'py>(
        slf: &Bound<'py, Self>,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let deadline = blocking::deadline(block.0, timeout)?;
        Queue::pop(slf, deadline, |py, message| {
            Ok(PyBytes::new(py, message.bytes()))
        })
    }

    /// Returns how many messages are in the queue.
    fn qsize(&self) -> PyResult<usize> {
        Ok(self.engine.get()?.len())
    }

    /// Returns whether the queue has no message.
    fn empty(&self, py: Python<'_>) -> PyResult<bool> {
        if self.closed.load(Ordering::Relaxed) && self.used.load(Ordering::Relaxed) {
            return Err(PyOSError::new_err("handle is closed"));
        }
        let queue = self.engine.get()?;
        Ok(!has_message(py, queue))
    }

    /// Waits for a message and leaves it in the queue. Returns False if the timeout passed first.
    #[pyo3(
        signature = (timeout=Some(0.0)),
        text_signature = "($self, timeout=0.0)"
    )]
    fn _poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let queue = self.engine.get()?;
        let deadline = blocking::deadline(true, timeout)?;
        let found = wait_for(py, Source::Message(queue), deadline)?;
        Ok(found || has_message(py, queue))
    }

    /// Returns a descriptor that is readable exactly while the queue has a message.
    fn _fileno(&self) -> PyResult<RawFd> {
        self.engine.get()?.fileno().map_err(raise)
    }

    /// Returns whether `put` would have to wait.
    fn full(&self) -> PyResult<bool> {
        Ok(self.engine.get()?.is_full())
    }

    /// Ends the use of the queue in this process.
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    #[getter]
    fn _closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits for room and puts nothing. Returns False if the timeout passed first.
    #[pyo3(
        signature = (timeout=Some(0.0)),
        text_signature = "($self, timeout=0.0)"
    )]
    fn _wait_for_room(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let queue = self.engine.get()?;
        let deadline = blocking::deadline(true, timeout)?;
        wait_for(py, Source::Room(queue), deadline)
    }

    /// The largest number of messages; for a queue without a limit the standard library's number.
    #[getter]
    fn _maxsize(&self) -> PyResult<usize> {
        match self.engine.get()?.maxsize() {
            0 => Ok(NO_LIMIT),
            limit => Ok(limit),
        }
    }

    /// Marks one message as done. Raises `ValueError` if more were marked than put.
    fn _task_done(&self) -> PyResult<()> {
        self.engine
            .get()?
            .task_done()
            .map_err(|_| PyValueError::new_err("task_done() called too many times"))
    }

    /// Waits until all messages are done. Returns how many are not: those that processes received which have died.
    ///
    /// Returns None if the timeout passed first.
    #[pyo3(signature = (timeout=None))]
    fn _join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<u64>> {
        let queue = self.engine.get()?;
        let deadline = blocking::deadline(true, timeout)?;
        Ok(blocking::wait(py, deadline, |slice| queue.join(slice))?.ok())
    }

    /// Returns how many messages are not done.
    fn _unfinished(&self) -> PyResult<u64> {
        Ok(self.engine.get()?.unfinished())
    }

    /// Closes the queue for all processes. Its messages can still be taken out; after them `get` raises `EOFError`.
    fn _close_for_all(&self) -> PyResult<()> {
        self.engine.get()?.close();
        Ok(())
    }

    /// Called when an object cannot be pickled. Subclasses override it.
    fn _put_failed(&self, error: &Bound<'_, PyAny>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = obj;
        Err(PyErr::from_value(error.clone()))
    }
}

/// Returns whether the queue has a message.
///
/// If its descriptor is readable, waits a moment for the message, detached.
fn has_message(py: Python<'_>, queue: &channel::Queue) -> bool {
    !queue.is_empty() || queue.is_watched() && py.detach(|| queue.has_message())
}
