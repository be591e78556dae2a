//! `Block`: shared bytes for ctypes objects, and in [`synchronized`] numbers behind a lock.

pub mod synchronized;

use procession_engine::value::SharedBytes;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::support::errors::raise;
use crate::support::late_init::LateInit;
use crate::support::late_init::{Keyword, Positional};

/// Zeroed shared memory, aligned to 64 bytes. It lives as long as this object.
///
/// A user of `address` must keep a reference to the block.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug)]
pub struct Block(LateInit<SharedBytes>);

impl Block {
    /// Returns the memory.
    #[inline]
    pub fn bytes(&self) -> PyResult<&SharedBytes> {
        self.0.get()
    }
}

#[pymethods]
impl Block {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> Block {
        Block(LateInit::empty())
    }

    fn __init__(&self, size: usize) -> PyResult<()> {
        self.0.init(SharedBytes::new(size).map_err(raise)?)
    }

    fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
        self.0.adopt(handle)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.0.handle(py)
    }

    #[getter]
    fn address(&self) -> PyResult<usize> {
        Ok(self.0.get()?.as_ptr() as usize)
    }

    #[getter]
    fn size(&self) -> PyResult<usize> {
        Ok(self.0.get()?.len())
    }
}
