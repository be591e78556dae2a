//! Python objects as the bytes of a message, and back.
//!
//! Encoding reuses one buffer a thread: a program that sends many small messages allocates none of
//! them. Pickling may run Python code that sends messages itself, so the buffer is taken out of its
//! place while in use.

use std::cell::Cell;

use procession_engine::Held;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::wire;

/// Buffers that grew beyond this are given back to the allocator.
const KEEP: usize = 64 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The bytes of one object, and the shared objects that are mentioned there.
#[derive(Debug)]
pub struct Encoded {
    bytes: Vec<u8>,
    held: Vec<Held>,
}

impl Encoded {
    /// Serialises an object.
    #[inline]
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Encoded> {
        let mut encoded = Encoded {
            bytes: SPARE.take(),
            held: Vec::new(),
        };
        wire::encode(object.py(), object, &mut encoded.bytes, &mut encoded.held)?;
        Ok(encoded)
    }

    /// What is to be sent.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the message is to keep alive.
    #[inline]
    pub fn held(&self) -> &[Held] {
        &self.held
    }
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
    let encoded = Encoded::of(obj)?;
    if !encoded.held.is_empty() {
        return Err(PyRuntimeError::new_err(
            "shared objects are kept alive by messages and processes, and not by bytes",
        ));
    }
    Ok(PyBytes::new(obj.py(), encoded.bytes()))
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
