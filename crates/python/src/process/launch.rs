//! The handshake with a new program, and starting one that contains the engine.

use std::ffi::OsString;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use procession_engine::process::Reservation;
use procession_engine::process::child::{self, Executable, Launch, Offer, Program};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::process::parse_id;
use crate::support::errors::raise;
use crate::support::fd;

/// Starts a program as the process `proc_id`, and returns its pid. Releases the entry if that fails.
///
/// Takes ownership of `error_pipe`, where the program writes why its handshake failed. With `die_with_parent` it is
/// killed when this process dies; `tag` is for the crate in that program.
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
    let reservation = Reservation::from_id(parse_id(proc_id)?);
    let error_pipe = own(py, error_pipe)?;
    let file = command
        .first()
        .map(PathBuf::from)
        .ok_or_else(|| PyValueError::new_err("a command needs a program"))?;
    let mut offer = Offer::new(reservation.id(), tag).map_err(raise)?;
    // A duplicate is never one of the standard three, which the child may redirect.
    offer.error_pipe(error_pipe.try_clone()?);
    if die_with_parent {
        offer.die_with_parent().map_err(raise)?;
    }
    let program = Program {
        executable: Executable::Other(file),
        args: command,
        env,
    };
    let launch = Launch {
        cwd,
        ..Launch::default()
    };
    let child = launch.start(program, &offer, reservation).map_err(raise)?;
    Ok(child.id())
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

/// Returns the text of a handshake with an interpreter that is to be the process `proc_id`, and the descriptors that it
/// must inherit.
///
/// The caller closes its own copies of the descriptors. With `die_with_parent` the process is killed when this one
/// dies.
#[pyfunction]
pub fn offer_handshake(proc_id: u32, die_with_parent: bool) -> PyResult<(String, Vec<RawFd>)> {
    let mut offer = Offer::new(parse_id(proc_id)?, String::new()).map_err(raise)?;
    if die_with_parent {
        offer.die_with_parent().map_err(raise)?;
    }
    let text = offer.to_string();
    let descriptors = offer.into_descriptors().into_iter();
    Ok((text, descriptors.map(IntoRawFd::into_raw_fd).collect()))
}

/// Joins the process tree of the process that made this offer, and returns its tag.
///
/// Returns None if the text is of another version, or its descriptors did not reach this process.
#[pyfunction]
pub fn answer_handshake(text: &str) -> PyResult<Option<String>> {
    let handshake = child::answer(text).map_err(raise)?;
    Ok(handshake.map(|handshake| handshake.tag))
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
