//! A worker's loop: claim, load, call, encode, hand in.

use std::sync::atomic::{AtomicU64, Ordering};

use procession_engine::error::{GetError, PutError};
use procession_engine::pool::{Claim, RESULT_HEAD, Standing, Workbench};
use procession_engine::{Deadline, Error, Handle};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PySystemExit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyIterator, PyList, PyTuple};

use super::failure;
use super::functions::{Functions, LINGER};
use super::part::Verdict;
use super::payload::{Kind, Payload};
use crate::errors::raise;
use crate::message::Encoded;
use crate::patience;

/// So many tasks in a row, and other threads of the worker get a turn.
const TURN: u64 = 256;

/// Where a worker process of a pool works.
#[pyclass(frozen, module = "procession._engine")]
#[derive(Debug)]
pub struct PoolBench {
    bench: Workbench,
    /// How many tasks began, and how many of them ended: at most one less.
    begun: AtomicU64,
    ended: AtomicU64,
}

/// Runs a task.
fn perform<'py>(
    py: Python<'py>,
    functions: &mut Functions<'py>,
    claim: &Claim<'_>,
) -> PyResult<(Verdict, Bound<'py, PyAny>)> {
    let payload = Payload::parse(claim.bytes())
        .ok_or_else(|| PyRuntimeError::new_err("a task arrived damaged"))?;
    if payload.kind == Kind::Whole {
        let value = payload.value(py)?;
        let (function, args, kwds): (Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>) =
            value.extract()?;
        return Ok((Verdict::One, call(&function, &args, &kwds)?));
    }
    let function = functions.get(py, claim.job(), payload.function)?;
    let value = payload.value(py)?;
    let note = |position| claim.note_item(position as u32, payload.timed);
    match payload.kind {
        Kind::One => Ok((Verdict::One, function.call1((value,))?)),
        Kind::StarOne => Ok((Verdict::One, function.call1(arguments(&value)?)?)),
        Kind::Many => all_of(&MAP, ("builtins", "map"), &function, &value, note),
        Kind::StarMany => all_of(&STARMAP, ("itertools", "starmap"), &function, &value, note),
        Kind::Call | Kind::Whole => {
            let (args, kwds): (Bound<'_, PyAny>, Bound<'_, PyAny>) = value.extract()?;
            Ok((Verdict::One, call(&function, &args, &kwds)?))
        }
    }
}

static MAP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static STARMAP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The results of a function for all items of a chunk, by the interpreter's own loop, with a note before each.
fn all_of<'py>(
    known: &PyOnceLock<Py<PyAny>>,
    (module, name): (&str, &str),
    function: &Bound<'py, PyAny>,
    items: &Bound<'py, PyAny>,
    note: impl Fn(usize) -> bool,
) -> PyResult<(Verdict, Bound<'py, PyAny>)> {
    let py = items.py();
    let lazy = known.import(py, module, name)?.call1((function, items))?;
    let mut lazy = lazy.cast_into::<PyIterator>()?;
    let results = PyList::empty(py);
    for position in 0..items.len()? {
        if !note(position) {
            // A copy, which an item forked: the rest is not its own, and nobody asks for what it has.
            break;
        }
        // The loop takes it for its end.
        let result = lazy
            .next()
            .unwrap_or_else(|| Err(PyStopIteration::new_err(())))?;
        results.append(result)?;
    }
    Ok((Verdict::Many, results.into_any()))
}

fn arguments<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    match value.cast::<PyTuple>() {
        Ok(tuple) => Ok(tuple.clone()),
        Err(_) => PyTuple::new(value.py(), value.try_iter()?.collect::<PyResult<Vec<_>>>()?),
    }
}

fn call<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyAny>,
    kwds: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let args = arguments(args)?;
    if kwds.is_none() {
        return function.call1(args);
    }
    match kwds.cast::<PyDict>() {
        Ok(kwds) if kwds.is_empty() => function.call1(args),
        Ok(kwds) => function.call(args, Some(kwds)),
        Err(_) => {
            let copy = PyDict::new(function.py());
            copy.call_method1("update", (kwds,))?;
            function.call(args, Some(&copy))
        }
    }
}

impl PoolBench {
    /// The next task; None when there will be no more.
    fn claim(&self, py: Python<'_>, functions: &mut Functions<'_>) -> PyResult<Option<Claim<'_>>> {
        let wait = |until| patience::wait(py, until, |slice| self.bench.claim(slice));
        let mut claimed = self.bench.claim(Deadline::NOW);
        if is_none_yet(&claimed) && functions.are_of_jobs() {
            claimed = wait(Deadline::after(LINGER))?;
            if is_none_yet(&claimed) {
                functions.drop_jobs();
            }
        }
        if is_none_yet(&claimed) {
            claimed = wait(Deadline::NEVER)?;
        }
        match claimed {
            Ok(claim) => Ok(Some(claim)),
            // A copy that a signal handler forked: the caller ends it.
            Err(GetError::Failed(Error::NotTheWorker)) => Ok(None),
            Err(GetError::Failed(error)) => Err(raise(error)),
            Err(_) => Ok(None),
        }
    }

    fn hand_in(
        &self,
        py: Python<'_>,
        claim: &mut Claim<'_>,
        done: PyResult<(Verdict, Bound<'_, PyAny>)>,
    ) -> PyResult<Standing> {
        let error = match done {
            Ok((verdict, value)) => {
                let sent = match Encoded::of(&value) {
                    Ok(encoded) => finish(py, claim, verdict, &encoded),
                    // Of a copy that this forked: the caller ends it.
                    Err(error) if !self.bench.is_here() => return Err(error),
                    Err(error) => Err(error),
                };
                let unsendable = match sent {
                    Ok(standing) => return Ok(standing),
                    Err(_) if !self.bench.is_here() => return Ok(Standing::Doomed),
                    Err(error) => error,
                };
                pass_on_exit(py, &unsendable)?;
                failure::describe_unsendable(py, &unsendable, &value)?
            }
            Err(error) => {
                pass_on_exit(py, &error)?;
                failure::describe(py, &error)?
            }
        };
        if !self.bench.is_here() {
            return Ok(Standing::Doomed);
        }
        claim
            .finish(Verdict::Failed as u8, &[error.as_bytes()])
            .map_err(put_error)
    }
}

