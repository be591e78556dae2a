//! The native module `procession._native`: the engine's objects as Python classes.
//!
//! This crate only translates: arguments to engine calls, engine errors to exceptions, and blocking calls to calls that
//! wait detached from the interpreter. The Python modules of the package subclass these classes and give them their
//! public meaning. The crate has no unsafe code; what needs it is in `crates/pyffi`.
//!
//! | folder | contents |
//! |---|---|
//! | `support` | waiting, errors, construction, descriptors |
//! | `wire` | Python objects as bytes and back |
//! | `sync`, `channel`, `value`, `store` | one class for each object of the engine |
//! | `process` | the process table, starting programs, diagnostics |
//! | `pool` | the loops of a pool that run once a task |
//!
//! `support` and `wire` use nothing above them in this crate.

#![deny(unsafe_code)]

mod channel;
mod classes;
mod pool;
mod process;
mod store;
mod support;
mod sync;
mod value;
mod wire;

// Free-threaded interpreters are not tested yet.
#[pyo3::pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use crate::channel::pipe::pipe;
    #[pymodule_export]
    use crate::classes::{__dir__, __getattr__};
    #[pymodule_export]
    use crate::process::diagnostics::{has_arena, report_tree, set_origin, set_process_name};
    #[pymodule_export]
    use crate::process::fork::{check_fork, confirm_fork, forked_child, prepare_fork};
    #[pymodule_export]
    use crate::process::known_fd::{KnownFd, fill_standard_numbers, identity_of};
    #[pymodule_export]
    use crate::process::launch::{
        answer_handshake, environment_of_same_hashes, launch, offer_handshake,
    };
    #[pymodule_export]
    use crate::process::sentinels::{add_sentinel, are_all_alive, discard_sentinel};
    #[pymodule_export]
    use crate::process::{
        arena_fd, claim_entry, die_with_parent, drop_parent_links, ensure_registered, enter,
        exit_state, hold_for, lifeline_fd, mark_exit, memory_stats, memory_usage, namespace_id,
        prepare_lifeline, proc_id, reap, reap_all, release_entry, reserve_entry, set_pid, trim,
        unavailable_reason,
    };
    #[pymodule_export]
    use crate::wire::message::{dumps, dumps_plain, loads};
    #[pymodule_export]
    use crate::wire::{attach_to_message, is_pickling_message};

    #[pymodule_init]
    fn init(_module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        // The interpreter counts threads as soon as a fork returns, and warns if it finds some. So the engine's
        // threads start a moment later.
        procession_engine::process::start_threads_by(procession_pyffi::in_a_moment);
        Ok(())
    }
}
