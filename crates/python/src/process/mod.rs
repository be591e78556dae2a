//! Functions on the process table: registration, fork, exit and what a process holds.
//!
//! The start methods of the package call them. The engine's documentation describes the protocol. A `proc_id` is the
//! number of an entry in the process table, with its generation.

pub mod diagnostics;
pub mod fork;
pub mod known_fd;
pub mod launch;
pub mod sentinels;

use std::os::fd::{IntoRawFd, RawFd};

use procession_engine::process::{self, ExitState, Reservation, parent_death};
use procession_engine::{Handle, ProcId};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::support::errors::raise;
use crate::support::fd;

fn parse_id(proc_id: u32) -> PyResult<ProcId> {
    ProcId::from_u32(proc_id).ok_or_else(|| {
        PyValueError::new_err(format!("{proc_id} is not the id of a process-table entry"))
    })
}

fn state_name(state: ExitState) -> &'static str {
    match state {
        ExitState::Alive => "alive",
        ExitState::Left => "left",
        ExitState::Died => "died",
    }
}

/// Gives this process shared memory and an entry in the process table, unless it has them.
///
/// Raises `OSError`, `MemoryError` or `RuntimeError` when the system refuses.
#[pyfunction]
pub fn ensure_registered() -> PyResult<()> {
    process::ensure().map_err(raise)
}

/// Returns why this process can never have shared memory, None if it can.
#[pyfunction]
pub fn unavailable_reason() -> Option<String> {
    process::refusal().map(|error| error.to_string())
}

/// Returns the descriptor of the shared memory, for a child to pass to `enter`.
#[pyfunction]
pub fn arena_fd() -> PyResult<RawFd> {
    process::arena_fd().map_err(raise)
}

/// Returns the id of this process.
#[pyfunction]
pub fn proc_id() -> PyResult<u32> {
    process::ensure().map_err(raise)?;
    Ok(process::me().as_u32())
}

/// Reserves an entry for a child that is about to start, and returns its id.
///
/// Call `release_entry` if the child does not start.
#[pyfunction]
pub fn reserve_entry() -> PyResult<u32> {
    Ok(Reservation::reserve().map_err(raise)?.keep().as_u32())
}

/// Adds an object to those that the process keeps alive.
#[pyfunction]
pub fn hold_for(proc_id: u32, handle: &[u8]) -> PyResult<()> {
    let handle = Handle::from_bytes(handle).map_err(raise)?;
    process::hold_for(parse_id(proc_id)?, &handle).map_err(raise)
}

/// Records the pid of a process.
#[pyfunction]
pub fn set_pid(proc_id: u32, pid: u32) -> PyResult<()> {
    process::note_pid(parse_id(proc_id)?, pid);
    Ok(())
}

/// Returns a number for the namespaces in which this process's pids and descriptors are valid; 0 if unknown.
#[pyfunction]
pub fn namespace_id() -> u32 {
    process::number_space()
}

/// Releases an entry reserved for a child that will not start.
#[pyfunction]
pub fn release_entry(proc_id: u32) -> PyResult<()> {
    process::release_entry(parse_id(proc_id)?);
    Ok(())
}

/// Attaches a fresh program to the shared memory behind `fd`, as the given process.
///
/// Takes ownership of the descriptor.
#[pyfunction]
pub fn enter(py: Python<'_>, fd: RawFd, proc_id: u32) -> PyResult<()> {
    let id = parse_id(proc_id)?;
    let fd = fd::take_over(py, fd)?;
    process::enter(fd, id).map_err(raise)
}

/// Moves a forked process to an entry that another process reserved.
#[pyfunction]
pub fn claim_entry(proc_id: u32) -> PyResult<()> {
    process::move_to_entry(parse_id(proc_id)?).map_err(raise)
}

/// Prepares a fork, so that the child can call `die_with_parent`.
#[pyfunction]
pub fn prepare_lifeline() -> PyResult<()> {
    parent_death::prepare().map_err(raise)
}

/// Returns a descriptor for a child that is to call `die_with_parent` with it. The caller closes its own copy.
#[pyfunction]
pub fn lifeline_fd() -> PyResult<RawFd> {
    Ok(parent_death::reading_end().map_err(raise)?.into_raw_fd())
}

/// Makes this process die with its parent: it is killed when the parent dies.
///
/// The parent is the process that passed `fd`, or without `fd` the one that forked this process.
#[pyfunction]
#[pyo3(signature = (fd=None))]
pub fn die_with_parent(fd: Option<RawFd>) -> PyResult<()> {
    match fd {
        Some(fd) => parent_death::die_with(fd),
        None => parent_death::die_with_parent(),
    }
    .map_err(raise)
}

/// Drops the inherited links, in a forked child that does not call `die_with_parent`.
///
/// A copy of a link that stayed open would hide the death of a parent from its other children.
#[pyfunction]
pub fn drop_parent_links() {
    parent_death::outlive_parents();
}

/// Marks the exit of this process as orderly.
#[pyfunction]
pub fn mark_exit() {
    process::leave();
}

/// Returns the state of a process: 'alive', 'left' (it exited in order) or 'died'.
#[pyfunction]
pub fn exit_state(proc_id: u32) -> PyResult<&'static str> {
    Ok(state_name(process::exit_state(parse_id(proc_id)?)))
}

/// Frees what a process owned, and returns its state as `exit_state` does.
///
/// The process is a child of this one that was waited for.
#[pyfunction]
pub fn reap(py: Python<'_>, proc_id: u32) -> PyResult<&'static str> {
    let id = parse_id(proc_id)?;
    Ok(state_name(py.detach(|| process::reap_collected(id))))
}

/// Frees what all dead processes owned, and returns how many they were.
#[pyfunction]
pub fn reap_all(py: Python<'_>) -> usize {
    py.detach(process::sweep)
}

/// Counts what is in use: processes, blocks, objects, bytes and segments.
#[pyfunction]
pub fn memory_stats(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let stats = process::memory_stats();
    let table = PyDict::new(py);
    table.set_item("processes", stats.processes)?;
    table.set_item("blocks_in_use", stats.blocks_in_use)?;
    table.set_item("objects", stats.objects)?;
    table.set_item("bytes_committed", stats.bytes_committed)?;
    table.set_item("segments", stats.segments)?;
    Ok(table)
}

/// Returns how much shared memory the process tree has and may have, in bytes.
#[pyfunction]
pub fn memory_usage(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let memory = py.detach(process::memory_so_far);
    let table = PyDict::new(py);
    table.set_item("in_use", memory.in_use)?;
    table.set_item("resident", memory.resident)?;
    table.set_item("limit", memory.limit)?;
    Ok(table)
}

/// Returns free memory to the system, and says how many bytes that were.
#[pyfunction]
pub fn trim(py: Python<'_>) -> u64 {
    py.detach(process::trim)
}
