//! Starting programs that contain the engine, and the handshake with such a program that started this one.

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use procession_engine::ProcId;
use procession_engine::process::Reservation;
use procession_engine::process::child::{Launch, handshake};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::support::errors::raise;
use crate::support::fd;

/// Starts a program as the process `proc_id`, and returns its pid. Releases the entry if that fails.
///
/// Takes ownership of `error_pipe`, where the program writes why its handshake failed. With `die_with_parent` it is
/// killed when this process dies; `tag` is what its `complete_handshake` returns.
#[pyfunction]
#[pyo3(signature = (command, env, cwd, *, proc_id, error_pipe, die_with_parent, tag))]
#[expect(clippy::too_many_arguments, reason = "Python has names for them")]
pub fn launch(
    py: Python<'_>,
    command: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    proc_id: u32,
    error_pipe: RawFd,
    die_with_parent: bool,
    tag: String,
) -> PyResult<u32> {
    let reservation = ProcId::from_u32(proc_id)
        .map(Reservation::from_id)
        .ok_or_else(|| {
            PyValueError::new_err(format!("{proc_id} is not the id of a process-table entry"))
        })?;
    let program = command
        .first()
        .map(PathBuf::from)
        .ok_or_else(|| PyValueError::new_err("a command needs a program"))?;
    let launch = Launch {
        program: Some(program),
        args: command,
        env,
        cwd,
        // A duplicate is never one of the standard three, which the child may redirect.
        complaint: Some(own(py, error_pipe)?.try_clone()?),
        tied: die_with_parent,
        note: tag,
        ..Launch::default()
    };
    Ok(launch.start(reservation).map_err(raise)?.id())
}

/// Takes ownership of the descriptor behind a number. Closes it also on failure.
fn own(py: Python<'_>, fd: RawFd) -> PyResult<OwnedFd> {
    fd::take_over(py, fd).inspect_err(|_| {
        // It is still open if it was not taken over. An error of `close` changes nothing.
        let _ = py
            .import("os")
            .and_then(|os| os.call_method1("close", (fd,)));
    })
}

/// Answers the process that started this program by `launch`, and returns its tag; None in any other program.
#[pyfunction]
pub fn complete_handshake() -> PyResult<Option<String>> {
    Ok(handshake().map_err(raise)?.map(|summons| summons.note))
}

/// Returns the environment in which an interpreter hashes strings as this one does, as `name=value`.
///
/// Returns None if it does so anyway, or if no environment makes it do so.
#[pyfunction]
#[pyo3(signature = (executable, /))]
pub fn environment_of_same_hashes(executable: PathBuf) -> Option<Vec<Vec<u8>>> {
    let environment = procession_pyffi::environment_of_same_hashes(&executable)?;
    let written =
        |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    Some(environment.into_iter().map(written).collect())
}