fn is_none_yet(claimed: &Result<Claim<'_>, GetError>) -> bool {
    matches!(claimed, Err(GetError::Empty | GetError::Interrupted))
}

/// Hands a value in.
fn finish(
    py: Python<'_>,
    claim: &mut Claim<'_>,
    verdict: Verdict,
    encoded: &Encoded,
) -> PyResult<Standing> {
    let finished = match encoded.small() {
        Some(bytes) => claim.finish_with(verdict as u8, &[bytes], encoded.held()),
        None => {
            let draft = encoded.draft_behind(py, RESULT_HEAD, encoded.held())?;
            claim.finish_draft(verdict as u8, &mut Some(draft))
        }
    };
    finished.map_err(put_error)
}

fn put_error(error: PutError) -> PyErr {
    match error {
        PutError::Failed(error) => raise(error),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// Ends a copy of the worker that a task forked and that came back from it: the task is the worker's, and the next
/// one as well.
fn end_copy(py: Python<'_>, error: Option<PyErr>) -> PyErr {
    let end = || {
        let work = py.import("procession._core.pool.worker")?;
        work.call_method1("end_copy", (error.map(|error| error.into_value(py)),))
    };
    let returned = || PyRuntimeError::new_err("a copy of a worker goes on");
    end().map_or_else(|error: PyErr| error, |_| returned())
}

/// `sys.exit` ends the worker, not only the task.
fn pass_on_exit(py: Python<'_>, error: &PyErr) -> PyResult<()> {
    if error.is_instance_of::<PySystemExit>(py) {
        Err(error.clone_ref(py))
    } else {
        Ok(())
    }
}

#[pymethods]
impl PoolBench {
    #[new]
    fn new(handle: &[u8]) -> PyResult<PoolBench> {
        let handle = Handle::from_bytes(handle).map_err(raise)?;
        let bench = Workbench::open(&handle).map_err(raise)?;
        let (begun, ended) = Default::default();
        Ok(PoolBench {
            bench,
            begun,
            ended,
        })
    }

    /// The number of the running task, counted by this worker; None when none runs.
    #[getter]
    fn task(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::Relaxed);
        (begun != self.ended.load(Ordering::Relaxed)).then_some(begun)
    }

    /// Tells the pool something outside of any task.
    fn notify(&self, verdict: u8, data: &[u8]) -> PyResult<()> {
        self.bench.notify(verdict, &[data]).map_err(put_error)
    }

    /// Whether this process is the worker, and not a copy of it that a task, or the initializer, forked.
    fn is_here(&self) -> bool {
        self.bench.is_here()
    }

    /// Works until the pool is closed, `max_tasks` are done or a task is given up on by the pool.
    ///
    /// An exception that ends the worker leaves its task unfinished: it fails with the worker's death.
    #[pyo3(signature = (max_tasks=None))]
    fn work(&self, py: Python<'_>, max_tasks: Option<u64>) -> PyResult<u64> {
        let mut functions = Functions::default();
        let mut done = 0;
        while max_tasks.is_none_or(|most| done < most) {
            let worked = self.work_once(py, &mut functions);
            // Whatever code of the program's ran, a task or how its result is pickled, may have forked. A result
            // that was sent was the worker's.
            if !matches!(worked, Ok(true)) && !self.bench.is_here() {
                return Err(end_copy(py, worked.err()));
            }
            if !worked? {
                break;
            }
            done += 1;
            py.check_signals()?;
            if done % TURN == 0 {
                py.detach(|| ());
            }
        }
        Ok(done)
    }
}

impl PoolBench {
    /// Does the next task; false when there will be no more for this worker.
    fn work_once<'py>(&self, py: Python<'py>, functions: &mut Functions<'py>) -> PyResult<bool> {
        let Some(mut claim) = self.claim(py, functions)? else {
            return Ok(false);
        };
        // A signal that came while no task ran is not for this one.
        if let Err(error) = py.check_signals() {
            claim.leave_unfinished();
            return Err(error);
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        let result = perform(py, functions, &claim);
        self.ended.fetch_add(1, Ordering::Relaxed);
        if result.is_err() && !self.bench.is_here() {
            claim.leave_unfinished();
            return result.map(|_| false);
        }
        match self.hand_in(py, &mut claim, result) {
            Ok(Standing::Good) => Ok(true),
            Ok(Standing::Doomed) => Ok(false),
            Err(error) => {
                claim.leave_unfinished();
                Err(error)
            }
        }
    }
}
