//! The classes of the module, each made when it is first asked for.
//!
//! A process that only starts, or is started, needs none of them; making them all takes longer than loading
//! the library.

use procession_native::{BufferOf, SharedBuffer};
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::at_once;
use crate::barrier::Barrier;
use crate::block::Block;
use crate::channel::Channel;
use crate::condition::Waiters;
use crate::event::Event;
use crate::guarded::{GuardedArray, GuardedValue};
use crate::lock::Lock;
use crate::pool::{NoValue, PoolBench, PoolBoard, PoolFunction, PoolJob, PoolLedger, PoolRest};
use crate::queue::Queue;
use crate::rlock::RLock;
use crate::semaphore::Semaphore;
use crate::store::{DictStore, Elsewhere, ListStore, NoRoom};

macro_rules! classes {
    ($($name:ident $(after $prepare:path)?,)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyType>>> {
            match name {
                $(stringify!($name) => {
                    $($prepare(py)?;)?
                    Ok(Some(py.get_type::<$name>()))
                })*
                _ => Ok(None),
            }
        }
    };
}

classes! {
    Barrier,
    Block,
    BufferOf,
    Channel,
    DictStore,
    Elsewhere,
    Event,
    GuardedArray,
    GuardedValue,
    ListStore,
    Lock after at_once::lock,
    NoRoom,
    PoolBench,
    PoolBoard,
    PoolFunction,
    PoolJob,
    NoValue,
    PoolLedger,
    PoolRest,
    Queue,
    RLock after at_once::rlock,
    Semaphore after at_once::semaphore,
    SharedBuffer,
    Waiters,
}

/// Makes the class of this name, which the module then has.
#[pyfunction]
#[pyo3(pass_module)]
pub fn __getattr__<'py>(module: &Bound<'py, PyModule>, name: &str) -> PyResult<Bound<'py, PyType>> {
    let Some(class) = class(module.py(), name)? else {
        return Err(PyAttributeError::new_err(format!(
            "module 'procession._engine' has no attribute '{name}'"
        )));
    };
    module.setattr(name, &class)?;
    Ok(class)
}

/// The names of the module, those of the classes included.
#[pyfunction]
#[pyo3(pass_module)]
pub fn __dir__(module: &Bound<'_, PyModule>) -> PyResult<Vec<String>> {
    let mut names: Vec<String> = module.dict().keys().extract()?;
    names.extend(NAMES.iter().map(|name| (*name).to_owned()));
    names.sort();
    names.dedup();
    Ok(names)
}
