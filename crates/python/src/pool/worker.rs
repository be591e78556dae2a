//! The loop of a worker: claim, load, call, encode, send.

use std::sync::atomic::{AtomicU64, Ordering};

use procession_engine::error::{GetError, PutError};
use procession_engine::pool::{Claim, RESULT_HEAD, WorkerEndpoint, WorkerStatus};
use procession_engine::{Deadline, Error, Handle};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PySystemExit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyIterator, PyList, PyTuple};

use super::errors;
use super::functions::{FunctionCache, IDLE_TIMEOUT};
use super::payload::{Kind, Payload};
use super::result::ResultKind;
use crate::support::blocking;
use crate::support::errors::raise;
use crate::wire::message::Encoded;

/// After this many tasks the worker detaches once, so that its other threads can run.
const YIELD_EVERY: u64 = 256;

/// The worker's end of a process pool.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct PoolWorker {
    endpoint: WorkerEndpoint,
    /// The numbers of tasks that began and that ended: the same, or one less.
    started: AtomicU64,
    ended: AtomicU64,
}

/// Runs a task.
fn run_task<'py>(
    py: Python<'py>,
    functions: &mut FunctionCache<'py>,
    claim: &Claim<'_>,
) -> PyResult<(ResultKind, Bound<'py, PyAny>)> {
    let payload = Payload::parse(claim.bytes())
        .ok_or_else(|| PyRuntimeError::new_err("a task arrived damaged"))?;
    if payload.kind == Kind::Whole {
        let value = payload.value(py)?;
        let (function, args, kwds): (Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>) =
            value.extract()?;
        return Ok((ResultKind::One, call(&function, &args, &kwds)?));
    }
    let function = functions.get(py, claim.job(), payload.function)?;
    let value = payload.value(py)?;
    let report_item = |position| claim.note_item(position as u32, payload.timed);
    match payload.kind {
        Kind::One => Ok((ResultKind::One, function.call1((value,))?)),
        Kind::StarOne => Ok((ResultKind::One, function.call1(arguments(&value)?)?)),
        Kind::Many => all_of(&MAP, ("builtins", "map"), &function, &value, report_item),
        Kind::StarMany => all_of(
            &STARMAP,
            ("itertools", "starmap"),
            &function,
            &value,
            report_item,
        ),
        Kind::Call | Kind::Whole => {
            let (args, kwds): (Bound<'_, PyAny>, Bound<'_, PyAny>) = value.extract()?;
            Ok((ResultKind::One, call(&function, &args, &kwds)?))
        }
    }
}

