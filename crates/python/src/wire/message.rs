//! Python objects as the bytes of a message, and back.
//!
//! Encoding reuses one buffer a thread: a program that sends many small messages allocates none of
//! them. Pickling may run Python code that sends messages itself, so the buffer is taken out of its
//! place while in use.

use std::cell::Cell;

use procession_engine::Held;
use procession_engine::channel::Draft;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::support::errors::raise;
use crate::wire;

/// Buffers that grew beyond this are given back to the allocator.
const KEEP: usize = 64 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// From this size on a message is written straight to where it will lie.
const LARGE: usize = 64 * 1024;

/// Buffers beside a pickle that are smaller than this are copied twice, like the rest of a small message.
const COPIED: usize = 32 * 1024;

/// One object serialised, and the shared objects that are mentioned there.
#[derive(Debug)]
pub struct Encoded {
    bytes: Vec<u8>,
    held: Vec<Held>,
    uncopied: Uncopied,
}

/// What belongs to a message and was not copied yet.
#[derive(Debug)]
enum Uncopied {
    Nothing,
    /// The rest of it.
    Rest(PyBuffer<u8>),
    /// The buffers of the pickle that `bytes` are.
    Buffers(Vec<wire::OutOfBand>),
}

impl Encoded {
    /// Serialises an object.
    #[inline]
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Encoded> {
        let mut encoded = Encoded {
            bytes: SPARE.take(),
            held: Vec::new(),
            uncopied: Uncopied::Nothing,
        };
        let (bytes, held) = (&mut encoded.bytes, &mut encoded.held);
        if let Some(content) = large_bytes(object)? {
            let is_array = !object.is_exact_instance_of::<PyBytes>();
            wire::begin_bytes(is_array, content.len_bytes(), bytes);
            encoded.uncopied = Uncopied::Rest(content);
        } else {
            let buffers = wire::encode_out_of_band(object.py(), object, bytes, held)?;
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

    /// What is to be sent, if it is small.
    #[inline]
    pub fn small(&self) -> Option<&[u8]> {
        let small = matches!(self.uncopied, Uncopied::Nothing) && self.bytes.len() < LARGE;
        small.then_some(&self.bytes)
    }

    /// How many bytes there are, those beside the pickle included.
    pub fn weight(&self) -> usize {
        let uncopied = match &self.uncopied {
            Uncopied::Nothing => 0,
            Uncopied::Rest(rest) => rest.len_bytes(),
            Uncopied::Buffers(buffers) => buffers.iter().map(|it| it.view().len_bytes()).sum(),
        };
        self.bytes.len() + uncopied
    }

    /// What lies beside a pickle, to be put elsewhere.
    pub fn buffers_mut(&mut self) -> &mut [wire::OutOfBand] {
        match &mut self.uncopied {
            Uncopied::Buffers(buffers) => buffers,
            _ => &mut [],
        }
    }

    /// The message, written to where it will lie, behind `front` bytes that are not its own.
    pub fn message_buf_after(
        &self,
        py: Python<'_>,
        front: usize,
        held: &[Held],
    ) -> PyResult<Draft> {
        let size = match &self.uncopied {
            Uncopied::Nothing => self.bytes.len(),
            Uncopied::Rest(rest) => self.bytes.len() + rest.len_bytes(),
            Uncopied::Buffers(buffers) => wire::out_of_band::size(&self.bytes, buffers, front),
        };
        let mut draft = py
            .detach(|| Draft::new(front + size, held))
            .map_err(raise)?;
        let to = &mut draft.bytes_mut()[front..];
        if let Uncopied::Buffers(buffers) = &self.uncopied {
            wire::out_of_band::write(py, &self.bytes, buffers, front, to)?;
            return Ok(draft);
        }
        let (front, rest) = to.split_at_mut(self.bytes.len());
        front.copy_from_slice(&self.bytes);
        if let Uncopied::Rest(content) = &self.uncopied {
            content.copy_to_slice(py, rest)?;
        }
        Ok(draft)
    }

    /// The message, written to where it will lie.
    pub fn message_buf(&self, py: Python<'_>) -> PyResult<Draft> {
        self.message_buf_after(py, 0, &self.held)
    }

    /// Gives away what the message is to keep alive.
    pub fn take_held(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.held)
    }

    /// What the message is to keep alive.
    #[inline]
    pub fn held(&self) -> &[Held] {
        &self.held
    }
}

/// A draft of bytes that are large; small ones are sent from where they are.
pub fn message_buf_of_bytes(py: Python<'_>, bytes: &[u8]) -> PyResult<Option<Draft>> {
    if bytes.len() < LARGE {
        return Ok(None);
    }
    let draft = py.detach(|| {
        let mut draft = Draft::new(bytes.len(), &[])?;
        draft.bytes_mut().copy_from_slice(bytes);
        Ok(draft)
    });
    draft.map(Some).map_err(raise)
}

/// The content of a large `bytes` or `bytearray`.
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

/// The bytes of an object, as a message carries them; `RuntimeError` for shared objects, which bytes alone
/// cannot keep alive.
#[pyfunction]
pub fn dumps<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let (mut bytes, mut held) = (Vec::new(), Vec::new());
    wire::encode(obj.py(), obj, &mut bytes, &mut held)?;
    if !held.is_empty() {
        return Err(PyRuntimeError::new_err(
            "shared objects are kept alive by messages and processes, and not by bytes",
        ));
    }
    Ok(PyBytes::new(obj.py(), &bytes))
}

/// As `dumps`, of plain data; None for anything else.
#[pyfunction]
pub fn dumps_plain<'py>(obj: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let mut bytes = Vec::new();
    wire::encode_plain(obj, &mut bytes).then(|| PyBytes::new(obj.py(), &bytes))
}

/// The object that `dumps` made these bytes of.
#[pyfunction]
pub fn loads<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = data.py();
    match data.cast::<PyBytes>() {
        Ok(bytes) => wire::decode(py, bytes.as_bytes()),
        Err(_) => wire::decode(py, &PyBuffer::<u8>::get(data)?.to_vec(py)?),
    }
}
