//! Encoding a Python object as a message, and the functions `dumps` and `loads`.
//!
//! Each thread reuses one buffer, so that a program that sends many small messages does not allocate. Pickling can run
//! Python code that sends messages itself, so the buffer is taken out of its thread-local while in use.

use std::cell::Cell;

use procession_engine::ObjectRef;
use procession_engine::channel::MessageBuf;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::support::errors::raise;
use crate::wire;

/// A larger buffer is freed after use, in bytes.
const KEEP: usize = 64 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A message of this many bytes is written directly into shared memory.
const LARGE: usize = 64 * 1024;

/// If a pickle and its out-of-band buffers are smaller in all, they are copied twice, as a small message is.
const COPIED: usize = 32 * 1024;

/// An encoded object, and the shared objects attached to it.
#[derive(Debug)]
pub struct Encoded {
    bytes: Vec<u8>,
    attachments: Vec<ObjectRef>,
    uncopied: Uncopied,
}

/// The part of a message that was not copied yet.
#[derive(Debug)]
enum Uncopied {
    Nothing,
    /// Its end.
    Rest(PyBuffer<u8>),
    /// The out-of-band buffers; `bytes` is their pickle.
    Buffers(Vec<wire::OutOfBand>),
}

impl Encoded {
    /// Encodes an object.
    #[inline]
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Encoded> {
        let mut encoded = Encoded {
            bytes: SPARE.take(),
            attachments: Vec::new(),
            uncopied: Uncopied::Nothing,
        };
        let (bytes, attachments) = (&mut encoded.bytes, &mut encoded.attachments);
        if let Some(content) = large_bytes(object)? {
            let is_array = !object.is_exact_instance_of::<PyBytes>();
            wire::begin_bytes(is_array, content.len_bytes(), bytes);
            encoded.uncopied = Uncopied::Rest(content);
        } else {
            let buffers = wire::encode_out_of_band(object.py(), object, bytes, attachments)?;
            if !buffers.is_empty() {
                encoded.add(object.py(), buffers)?;
            }
        }
        Ok(encoded)
    }

    #[cold]
    fn add(&mut self, py: Python<'_>, buffers: Vec<wire::OutOfBand>) -> PyResult<()> {
        let size: usize = buffers.iter().map(|buffer| buffer.view().len_bytes()).sum();
        if size + self.bytes.len() < COPIED {
            return wire::out_of_band::write_here(py, &buffers, &mut self.bytes, 0);
        }
        self.uncopied = Uncopied::Buffers(buffers);
        Ok(())
    }

    /// Returns the bytes of a small message, which can be sent as they are.
    #[inline]
    pub fn small(&self) -> Option<&[u8]> {
        let small = matches!(self.uncopied, Uncopied::Nothing) && self.bytes.len() < LARGE;
        small.then_some(&self.bytes)
    }

    /// Returns the size in bytes, including out-of-band buffers.
    pub fn weight(&self) -> usize {
        let uncopied = match &self.uncopied {
            Uncopied::Nothing => 0,
            Uncopied::Rest(rest) => rest.len_bytes(),
            Uncopied::Buffers(buffers) => buffers.iter().map(|it| it.view().len_bytes()).sum(),
        };
        self.bytes.len() + uncopied
    }

    /// Returns the out-of-band buffers, so that a caller can pass them by handle.
    pub fn buffers_mut(&mut self) -> &mut [wire::OutOfBand] {
        match &mut self.uncopied {
            Uncopied::Buffers(buffers) => buffers,
            _ => &mut [],
        }
    }

    /// Writes the message into shared memory, after `front` bytes for the caller.
    pub fn message_buf_after(
        &self,
        py: Python<'_>,
        front: usize,
        attachments: &[ObjectRef],
    ) -> PyResult<MessageBuf> {
        let size = match &self.uncopied {
            Uncopied::Nothing => self.bytes.len(),
            Uncopied::Rest(rest) => self.bytes.len() + rest.len_bytes(),
            Uncopied::Buffers(buffers) => wire::out_of_band::size(&self.bytes, buffers, front),
        };
        let mut buf = py
            .detach(|| MessageBuf::new(front + size, attachments))
            .map_err(raise)?;
        let to = &mut buf.bytes_mut()[front..];
        if let Uncopied::Buffers(buffers) = &self.uncopied {
            wire::out_of_band::write(py, &self.bytes, buffers, front, to)?;
            return Ok(buf);
        }
        let (front, rest) = to.split_at_mut(self.bytes.len());
        front.copy_from_slice(&self.bytes);
        if let Uncopied::Rest(content) = &self.uncopied {
            content.copy_to_slice(py, rest)?;
        }
        Ok(buf)
    }

    /// Writes the message into shared memory.
    pub fn message_buf(&self, py: Python<'_>) -> PyResult<MessageBuf> {
        self.message_buf_after(py, 0, &self.attachments)
    }

    /// Takes the objects that the message must keep alive.
    pub fn take_attachments(&mut self) -> Vec<ObjectRef> {
        std::mem::take(&mut self.attachments)
    }

    /// Returns the objects that the message must keep alive.
    #[inline]
    pub fn attachments(&self) -> &[ObjectRef] {
        &self.attachments
    }
}

/// Writes large bytes into shared memory. Returns `None` for small ones, which can be sent as they are.
pub fn message_buf_of_bytes(py: Python<'_>, bytes: &[u8]) -> PyResult<Option<MessageBuf>> {
    if bytes.len() < LARGE {
        return Ok(None);
    }
    let buf = py.detach(|| {
        let mut buf = MessageBuf::new(bytes.len(), &[])?;
        buf.bytes_mut().copy_from_slice(bytes);
        Ok(buf)
    });
    buf.map(Some).map_err(raise)
}

/// Returns the content of a large `bytes` or `bytearray`.
#[inline]
fn large_bytes(object: &Bound<'_, PyAny>) -> PyResult<Option<PyBuffer<u8>>> {
    let is_large = match object.cast_exact::<PyBytes>() {
        Ok(bytes) => bytes.as_bytes().len() >= LARGE,
        Err(_) => object
            .cast_exact::<PyByteArray>()
            .is_ok_and(|array| array.len() >= LARGE),
    };
    is_large.then(|| PyBuffer::get(object)).transpose()
}

impl Drop for Encoded {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.bytes);
        if buffer.capacity() <= KEEP {
            buffer.clear();
            SPARE.set(buffer);
        }
    }
}

/// Returns the bytes of an object, as in a message.
///
/// Raises `RuntimeError` if the object contains shared objects, because bytes cannot keep them alive.
#[pyfunction]
pub fn dumps<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let (mut bytes, mut attachments) = (Vec::new(), Vec::new());
    wire::encode(obj.py(), obj, &mut bytes, &mut attachments)?;
    if !attachments.is_empty() {
        return Err(PyRuntimeError::new_err(
            "shared objects are kept alive by messages and processes, and not by bytes",
        ));
    }
    Ok(PyBytes::new(obj.py(), &bytes))
}

/// Does what `dumps` does for plain data. Returns None for anything else.
#[pyfunction]
pub fn dumps_plain<'py>(obj: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let mut bytes = Vec::new();
    wire::encode_plain(obj, &mut bytes).then(|| PyBytes::new(obj.py(), &bytes))
}

/// Returns the object of which `dumps` made these bytes.
#[pyfunction]
pub fn loads<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = data.py();
    match data.cast::<PyBytes>() {
        Ok(bytes) => wire::decode(py, bytes.as_bytes()),
        Err(_) => wire::decode(py, &PyBuffer::<u8>::get(data)?.to_vec(py)?),
    }
}