static MAP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static STARMAP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Calls a function for all items of a chunk, with the interpreter's own loop. Calls `report_item` before each.
fn all_of<'py>(
    known: &PyOnceLock<Py<PyAny>>,
    (module, name): (&str, &str),
    function: &Bound<'py, PyAny>,
    items: &Bound<'py, PyAny>,
    report_item: impl Fn(usize) -> bool,
) -> PyResult<(ResultKind, Bound<'py, PyAny>)> {
    let py = items.py();
    let lazy = known.import(py, module, name)?.call1((function, items))?;
    let mut lazy = lazy.cast_into::<PyIterator>()?;
    let results = PyList::empty(py);
    for position in 0..items.len()? {
        if !report_item(position) {
            // This is a copy of the worker, forked by an item: the rest is the worker's, and no one reads its results.
            break;
        }
        // `map` treats a `StopIteration` of the function as its own end.
        let result = lazy
            .next()
            .unwrap_or_else(|| Err(PyStopIteration::new_err(())))?;
        results.append(result)?;
    }
    Ok((ResultKind::Many, results.into_any()))
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

impl PoolWorker {
    /// Waits for the next task. Returns None if there will be no more.
    fn claim(
        &self,
        py: Python<'_>,
        functions: &mut FunctionCache<'_>,
    ) -> PyResult<Option<Claim<'_>>> {
        let wait = |until| blocking::wait(py, until, |slice| self.endpoint.claim(slice));
        let mut claimed = self.endpoint.claim(Deadline::NOW);
        if is_none_yet(&claimed) && functions.has_job_functions() {
            claimed = wait(Deadline::after(IDLE_TIMEOUT))?;
            if is_none_yet(&claimed) {
                functions.drop_job_functions();
            }
        }
        if is_none_yet(&claimed) {
            claimed = wait(Deadline::NEVER)?;
        }
        match claimed {
            Ok(claim) => Ok(Some(claim)),
            // This is a copy of the worker, forked by a signal handler: the caller ends it.
            Err(GetError::Failed(Error::NotTheWorker)) => Ok(None),
            Err(GetError::Failed(error)) => Err(raise(error)),
            Err(_) => Ok(None),
        }
    }

    fn send_result(
        &self,
        py: Python<'_>,
        claim: &mut Claim<'_>,
        done: PyResult<(ResultKind, Bound<'_, PyAny>)>,
    ) -> PyResult<WorkerStatus> {
        let error = match done {
            Ok((kind, value)) => {
                let sent = match Encoded::of(&value) {
                    Ok(encoded) => finish(py, claim, kind, &encoded),
                    // This is a copy of the worker, forked while pickling: the caller ends it.
                    Err(error) if !self.endpoint.is_here() => return Err(error),
                    Err(error) => Err(error),
                };
                let unsendable = match sent {
                    Ok(standing) => return Ok(standing),
                    Err(_) if !self.endpoint.is_here() => return Ok(WorkerStatus::Revoked),
                    Err(error) => error,
                };
                reraise_exit(py, &unsendable)?;
                errors::describe_unsendable(py, &unsendable, &value)?
            }
            Err(error) => {
                reraise_exit(py, &error)?;
                errors::describe(py, &error)?
            }
        };
        if !self.endpoint.is_here() {
            return Ok(WorkerStatus::Revoked);
        }
        claim
            .finish(ResultKind::Failed as u8, &[error.as_bytes()])
            .map_err(put_error)
    }
}

fn is_none_yet(claimed: &Result<Claim<'_>, GetError>) -> bool {
    matches!(claimed, Err(GetError::Empty | GetError::Interrupted))
}

/// Sends a value as the result.
fn finish(
    py: Python<'_>,
    claim: &mut Claim<'_>,
    kind: ResultKind,
    encoded: &Encoded,
) -> PyResult<WorkerStatus> {
    let finished = match encoded.small() {
        Some(bytes) => claim.finish_with(kind as u8, &[bytes], encoded.attachments()),
        None => {
            let buf = encoded.message_buf_after(py, RESULT_HEAD, encoded.attachments())?;
            claim.finish_buf(kind as u8, &mut Some(buf))
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

/// Ends a copy of the worker that a task forked and that returned from the task. This task, and all others, belong to
/// the worker.
fn end_copy(py: Python<'_>, error: Option<PyErr>) -> PyErr {
    let end = || {
        let work = py.import("procession._core.pool.worker")?;
        work.call_method1("end_copy", (error.map(|error| error.into_value(py)),))
    };
    let returned = || PyRuntimeError::new_err("a copy of a worker goes on");
    end().map_or_else(|error: PyErr| error, |_| returned())
}

/// Raises a `SystemExit` again: `sys.exit` ends the worker, not only the task.
fn reraise_exit(py: Python<'_>, error: &PyErr) -> PyResult<()> {
    if error.is_instance_of::<PySystemExit>(py) {
        Err(error.clone_ref(py))
    } else {
        Ok(())
    }
}

#[pymethods]
impl PoolWorker {
    #[new]
    fn new(handle: &[u8]) -> PyResult<PoolWorker> {
        let handle = Handle::from_bytes(handle).map_err(raise)?;
        let endpoint = WorkerEndpoint::open(&handle).map_err(raise)?;
        let (started, ended) = Default::default();
        Ok(PoolWorker {
            endpoint,
            started,
            ended,
        })
    }

    /// The number of the running task, counted in this worker; None if none runs.
    #[getter]
    fn task(&self) -> Option<u64> {
        let started = self.started.load(Ordering::Relaxed);
        (started != self.ended.load(Ordering::Relaxed)).then_some(started)
    }

    /// Tells the pool that this worker can work.
    fn report_ready(&self) -> PyResult<()> {
        self.endpoint.report_ready().map_err(put_error)
    }

    /// Tells the pool why the initializer failed.
    fn report_failed_initializer(&self, reason: &[u8]) -> PyResult<()> {
        let sent = self.endpoint.report_failed_initializer(reason);
        sent.map_err(put_error)
    }

    /// Returns whether this process is the worker. A copy, forked by a task or by the initializer, is not.
    fn is_here(&self) -> bool {
        self.endpoint.is_here()
    }

    /// Runs tasks until the pool is closed, `max_tasks` are done, or the pool revokes a task. Returns the number of tasks.
    ///
    /// An exception that ends the worker leaves its task unfinished. The task then fails because its worker died.
    #[pyo3(signature = (max_tasks=None))]
    fn run(&self, py: Python<'_>, max_tasks: Option<u64>) -> PyResult<u64> {
        let mut functions = FunctionCache::default();
        let mut done = 0;
        while max_tasks.is_none_or(|most| done < most) {
            let worked = self.run_next(py, &mut functions);
            // The program's code, in the task or while its result was pickled, can have forked. Only the worker sends
            // a result.
            if !matches!(worked, Ok(true)) && !self.endpoint.is_here() {
                return Err(end_copy(py, worked.err()));
            }
            if !worked? {
                break;
            }
            done += 1;
            py.check_signals()?;
            if done % YIELD_EVERY == 0 {
                py.detach(|| ());
            }
        }
        Ok(done)
    }
}

impl PoolWorker {
    /// Runs the next task. Returns false if there will be no more for this worker.
    fn run_next<'py>(&self, py: Python<'py>, functions: &mut FunctionCache<'py>) -> PyResult<bool> {
        let Some(mut claim) = self.claim(py, functions)? else {
            return Ok(false);
        };
        // A signal that arrived while no task ran must not interrupt this one.
        if let Err(error) = py.check_signals() {
            claim.leave_unfinished();
            return Err(error);
        }
        self.started.fetch_add(1, Ordering::Relaxed);
        let result = run_task(py, functions, &claim);
        self.ended.fetch_add(1, Ordering::Relaxed);
        if result.is_err() && !self.endpoint.is_here() {
            claim.leave_unfinished();
            return result.map(|_| false);
        }
        match self.send_result(py, &mut claim, result) {
            Ok(WorkerStatus::Good) => Ok(true),
            Ok(WorkerStatus::Revoked) => Ok(false),
            Err(error) => {
                claim.leave_unfinished();
                Err(error)
            }
        }
    }
}
