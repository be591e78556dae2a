//! Functions about this process and its children: seats, their fates, and what they hold.
//!
//! The package's start methods call these; see the engine's `process` module for the protocol.

use std::os::fd::{IntoRawFd, RawFd};

use procession_engine::process::{self, Fate, Seat, lifeline};
use procession_engine::{Handle, OwnerId};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::descriptor;
use crate::errors::raise;

fn owner(seat: u32) -> PyResult<OwnerId> {
    OwnerId::from_u32(seat)
        .ok_or_else(|| PyValueError::new_err(format!("{seat} is not the number of a seat")))
}

fn name(fate: Fate) -> &'static str {
    match fate {
        Fate::Alive => "alive",
        Fate::Left => "left",
        Fate::Died => "died",
    }
}

/// Gives this process shared memory and a seat, unless it has them.
#[pyfunction]
pub fn ensure() -> PyResult<()> {
    process::ensure().map_err(raise)
}

/// Why this process can never have shared memory; None if it can.
#[pyfunction]
pub fn refusal() -> Option<String> {
    process::refusal().map(|error| error.to_string())
}

/// The descriptor of the shared memory, for a child to enter with.
#[pyfunction]
pub fn arena_fd() -> PyResult<RawFd> {
    process::arena_fd().map_err(raise)
}

/// The seat of this process.
#[pyfunction]
pub fn me() -> PyResult<u32> {
    process::ensure().map_err(raise)?;
    Ok(process::me().as_u32())
}

/// Takes a seat for a child that is about to start; `release_seat` when it does not.
#[pyfunction]
pub fn reserve_seat() -> PyResult<u32> {
    Ok(Seat::reserve().map_err(raise)?.keep().as_u32())
}

/// Lets the occupant of a seat hold an object from now on.
#[pyfunction]
pub fn hold_for(seat: u32, handle: &[u8]) -> PyResult<()> {
    let handle = Handle::from_bytes(handle).map_err(raise)?;
    process::hold_for(owner(seat)?, &handle).map_err(raise)
}

/// Writes down the process id of the occupant of a seat.
#[pyfunction]
pub fn note_pid(seat: u32, pid: u32) -> PyResult<()> {
    process::note_pid(owner(seat)?, pid);
    Ok(())
}

/// The namespaces in which this process's numbers mean what they do here; 0 where those are unknown.
#[pyfunction]
pub fn number_space() -> u32 {
    process::number_space()
}

/// Gives up a seat that nobody sat down on.
#[pyfunction]
pub fn release_seat(seat: u32) -> PyResult<()> {
    process::release_seat(owner(seat)?);
    Ok(())
}

/// Enters the shared memory behind `fd` in a fresh program; owns the descriptor from then on.
#[pyfunction]
pub fn enter(py: Python<'_>, fd: RawFd, seat: u32) -> PyResult<()> {
    let seat = owner(seat)?;
    let fd = descriptor::take_over(py, fd)?;
    process::enter(fd, seat).map_err(raise)
}

/// Moves a forked process to a seat that another process reserved.
#[pyfunction]
pub fn take_seat(seat: u32) -> PyResult<()> {
    process::take_seat(owner(seat)?).map_err(raise)
}

/// In the parent, after a fork in this thread: the seat of the child.
#[pyfunction]
pub fn forked_seat() -> Option<u32> {
    process::forked_seat().map(OwnerId::as_u32)
}

/// After a fork in this thread, in the child and in the parent: raises what the child lacks of what its parent holds.
#[pyfunction]
pub fn check_fork() -> PyResult<()> {
    process::check_fork().map_err(raise)
}

/// Before a fork: sees to it that the child can `hang_on`.
#[pyfunction]
pub fn prepare_lifeline() -> PyResult<()> {
    lifeline::prepare().map_err(raise)
}

/// A descriptor to pass to a child that is to `hang_on`; the caller closes its own copy.
#[pyfunction]
pub fn lifeline_fd() -> PyResult<RawFd> {
    Ok(lifeline::reading_end().map_err(raise)?.into_raw_fd())
}

/// From here on this process dies when the one does whose lifeline this is: the one that passed it `fd`, or the
/// one that forked it.
#[pyfunction]
#[pyo3(signature = (fd=None))]
pub fn hang_on(fd: Option<RawFd>) -> PyResult<()> {
    match fd {
        Some(fd) => lifeline::hang_on(fd),
        None => lifeline::hang_on_to_parent(),
    }
    .map_err(raise)
}

/// In a child that was forked for a purpose of its own, and does not `hang_on`: it goes on for nobody.
#[pyfunction]
pub fn let_go_of_parents() {
    lifeline::let_go_of_parents();
}

/// Marks the exit of this process as an orderly one.
#[pyfunction]
pub fn leave() {
    process::leave();
}

/// What became of the occupant of a seat: 'alive', 'left' or 'died'.
#[pyfunction]
pub fn fate(seat: u32) -> PyResult<&'static str> {
    Ok(name(process::fate(owner(seat)?)))
}

/// Frees what the occupant of a seat owned, a child of this process that was reaped, and returns its fate.
#[pyfunction]
pub fn bury(py: Python<'_>, seat: u32) -> PyResult<&'static str> {
    let seat = owner(seat)?;
    Ok(name(py.detach(|| process::bury_reaped(seat))))
}

/// Buries every process that is gone, and says how many there were.
#[pyfunction]
pub fn sweep(py: Python<'_>) -> usize {
    py.detach(process::sweep)
}

/// What is in use: seats, blocks, objects, bytes and segments.
#[pyfunction]
pub fn census(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let census = process::census();
    let table = PyDict::new(py);
    table.set_item("seats", census.seats)?;
    table.set_item("blocks_in_use", census.blocks_in_use)?;
    table.set_item("objects", census.objects)?;
    table.set_item("bytes_committed", census.bytes_committed)?;
    table.set_item("segments", census.segments)?;
    Ok(table)
}

/// How much shared memory the process tree has and may have, in bytes.
#[pyfunction]
pub fn memory(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let memory = py.detach(process::memory_so_far);
    let table = PyDict::new(py);
    table.set_item("in_use", memory.in_use)?;
    table.set_item("resident", memory.resident)?;
    table.set_item("limit", memory.limit)?;
    Ok(table)
}

/// Gives back all memory that lies free, and says how many bytes that were.
#[pyfunction]
pub fn trim(py: Python<'_>) -> u64 {
    py.detach(process::trim)
}
