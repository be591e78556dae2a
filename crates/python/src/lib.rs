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
mod classes;
mod condition;
mod descriptor;
mod errors;
mod event;
mod exclusive;
mod guarded;
mod launch;
mod lock;
mod many;
mod message;
mod patience;
mod pool;
mod process;
mod queue;
mod report;
mod rlock;
mod semaphore;
mod slot;
mod store;
mod wire;

// Free-threaded interpreters are not tested yet.
#[pyo3::pymodule(gil_used = true)]
mod _engine {
    #[pymodule_export]
    use crate::channel::pipe;
    #[pymodule_export]
    use crate::classes::{__dir__, __getattr__};
    #[pymodule_export]
    use crate::launch::{answer_summons, environment_of_same_hashes, launch};
    #[pymodule_export]
    use crate::message::{dumps, dumps_plain, loads};
    #[pymodule_export]
    use crate::process::{
        arena_fd, bury, census, check_fork, ensure, enter, fate, forked_seat, hang_on, hold_for,
        leave, let_go_of_parents, lifeline_fd, me, memory, note_pid, number_space,
        prepare_lifeline, refusal, release_seat, reserve_seat, sweep, take_seat, trim,
    };
    #[pymodule_export]
    use crate::report::{is_member, name_process, note_origin, report_tree};
    #[pymodule_export]
    use crate::wire::{enclose, is_enclosing};

    #[pymodule_init]
    fn init(_module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        // The interpreter counts threads as soon as a fork returns, and warns of those it finds.
        procession_engine::process::start_threads_by(procession_native::in_a_moment);
        Ok(())
    }
}
