//! The cache of the functions that a worker has loaded.
//!
//! A function that a call cannot change (a function, a class, a built-in) is cached for all jobs. Any other callable
//! carries data of the program, and each task must see it as it was sent. It is cached for the tasks of one job, as long
//! as a [snapshot](super::snapshot) shows that they did not change it. If they did, or if that cannot be shown, it is
//! loaded anew for each task. The worker drops the functions of jobs after a while without tasks.

use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyModule, PyType};

use super::payload::Content;
use super::snapshot::Snapshot;

/// The number of functions cached for all jobs.
const MAX_PLAIN: usize = 8;

/// The number of functions cached for one job each. Two, because the tasks of two jobs can alternate.
const MAX_JOBS: usize = 2;

/// A worker without tasks for so long drops the functions of jobs.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_millis(100);

/// A loaded function; the key is its encoded form.
#[derive(Debug)]
struct Loaded<'py> {
    key: Vec<u8>,
    state: State<'py>,
}

#[derive(Debug)]
enum State<'py> {
    /// It is valid for all jobs.
    Plain(Bound<'py, PyAny>),
    /// It is valid for the tasks of one job, while the snapshot holds.
    Kept(u64, Bound<'py, PyAny>, Snapshot<'py>),
    /// It must be loaded for each task of this job.
    Anew(u64),
}

impl State<'_> {
    fn job(&self) -> Option<u64> {
        match self {
            State::Plain(_) => None,
            State::Kept(job, ..) | State::Anew(job) => Some(*job),
        }
    }
}

/// The loaded functions; the most recently used one is the last.
#[derive(Debug, Default)]
pub(super) struct FunctionCache<'py>(Vec<Loaded<'py>>);

impl<'py> FunctionCache<'py> {
    /// Returns the function of a task of this job.
    pub(super) fn get(
        &mut self,
        py: Python<'py>,
        job: u64,
        content: Content<'_>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let known = self.0.iter().rposition(|loaded| {
            loaded.key == content.bytes && loaded.state.job().is_none_or(|of| of == job)
        });
        let Some(at) = known else {
            return self.load(py, job, content);
        };
        if at + 1 < self.0.len() {
            let known = self.0.remove(at);
            self.0.push(known);
        }
        let last = self.0.len() - 1;
        let state = &mut self.0[last].state;
        match state {
            State::Plain(function) => return Ok(function.clone()),
            State::Kept(_, function, snapshot) if snapshot.holds() => return Ok(function.clone()),
            // Drop it before it is loaded again: it can use the memory in which it arrived.
            State::Kept(..) => *state = State::Anew(job),
            State::Anew(_) => {}
        }
        Ok(content.load(py)?.0)
    }

    fn load(
        &mut self,
        py: Python<'py>,
        job: u64,
        content: Content<'_>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (function, borrowed) = content.load(py)?;
        let state = match is_plain(&function)? {
            true => State::Plain(function.clone()),
            false => match Snapshot::of(&function, borrowed) {
                Some(snapshot) => State::Kept(job, function.clone(), snapshot),
                None => State::Anew(job),
            },
        };
        self.make_room(state.job().is_none());
        let key = content.bytes.to_vec();
        self.0.push(Loaded { key, state });
        Ok(function)
    }

    fn make_room(&mut self, is_plain: bool) {
        let of_its_kind = |loaded: &Loaded<'_>| loaded.state.job().is_none() == is_plain;
        let most = if is_plain { MAX_PLAIN } else { MAX_JOBS };
        if self.0.iter().filter(|loaded| of_its_kind(loaded)).count() == most
            && let Some(oldest) = self.0.iter().position(of_its_kind)
        {
            self.0.remove(oldest);
        }
    }

    /// Returns whether it has functions that are cached for one job.
    pub(super) fn has_job_functions(&self) -> bool {
        self.0.iter().any(|loaded| loaded.state.job().is_some())
    }

    /// Drops the functions that are cached for one job.
    pub(super) fn drop_job_functions(&mut self) {
        self.0.retain(|loaded| loaded.state.job().is_none());
    }
}

/// Returns whether a call cannot change the function.
fn is_plain(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    if function.is_exact_instance_of::<PyCFunction>() {
        let of = function.getattr(intern!(function.py(), "__self__"))?;
        return Ok(of.is_none()
            || of.is_instance_of::<PyModule>()
            || of.is_instance_of::<PyType>());
    }
    Ok(is_function(function)? || function.is_instance_of::<PyType>())
}

/// Returns whether an object is a function made by `def` or `lambda`.
///
/// PyO3's own check imports a module at its first use, and panics if the interpreter is shutting down.
pub(super) fn is_function(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.get_type().is(function_type(object.py())?))
}

/// Returns the type of functions. The constructor of a pool calls this, so that later calls need no import.
pub(super) fn function_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "types", "FunctionType")
}
