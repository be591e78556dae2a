//! Values and arrays behind a lock, read and written one element at a time, without a Python frame.
//!
//! The native code handles the plain cases: numbers of C types in a [`Block`], protected by a lock of this module.
//! Everything else goes to the Python methods with an underscore (`_get_value`, `_set_item`), which work on the ctypes
//! object.

use std::ffi::{c_long, c_ulong};
use std::sync::OnceLock;

use procession_engine::value::SharedBytes;
use procession_pyffi::BufferProxy;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

use crate::support::late_init::{Keyword, Positional};
use crate::sync::lock::{Lock, RLock};
use crate::sync::locking::under;
use crate::value::Block;

/// A C type, by its code in `array` and `ctypes`.
#[derive(Debug, Clone, Copy)]
enum TypeCode {
    Int(IntType),
    Float,
    Double,
}

#[derive(Debug, Clone, Copy)]
enum IntType {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
}

impl TypeCode {
    fn of(letter: &str) -> Option<TypeCode> {
        use IntType::{I8, I16, I32, I64, U8, U16, U32, U64};
        let is_long_64 = size_of::<c_long>() == 8 && size_of::<c_ulong>() == 8;
        Some(match letter {
            "b" => TypeCode::Int(I8),
            "B" => TypeCode::Int(U8),
            "h" => TypeCode::Int(I16),
            "H" => TypeCode::Int(U16),
            "i" => TypeCode::Int(I32),
            "I" => TypeCode::Int(U32),
            "l" => TypeCode::Int(if is_long_64 { I64 } else { I32 }),
            "L" => TypeCode::Int(if is_long_64 { U64 } else { U32 }),
            "q" => TypeCode::Int(I64),
            "Q" => TypeCode::Int(U64),
            "f" => TypeCode::Float,
            "d" => TypeCode::Double,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        use IntType::{I8, I16, I32, U8, U16, U32};
        match self {
            TypeCode::Int(I8 | U8) => 1,
            TypeCode::Int(I16 | U16) => 2,
            TypeCode::Int(I32 | U32) | TypeCode::Float => 4,
            _ => 8,
        }
    }

    fn read<'py>(
        self,
        py: Python<'py>,
        from: &SharedBytes,
        at: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut bytes = [0; 8];
        from.read_at(at, &mut bytes[..self.size()]);
        let whole = u64::from_le_bytes(bytes);
        let int = match self {
            TypeCode::Float => {
                let value = f64::from(f32::from_bits(whole as u32));
                return Ok(PyFloat::new(py, value).into_any());
            }
            TypeCode::Double => return Ok(PyFloat::new(py, f64::from_bits(whole)).into_any()),
            TypeCode::Int(int) => int,
        };
        let signed = match int {
            IntType::I8 => i64::from(whole as i8),
            IntType::I16 => i64::from(whole as i16),
            IntType::I32 => i64::from(whole as i32),
            IntType::U64 => return Ok(whole.into_pyobject(py)?.into_any()),
            _ => whole as i64,
        };
        Ok(signed.into_pyobject(py)?.into_any())
    }

    /// Returns the bytes of a value as ctypes writes it; `None` if ctypes has to convert it.
    fn bytes_of(self, value: &Bound<'_, PyAny>) -> Option<[u8; 8]> {
        match self {
            TypeCode::Int(_) if value.is_exact_instance_of::<PyInt>() => {
                // As in ctypes, the low bytes are kept.
                value.extract::<i64>().ok().map(i64::to_le_bytes)
            }
            TypeCode::Float => {
                let value = value.cast_exact::<PyFloat>().ok()?.value() as f32;
                Some(u64::from(value.to_bits()).to_le_bytes())
            }
            TypeCode::Double => Some(value.cast_exact::<PyFloat>().ok()?.value().to_le_bytes()),
            TypeCode::Int(_) => None,
        }
    }
}

#[derive(Debug)]
enum AnyLock {
    Lock(Py<Lock>),
    RLock(Py<RLock>),
}

/// Elements of one type, and the lock that guards them.
#[derive(Debug)]
struct Guard {
    lock: AnyLock,
    block: Py<Block>,
    code: TypeCode,
    length: usize,
}

impl Guard {
    /// Creates it; `None` if this is not a plain case.
    fn new(
        lock: &Bound<'_, PyAny>,
        block: &Bound<'_, Block>,
        code: &str,
        length: usize,
    ) -> PyResult<Option<Guard>> {
        let lock = match (lock.cast::<RLock>(), lock.cast::<Lock>()) {
            (Ok(lock), _) => AnyLock::RLock(lock.clone().unbind()),
            (_, Ok(lock)) => AnyLock::Lock(lock.clone().unbind()),
            _ => return Ok(None),
        };
        let Some(code) = TypeCode::of(code) else {
            return Ok(None);
        };
        let room = block.get().bytes()?.len() / code.size();
        Ok(
            (length <= room && cfg!(target_endian = "little")).then(|| Guard {
                lock,
                block: block.clone().unbind(),
                code,
                length,
            }),
        )
    }

