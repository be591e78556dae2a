//! `Channel`: one end of a pipe.
//!
//! One thread may close an end while others use it. Each call has its own reference to the end, and the last one closes
//! the descriptor. A call that waits on an end closed in the meantime fails at its next slice.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use procession_engine::channel::{self, End, Message, MessageBuf};
use procession_engine::error::{GetError, PutError, WaitError};
use procession_engine::{Deadline, Handle, Opened};
use pyo3::exceptions::{PyBrokenPipeError, PyEOFError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyType};

use crate::support::blocking::{self, Truth};
use crate::support::errors::raise;
use crate::support::fd;
use crate::support::late_init::{Keyword, Positional};
use crate::wire;
use crate::wire::message::{Encoded, message_buf_of_bytes};

const EPIPE: i32 = 32;

#[derive(Debug)]
enum State {
    Fresh,
    Open(Arc<End>),
    Closed,
}

/// One end of a pipe: sends and receives objects or bytes.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug)]
pub struct Channel {
    // Locked only while attached to the interpreter and never across a call, so it is unlocked in a forked process.
    state: Mutex<State>,
    // Whether it receives and whether it sends. A closed end still answers this.
    direction: OnceLock<(bool, bool)>,
    // Set after a message was longer than its receiver allowed: the stream is out of step.
    unreadable: AtomicBool,
}

fn handle_is_closed() -> PyErr {
    PyOSError::new_err("handle is closed")
}

fn uninitialised() -> PyErr {
    PyRuntimeError::new_err("this connection is not initialised: make it with Pipe()")
}

fn send_error(error: PutError) -> PyErr {
    match error {
        PutError::Failed(error) => raise(error),
        _ => {
            PyBrokenPipeError::new_err((EPIPE, "Broken pipe: the other end of the pipe is closed"))
        }
    }
}

fn receive_error(error: GetError) -> PyErr {
    match error {
        GetError::Failed(error) => raise(error),
        _ => PyEOFError::new_err(()),
    }
}

impl Channel {
    fn with_state<R>(&self, use_it: impl FnOnce(&mut State) -> R) -> R {
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn fill(&self, end: End) -> PyResult<()> {
        self.with_state(|state| match state {
            State::Fresh => {
                let _ = self.direction.set((end.is_readable(), end.is_writable()));
                *state = State::Open(Arc::new(end));
                Ok(())
            }
            _ => Err(PyRuntimeError::new_err(
                "this connection was initialised already",
            )),
        })
    }

    fn end(&self) -> PyResult<Arc<End>> {
        self.with_state(|state| match state {
            State::Open(end) => match end.check() {
                Ok(()) => Ok(Arc::clone(end)),
                Err(error) => Err(raise(error)),
            },
            State::Closed => Err(handle_is_closed()),
            State::Fresh => Err(uninitialised()),
        })
    }

    fn still_open(&self) -> PyResult<()> {
        self.with_state(|state| match state {
            State::Closed => Err(handle_is_closed()),
            _ => Ok(()),
        })
    }

    fn readable_end(&self) -> PyResult<Arc<End>> {
        let end = self.end()?;
        if !end.is_readable() || self.unreadable.load(Ordering::Relaxed) {
            return Err(PyOSError::new_err("connection is write-only"));
        }
        Ok(end)
    }

    fn writable_end(&self) -> PyResult<Arc<End>> {
        let end = self.end()?;
        if !end.is_writable() {
            return Err(PyOSError::new_err("connection is read-only"));
        }
        Ok(end)
    }

    /// Sends a message by `put`, which tries until a deadline. The first try does not detach.
    fn transmit(
        &self,
        py: Python<'_>,
        mut put: impl FnMut(Deadline) -> Result<(), PutError> + Send,
    ) -> PyResult<()> {
        match put(Deadline::NOW) {
            Ok(()) => return Ok(()),
            Err(PutError::Full | PutError::Interrupted) => {}
            Err(error) => return Err(send_error(error)),
        }
        blocking::wait_while(py, Deadline::NEVER, || self.still_open(), put)?.map_err(send_error)
    }

    fn transmit_buf(&self, py: Python<'_>, end: &End, buf: MessageBuf) -> PyResult<()> {
        let mut buf = Some(buf);
        self.transmit(py, |until| end.send_buf(&mut buf, until))
    }

    /// Receives a message and returns the result of `with`.
    fn receive<'py, T>(
        &self,
        py: Python<'py>,
        with: impl FnOnce(Python<'py>, Message) -> PyResult<T>,
    ) -> PyResult<T> {
        let end = self.readable_end()?;
        let mut message = Message::default();
        if !end.try_recv_into(&mut message).map_err(raise)? {
            blocking::wait_while(
                py,
                Deadline::NEVER,
                || self.still_open(),
                |slice| end.recv_into(&mut message, slice),
            )?
            .map_err(receive_error)?;
        }
        with(py, message)
    }

    fn reject_long_message(&self) -> PyErr {
        match self.end() {
            Ok(end) if end.is_writable() => self.unreadable.store(true, Ordering::Relaxed),
            _ => self.close(),
        }
        PyOSError::new_err("bad message length")
    }
}

#[pymethods]
impl Channel {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> Channel {
        Channel {
            state: Mutex::new(State::Fresh),
            direction: OnceLock::new(),
            unreadable: AtomicBool::new(false),
        }
    }

