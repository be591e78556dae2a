//! The functions a worker has loaded.
//!
//! A function that calling cannot change (a function, a class, a method of a built-in) is kept for all jobs.
//! Any other callable carries data of its program's, and each task is to find it as it was sent. It is kept for
//! the tasks of its job, as long as it can be seen that they have not changed it ([`super::snapshot`]); it is
//! loaded for each task where they have, or where that is not to be seen. The worker drops it when it has found
//! nothing to do for a while.

use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyModule, PyType};

use super::payload::Content;
use super::snapshot::Snapshot;

/// FunctionCache kept for all jobs.
const MAX_PLAIN: usize = 8;

/// Jobs whose functions are kept: those of more than one may come in turns.
const MAX_JOBS: usize = 2;

/// How long a job's function outlives the last task, while there are no others.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_millis(100);

/// A function, by the bytes that stand for it.
#[derive(Debug)]
struct Loaded<'py> {
    key: Vec<u8>,
    state: State<'py>,
}

#[derive(Debug)]
enum State<'py> {
    /// For all jobs.
    Plain(Bound<'py, PyAny>),
    /// For the tasks of one job.
    Kept(u64, Bound<'py, PyAny>, Snapshot<'py>),
    /// To be loaded for each task of one job.
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

/// FunctionCache loaded before, the last used at the end.
#[derive(Debug, Default)]
pub(super) struct FunctionCache<'py>(Vec<Loaded<'py>>);

impl<'py> FunctionCache<'py> {
    /// The function of a task of this job.
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
            // Dropped before it is loaded again: it may use the memory that it came in.
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
        let (function, lending) = content.load(py)?;
        let state = match is_plain(&function)? {
            true => State::Plain(function.clone()),
            false => match Snapshot::of(&function, lending) {
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

    /// Whether there are any that are kept for one job.
    pub(super) fn are_of_jobs(&self) -> bool {
        self.0.iter().any(|loaded| loaded.state.job().is_some())
    }

    /// Drops those that are kept for one job.
    pub(super) fn drop_jobs(&mut self) {
        self.0.retain(|loaded| loaded.state.job().is_none());
    }
}

/// Whether nothing that a call does to the function is lost when it is loaded anew.
fn is_plain(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    if function.is_exact_instance_of::<PyCFunction>() {
        let of = function.getattr(intern!(function.py(), "__self__"))?;
        return Ok(of.is_none()
            || of.is_instance_of::<PyModule>()
            || of.is_instance_of::<PyType>());
    }
    Ok(is_function(function)? || function.is_instance_of::<PyType>())
}

/// Whether an object is a function made by `def` or `lambda`.
///
/// PyO3's own check looks for the type among the modules, at its first use, and panics when there are none any more.
pub(super) fn is_function(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.get_type().is(function_type(object.py())?))
}

/// The type of functions: asked for while a pool is made, it is known to whatever uses the pool later.
pub(super) fn function_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "types", "FunctionType")
}