    /// Returns the byte offset of the element at an index; `None` if it is out of range or not an exact `int`.
    fn offset(&self, index: &Bound<'_, PyAny>) -> Option<usize> {
        if !index.is_exact_instance_of::<PyInt>() {
            return None;
        }
        let index = index.extract::<isize>().ok()?;
        let index = match index < 0 {
            true => self.length.checked_add_signed(index)?,
            false => index as usize,
        };
        (index < self.length).then(|| index * self.code.size())
    }

    fn locked<T>(&self, py: Python<'_>, access: impl FnOnce(&SharedBytes) -> T) -> PyResult<T> {
        let bytes = self.block.get().bytes()?;
        match &self.lock {
            AnyLock::RLock(lock) => under(py, lock.get().engine()?, || access(bytes)),
            AnyLock::Lock(lock) => under(py, lock.get().engine()?, || access(bytes)),
        }
    }

    fn read<'py>(&self, py: Python<'py>, at: usize) -> PyResult<Bound<'py, PyAny>> {
        self.locked(py, |bytes| self.code.read(py, bytes, at))?
    }

    fn write(&self, py: Python<'_>, at: usize, value: [u8; 8]) -> PyResult<()> {
        let size = self.code.size();
        self.locked(py, |bytes| bytes.write_at(at, &value[..size]))
    }
}

fn fill(offset: &OnceLock<Guard>, guard: Option<Guard>) -> PyResult<()> {
    match guard {
        Some(guard) => offset
            .set(guard)
            .map_err(|_| PyRuntimeError::new_err("this object was initialised already")),
        None => Ok(()),
    }
}

/// The base class of a synchronized number.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug, Default)]
pub struct SynchronizedValueBase(OnceLock<Guard>);

#[pymethods]
impl SynchronizedValueBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> SynchronizedValueBase {
        SynchronizedValueBase::default()
    }

    /// Sets the lock, and the number that it guards.
    fn _guard(
        &self,
        lock: &Bound<'_, PyAny>,
        block: &Bound<'_, Block>,
        code: &str,
    ) -> PyResult<()> {
        fill(&self.0, Guard::new(lock, block, code, 1)?)
    }

    /// The value. It is read and written while holding the lock.
    #[getter]
    fn get_value<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().0.get() {
            Some(guard) => guard.read(slf.py(), 0),
            None => slf.call_method0(intern!(slf.py(), "_get_value")),
        }
    }

    #[setter]
    fn set_value(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if let Some(guard) = slf.get().0.get()
            && let Some(bytes) = guard.code.bytes_of(value)
        {
            return guard.write(py, 0, bytes);
        }
        slf.call_method1(intern!(py, "_set_value"), (value,))
            .map(drop)
    }
}

/// The base class of a synchronized array. Its buffer is that of the array.
#[pyclass(frozen, subclass, extends = BufferProxy, module = "procession._native")]
#[derive(Debug, Default)]
pub struct SynchronizedArrayBase(OnceLock<Guard>);

#[pymethods]
impl SynchronizedArrayBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        _args: Positional<'_, '_>,
        _kwargs: Option<Keyword<'_, '_>>,
    ) -> PyClassInitializer<SynchronizedArrayBase> {
        PyClassInitializer::from(BufferProxy::default())
            .add_subclass(SynchronizedArrayBase::default())
    }

    /// Sets the array whose buffer this object exports.
    fn _set_buffer(slf: &Bound<'_, Self>, array: &Bound<'_, PyAny>) {
        slf.as_super().get().set(array);
    }

    /// Sets the lock, and the numbers that it guards.
    fn _guard(
        &self,
        lock: &Bound<'_, PyAny>,
        block: &Bound<'_, Block>,
        code: &str,
        length: usize,
    ) -> PyResult<()> {
        fill(&self.0, Guard::new(lock, block, code, length)?)
    }

    fn __getitem__<'py>(
        slf: &Bound<'py, Self>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if let Some(guard) = slf.get().0.get()
            && let Some(offset) = guard.offset(index)
        {
            return guard.read(py, offset);
        }
        slf.call_method1(intern!(py, "_get_item"), (index,))
    }

    fn __setitem__(
        slf: &Bound<'_, Self>,
        index: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        if let Some(guard) = slf.get().0.get()
            && let Some(offset) = guard.offset(index)
            && let Some(bytes) = guard.code.bytes_of(value)
        {
            return guard.write(py, offset, bytes);
        }
        slf.call_method1(intern!(py, "_set_item"), (index, value))
            .map(drop)
    }

    fn __delitem__(&self, _index: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyAttributeError::new_err("__delitem__"))
    }
}