    /// Opens the end that `handle` names. Takes ownership of the descriptor.
    fn _adopt(&self, py: Python<'_>, handle: &[u8], fd: RawFd) -> PyResult<()> {
        let handle = Handle::from_bytes(handle).map_err(raise)?;
        let fd = fd::take_over(py, fd)?;
        self.fill(End::open(&handle, fd).map_err(raise)?)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.end()?.handle().to_bytes()))
    }

    /// Sends an object.
    fn send(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let end = self.writable_end()?;
        let encoded = Encoded::of(obj)?;
        match encoded.small() {
            Some(bytes) => self.transmit(obj.py(), |until| {
                end.send_with(&[bytes], encoded.attachments(), until)
            }),
            None => self.transmit_buf(obj.py(), &end, encoded.message_buf(obj.py())?),
        }
    }

    /// Receives an object. Raises `EOFError` if the pipe is empty and no process can send to it any more.
    fn recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.receive(py, wire::receive)
    }

    /// Raises what `send` raises if this end is closed or only receives.
    fn _check_writable(&self) -> PyResult<()> {
        self.writable_end().map(drop)
    }

    /// Raises what `recv` raises if this end is closed or only sends.
    fn _check_readable(&self) -> PyResult<()> {
        self.readable_end().map(drop)
    }

    fn _send_bytes(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        let end = self.writable_end()?;
        match message_buf_of_bytes(py, data)? {
            Some(buf) => self.transmit_buf(py, &end, buf),
            None => self.transmit(py, |until| end.send(&[data], until)),
        }
    }

    /// Receives a message as bytes. Raises `OSError` if it is longer than `maxlength` bytes.
    #[pyo3(signature = (maxlength=None))]
    fn recv_bytes<'py>(
        &self,
        py: Python<'py>,
        maxlength: Option<Bound<'py, PyInt>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.readable_end()?;
        let limit = match maxlength {
            None => usize::MAX,
            Some(length) if length.lt(0)? => {
                return Err(PyValueError::new_err("negative maxlength"));
            }
            // A number that does not fit exceeds every message.
            Some(length) => length.extract().unwrap_or(usize::MAX),
        };
        self.receive(py, |py, message| match message.len() > limit {
            true => Err(self.reject_long_message()),
            false => Ok(PyBytes::new(py, message.bytes())),
        })
    }

    /// Waits until `recv` can return, or raise `EOFError`, without waiting. Returns False if `timeout` passed first.
    #[pyo3(
        signature = (timeout=Some(0.0)),
        text_signature = "($self, timeout=0.0)"
    )]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let end = self.readable_end()?;
        let look = |until: Deadline| match end.poll(until) {
            Ok(true) => Ok(()),
            Ok(false) => Err(WaitError::TimedOut),
            Err(error) => Err(error),
        };
        if look(Deadline::NOW).is_ok() {
            return Ok(true);
        }
        let deadline = blocking::deadline(true, timeout)?;
        if deadline == Deadline::NOW {
            return Ok(false);
        }
        let outcome = blocking::wait_while(py, deadline, || self.still_open(), look)?;
        Ok(outcome.is_ok())
    }

    /// Returns a descriptor that is readable exactly while `poll()` is true.
    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.end()?.fileno())
    }

    /// Returns whether other processes had an end of this pipe and none has one any more.
    fn others_are_gone(&self) -> PyResult<bool> {
        Ok(self.end()?.others_are_gone())
    }

    /// Returns the number of the descriptor, without preparing it for polling.
    fn socket_fd(&self) -> PyResult<RawFd> {
        Ok(self.end()?.socket().map_err(raise)?.as_raw_fd())
    }

    /// Closes this end, in this process.
    fn close(&self) {
        let end = self.with_state(|state| std::mem::replace(state, State::Closed));
        drop(end);
    }

    #[getter]
    fn closed(&self) -> bool {
        self.with_state(|state| !matches!(state, State::Open(_)))
    }

    #[getter]
    fn readable(&self) -> PyResult<bool> {
        let (readable, _) = self.direction.get().ok_or_else(uninitialised)?;
        Ok(*readable && !self.unreadable.load(Ordering::Relaxed))
    }

    #[getter]
    fn writable(&self) -> PyResult<bool> {
        let (_, writable) = self.direction.get().ok_or_else(uninitialised)?;
        Ok(*writable)
    }
}

/// Creates a pipe and returns its two ends as objects of `kind`, a subclass of `Channel`.
///
/// Without `duplex` the first end only receives and the second end only sends.
#[pyfunction]
#[pyo3(signature = (duplex=Truth(true), kind=None))]
pub fn pipe<'py>(
    py: Python<'py>,
    duplex: Truth,
    kind: Option<Bound<'py, PyType>>,
) -> PyResult<(Bound<'py, Channel>, Bound<'py, Channel>)> {
    let kind = kind.unwrap_or_else(|| py.get_type::<Channel>());
    let (first, second) = channel::pipe(duplex.0).map_err(raise)?;
    let make = |end: End| -> PyResult<Bound<'py, Channel>> {
        let object = kind
            .call_method1("__new__", (&kind,))?
            .cast_into::<Channel>()?;
        object.get().fill(end)?;
        Ok(object)
    };
    Ok((make(first)?, make(second)?))
}
