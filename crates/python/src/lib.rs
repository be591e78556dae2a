//! The native module `procession._engine`: the engine's objects as Python classes.
//!
//! This crate translates and nothing else: arguments to engine calls, engine errors to exceptions,
//! waiting to waiting without the interpreter lock. What the classes mean to a program is in the
//! package's Python modules, which subclass them. There is no unsafe code here.

#![deny(unsafe_code)]

mod args;
mod at_once;
mod barrier;
mod block;
mod channel;
mod condition;
mod descriptor;
mod errors;
mod event;
mod exclusive;
mod guarded;
mod lock;
mod many;
mod message;
mod patience;
mod pool;
mod process;
mod queue;
mod rlock;
mod semaphore;
mod slot;
mod store;
mod wire;

// Free-threaded interpreters are not tested yet.
#[pyo3::pymodule(gil_used = true)]
mod _engine {
    #[pymodule_export]
    use crate::barrier::Barrier;
    #[pymodule_export]
    use crate::block::Block;
    #[pymodule_export]
    use crate::channel::{Channel, pipe};
    #[pymodule_export]
    use crate::condition::Waiters;
    #[pymodule_export]
    use crate::event::Event;
    #[pymodule_export]
    use crate::guarded::{GuardedArray, GuardedValue};
    #[pymodule_export]
    use crate::lock::Lock;
    #[pymodule_export]
    use crate::message::{dumps, loads};
    #[pymodule_export]
    use crate::process::{
        arena_fd, bury, census, ensure, enter, fate, forked_seat, hold_for, leave, me, note_pid,
        release_seat, reserve_seat, sweep, take_seat,
    };
    #[pymodule_export]
    use crate::queue::Queue;
    #[pymodule_export]
    use crate::rlock::RLock;
    #[pymodule_export]
    use crate::semaphore::Semaphore;
    #[pymodule_export]
    use crate::store::{DictStore, Elsewhere, ListStore, NoRoom};
    #[pymodule_export]
    use crate::wire::{enclose, is_enclosing};
    #[pymodule_export]
    use procession_native::{BufferOf, SharedBuffer};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::at_once::register(module.py())?;
        crate::pool::register(module)
    }
}
