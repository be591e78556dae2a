//! Python objects as the bytes of a message, and back.
//!
//! Encoding reuses one buffer a thread: a program that sends many small messages allocates none of
//! them. Pickling may run Python code that sends messages itself, so the buffer is taken out of its
//! place while in use.

use std::cell::Cell;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::wire;

/// Buffers that grew beyond this are given back to the allocator.
const KEEP: usize = 64 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The bytes of one object.
#[derive(Debug)]
pub struct Encoded(Vec<u8>);

impl Encoded {
    /// Serialises an object.
    #[inline]
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Encoded> {
        let mut encoded = Encoded(SPARE.take());
        wire::encode(object.py(), object, &mut encoded.0)?;
        Ok(encoded)
    }

    /// What is to be sent.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        if buffer.capacity() <= KEEP {
            buffer.clear();
            SPARE.set(buffer);
        }
    }
}

/// The bytes of an object, as a message carries them.
#[pyfunction]
pub fn dumps<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(obj.py(), Encoded::of(obj)?.bytes()))
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
