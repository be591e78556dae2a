//! The classes of the module, each created on first access.
//!
//! A process that only starts others, or is being started, needs none of them. To create all takes longer than to load
//! the library.

use procession_pyffi::{BorrowedBuffer, BufferProxy};
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::channel::pipe::Channel;
use crate::channel::queue::Queue;
use crate::pool::{
    NoValue, PoolFunction, PoolJob, PoolJobs, PoolRemainder, PoolSupervisor, PoolTaskQueue,
    PoolWorker,
};
use crate::store::{DictStore, ListStore, StoreDetached, StoreFull};
use crate::sync::barrier::Barrier;
use crate::sync::condition::Waiters;
use crate::sync::event::Event;
use crate::sync::fastcall;
use crate::sync::lock::{Lock, RLock};
use crate::sync::semaphore::Semaphore;
use crate::value::Block;
use crate::value::synchronized::{SynchronizedArrayBase, SynchronizedValueBase};

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
    BorrowedBuffer,
    BufferProxy,
    Channel,
    DictStore,
    StoreDetached,
    Event,
    SynchronizedArrayBase,
    SynchronizedValueBase,
    ListStore,
    Lock after fastcall::lock,
    StoreFull,
    PoolWorker,
    PoolSupervisor,
    PoolTaskQueue,
    PoolFunction,
    PoolJob,
    NoValue,
    PoolJobs,
    PoolRemainder,
    Queue,
    RLock after fastcall::rlock,
    Semaphore after fastcall::semaphore,
    Waiters,
}

/// Creates the class of this name and adds it to the module.
#[pyfunction]
#[pyo3(pass_module)]
pub fn __getattr__<'py>(module: &Bound<'py, PyModule>, name: &str) -> PyResult<Bound<'py, PyType>> {
    let Some(class) = class(module.py(), name)? else {
        return Err(PyAttributeError::new_err(format!(
            "module 'procession._native' has no attribute '{name}'"
        )));
    };
    module.setattr(name, &class)?;
    Ok(class)
}

/// Returns the names in the module, including those of classes not created yet.
#[pyfunction]
#[pyo3(pass_module)]
pub fn __dir__(module: &Bound<'_, PyModule>) -> PyResult<Vec<String>> {
    let mut names: Vec<String> = module.dict().keys().extract()?;
    names.extend(NAMES.iter().map(|name| (*name).to_owned()));
    names.sort();
    names.dedup();
    Ok(names)
}
