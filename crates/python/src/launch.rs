//! Functions that start programs with the engine in them, and that are there for such programs to start this one.

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use procession_engine::OwnerId;
use procession_engine::process::Seat;
use procession_engine::process::child::{Launch, summons};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::descriptor;
use crate::errors::raise;

/// Starts a program on a seat, which is given back if that fails; the process id.
///
/// Owns `complaint` from then on, where the program writes why it could not sit down.
#[pyfunction]
#[pyo3(signature = (command, env, cwd, *, seat, complaint, tied, note))]
#[expect(clippy::too_many_arguments, reason = "Python has names for them")]
pub fn launch(
    py: Python<'_>,
    command: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    seat: u32,
    complaint: RawFd,
    tied: bool,
    note: String,
) -> PyResult<u32> {
    let seat = OwnerId::from_u32(seat)
        .map(Seat::kept)
        .ok_or_else(|| PyValueError::new_err(format!("{seat} is not the number of a seat")))?;
    let program = command
        .first()
        .map(PathBuf::from)
        .ok_or_else(|| PyValueError::new_err("a command needs a program"))?;
    let launch = Launch {
        program: Some(program),
        args: command,
        env,
        cwd,
        // A copy is none of the standard three, which the child may have otherwise.
        complaint: Some(own(py, complaint)?.try_clone()?),
        tied,
        note,
        ..Launch::default()
    };
    Ok(launch.start(seat).map_err(raise)?.id())
}

/// The descriptor behind a number, which is closed in any case.
fn own(py: Python<'_>, fd: RawFd) -> PyResult<OwnedFd> {
    descriptor::take_over(py, fd).inspect_err(|_| {
        // Open if it was not taken over; there is nothing else to be done about it.
        let _ = py
            .import("os")
            .and_then(|os| os.call_method1("close", (fd,)));
    })
}

/// In a program that was started so: sits down, and returns the note; None in any other.
#[pyfunction]
pub fn answer_summons() -> PyResult<Option<String>> {
    Ok(summons().map_err(raise)?.map(|summons| summons.note))
}

/// The environment in which an interpreter hashes strings as this one does, as `name=value`.
///
/// None if it does so anyway, or would not do so in any.
#[pyfunction]
#[pyo3(signature = (executable, /))]
pub fn environment_of_same_hashes(executable: PathBuf) -> Option<Vec<Vec<u8>>> {
    let environment = procession_native::environment_of_same_hashes(&executable)?;
    let written =
        |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    Some(environment.into_iter().map(written).collect())
}
