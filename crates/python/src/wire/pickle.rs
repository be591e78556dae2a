//! Pickling of values that are not plain, by `multiprocessing`'s own pickler.

use pyo3::buffer::PyBuffer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyModule};

use super::out_of_band::{Collector, OutOfBand};

const PROTOCOL: u8 = 5;

/// Returns `ForkingPickler`. It is looked up at each call, because programs replace it.
fn forking_pickler(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static REDUCTION: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    REDUCTION
        .get_or_try_init(py, || {
            py.import("multiprocessing.reduction").map(Bound::unbind)
        })?
        .bind(py)
        .getattr(intern!(py, "ForkingPickler"))
}

fn dump(py: Python<'_>, obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let pickled = forking_pickler(py)?.call_method1(intern!(py, "dumps"), (obj, PROTOCOL))?;
    append_buffer(&pickled, out)
}

/// Does what [`dump`] does, but leaves large buffers out and returns them.
pub(super) fn dump_out_of_band(
    py: Python<'_>,
    obj: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
) -> PyResult<Vec<OutOfBand>> {
    let class = forking_pickler(py)?;
    if !is_the_stdlibs(&class)? {
        // A replacement can have other parameters.
        return dump(py, obj, out).map(|()| Vec::new());
    }
    static STREAM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let stream = STREAM.import(py, "io", "BytesIO")?.call0()?;
    let collector = Bound::new(py, Collector::default())?;
    class
        .call1((&stream, PROTOCOL, true, &collector))?
        .call_method1(intern!(py, "dump"), (obj,))?;
    append_buffer(&stream.call_method0(intern!(py, "getbuffer"))?, out)?;
    Ok(collector.get().take())
}

fn is_the_stdlibs(class: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = class.py();
    let module = class.getattr(intern!(py, "__module__"))?;
    let name = class.getattr(intern!(py, "__qualname__"))?;
    Ok(module.eq(intern!(py, "multiprocessing.reduction"))?
        && name.eq(intern!(py, "ForkingPickler"))?)
}

/// Loads a pickle with its out-of-band buffers.
pub(super) fn load_with<'py>(
    pickled: &Bound<'py, PyBytes>,
    buffers: &Bound<'py, PyList>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = pickled.py();
    let options = PyDict::new(py);
    options.set_item(intern!(py, "buffers"), buffers)?;
    forking_pickler(py)?.call_method(intern!(py, "loads"), (pickled,), Some(&options))
}

pub(super) fn load<'py>(py: Python<'py>, pickled: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    forking_pickler(py)?.call_method1(intern!(py, "loads"), (PyBytes::new(py, pickled),))
}

/// Appends the content of an object with the buffer protocol.
pub(super) fn append_buffer(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let buffer = PyBuffer::<u8>::get(obj)?;
    let start = out.len();
    out.resize(start + buffer.item_count(), 0);
    buffer.copy_to_slice(obj.py(), &mut out[start..])
}
