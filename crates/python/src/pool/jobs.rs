//! The jobs of a pool: which are open, which have finished, and whose callbacks are due.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use procession_engine::IdMap;
use procession_engine::pool::{Results, TaskQueue, WorkerMessage};
use procession_engine::{ProcId, process};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::job::{Job, PoolJob, Shape};
use super::result::{ResultKind, TaskResult};
use crate::support::errors::raise;

/// The callback thread wakes up this often while it waits.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Callbacks {
    due: VecDeque<u64>,
    stopped: bool,
}

/// The result of [`PoolJobs`] that threads can use without the interpreter.
#[derive(Debug)]
pub(super) struct Jobs {
    open: Mutex<IdMap<u64, Arc<Job>>>,
    finished: Mutex<Vec<u64>>,
    callbacks: Mutex<Callbacks>,
    due: Condvar,
    /// The source of results, in a process pool.
    queue: OnceLock<Weak<TaskQueue>>,
    /// The process that owns the pool. Checked for each task, so not by pid, which would need a system call.
    owner: ProcId,
    /// Its pid, for messages.
    pid: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Jobs {
    fn new() -> PyResult<Jobs> {
        process::ensure().map_err(raise)?;
        Ok(Jobs {
            open: Mutex::default(),
            finished: Mutex::default(),
            callbacks: Mutex::default(),
            due: Condvar::new(),
            queue: OnceLock::new(),
            owner: process::me(),
            pid: std::process::id(),
        })
    }

    /// Returns whether this process owns the pool. A forked copy has none of the pool's threads, and a lock can be held
    /// by one of them.
    pub(super) fn is_here(&self) -> bool {
        process::me() == self.owner
    }

    /// Raises `RuntimeError` in a forked copy of the pool.
    pub(super) fn check_here(&self) -> PyResult<()> {
        match self.is_here() {
            true => Ok(()),
            false => Err(not_the_owner(self.pid)),
        }
    }

    pub(super) fn job(&self, number: u64) -> Option<Arc<Job>> {
        lock(&self.open).get(&number).cloned()
    }

    /// Sets the source of results.
    pub(super) fn set_task_queue(&self, queue: &Arc<TaskQueue>) {
        let _ = self.queue.set(Arc::downgrade(queue));
    }

    /// Receives results for a moment, until `is_done`.
    pub(super) fn assist(&self, is_done: impl Fn() -> bool) {
        if let Some(queue) = self.queue.get().and_then(Weak::upgrade) {
            queue.assist(is_done, self);
        }
    }

    /// Stores a result. Drops it if the job is not open any more.
    pub(super) fn set_result(&self, number: u64, index: u64, result: TaskResult) {
        let Some(job) = self.job(number) else { return };
        if job.set_result(index as usize, result) {
            if job.fails_fast.load(Ordering::Relaxed)
                && let Some(queue) = self.queue.get().and_then(Weak::upgrade)
            {
                queue.withdraw(number);
            }
            self.close(&job);
        }
    }

    /// Stores the error of the iterator of a job's arguments, raised after `index` tasks.
    pub(super) fn set_last_error(&self, job: &Job, index: usize, error: Py<PyAny>) {
        let result = TaskResult::from_object(ResultKind::Failed, error);
        if job.fails_fast.load(Ordering::Relaxed) {
            self.set_result(job.number, index as u64, result);
        } else if job.set_last_error(index, result) {
            self.close(job);
        }
    }

    /// Opens a job and puts its result object into the dict of results.
    ///
    /// The caller submits the first task in the same native call, so that no exception of a signal handler can leave a job
    /// open without tasks.
    pub(super) fn begin(
        &self,
        job: &Arc<Job>,
        result: &Bound<'_, PyAny>,
        results: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        self.check_here()?;
        self.forget_finished(results)?;
        results.set_item(job.number, result)?;
        lock(&self.open).insert(job.number, job.clone());
        if job.is_complete() {
            self.close(job);
        }
        Ok(())
    }

    fn forget_finished(&self, results: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = results.py();
        if !self.is_here() {
            return Ok(());
        }
        let finished = std::mem::take(&mut *lock(&self.finished));
        for number in finished {
            if let Some(result) = results.get_item(number)? {
                results.del_item(number)?;
                result.setattr(intern!(py, "_pool"), py.None())?;
                result.setattr(intern!(py, "_function"), py.None())?;
            }
        }
        Ok(())
    }

    /// Stops submission for all open jobs.
    pub(super) fn give_up_all(&self) {
        lock(&self.open).values().for_each(|job| job.give_up());
    }

    pub(super) fn close(&self, job: &Job) {
        if lock(&self.open).remove(&job.number).is_none() {
            return;
        }
        if job.has_callbacks {
            lock(&self.callbacks).due.push_back(job.number);
            self.due.notify_one();
        } else {
            // In this order, so that a thread that gets the result finds the job closed.
            lock(&self.finished).push(job.number);
            job.announce();
        }
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.open).len()
    }

    pub(super) fn has_finished(&self) -> bool {
        !lock(&self.finished).is_empty()
    }
}

impl Results for Jobs {
    fn deliver(&self, job: u64, index: u64, result_kind: u8, reply: WorkerMessage) {
        let result = TaskResult::from_reply(ResultKind::from_byte(result_kind), reply);
        self.set_result(job, index, result);
    }
}

/// Calls `function(*args, **kwds)`.
fn call<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyAny>,
    kwds: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let args = match args.cast::<PyTuple>() {
        Ok(args) => args.clone(),
        Err(_) => py.get_type::<PyTuple>().call1((args,))?.cast_into()?,
    };
    let kwds = match kwds {
        Some(kwds) if !kwds.is_exact_instance_of::<PyDict>() => {
            Some(py.get_type::<PyDict>().call1((kwds,))?.cast_into()?)
        }
        Some(kwds) => Some(kwds.cast::<PyDict>()?.clone()),
        None => None,
    };
    function.call(args, kwds.as_ref())
}

#[cold]
fn not_the_owner(pid: u32) -> PyErr {
    let here = std::process::id();
    PyRuntimeError::new_err(format!(
        "this pool, or its result, belongs to process {pid}, which made it: its workers answer nobody else, so \
         process {here}, a forked copy of that one, would wait for ever. Make a pool in each process that uses one \
         (with gunicorn's --preload, in its hook post_fork; else when it is first needed)"
    ))
}

/// The open jobs of a pool.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct PoolJobs(pub(super) Arc<Jobs>);

#[pymethods]
impl PoolJobs {
    #[new]
    fn new() -> PyResult<PoolJobs> {
        Ok(PoolJobs(Arc::new(Jobs::new()?)))
    }

    /// Raises `RuntimeError` in a forked copy of the pool.
    fn check_here(&self) -> PyResult<()> {
        self.0.check_here()
    }

    /// Creates a job of 'single', 'list', 'ordered' or 'unordered' results. Its `begin` opens it.
    ///
    /// `expected` is the number of its tasks, None while it is unknown. With `has_callbacks`, `next_callback` returns the
    /// number of the complete job, and its results are available after `announce`. A job without tasks ends with a call of
    /// `expect`.
    fn create(
        &self,
        shape: &str,
        expected: Option<usize>,
        has_callbacks: bool,
    ) -> PyResult<PoolJob> {
        let shape = match shape {
            "single" => Shape::Single,
            "list" => Shape::List,
            "ordered" => Shape::Ordered,
            "unordered" => Shape::Unordered,
            other => {
                return Err(PyValueError::new_err(format!(
                    "no shape of a job: {other:?}"
                )));
            }
        };
        PoolJob::create(&self.0, shape, expected, has_callbacks)
    }

    /// Stores a result that is an object of this process.
    fn set_result(&self, job: u64, index: u64, success: bool, value: Py<PyAny>) {
        let kind = if success {
            ResultKind::One
        } else {
            ResultKind::Failed
        };
        self.0
            .set_result(job, index, TaskResult::from_object(kind, value));
    }

    /// Calls the function of a task and stores the result, or with `many` the results of a chunk. Then forgets finished
    /// jobs.
    ///
    /// Does nothing if the job is not open any more.
    #[expect(clippy::too_many_arguments, reason = "what a task is made of")]
    fn run_task(
        &self,
        results: &Bound<'_, PyDict>,
        job: u64,
        index: u64,
        many: bool,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyAny>,
        kwds: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if !self.is_open(job) {
            return Ok(());
        }
        let result = match (call(function, args, kwds), many) {
            (Ok(value), false) => TaskResult::from_object(ResultKind::One, value.unbind()),
            (Ok(values), true) => TaskResult::from_object(ResultKind::Many, values.unbind()),
            (Err(error), _) => {
                let error = error.into_value(results.py()).into_any();
                TaskResult::from_object(ResultKind::Failed, error)
            }
        };
        self.0.set_result(job, index, result);
        self.0.forget_finished(results)
    }

    /// Stores the error of the iterator of a job's arguments, raised after `index` tasks, as the last result.
    fn set_last_error(&self, job: &PoolJob, index: usize, error: Py<PyAny>) {
        self.0.set_last_error(&job.0, index, error);
    }

    /// Sets the number of tasks of a job, when its iterator has ended.
    fn expect(&self, job: &PoolJob, expected: usize) {
        if job.0.expect(expected) {
            self.0.close(&job.0);
        }
    }

    /// Ends a job: an error replaces the missing results.
    fn fail(&self, py: Python<'_>, number: u64, error: Py<PyAny>) {
        if let Some(job) = self.0.job(number)
            && job.fail_rest(&error, py)
        {
            self.0.close(&job);
        }
    }

    /// Returns whether a job is open.
    fn is_open(&self, number: u64) -> bool {
        self.0.is_here() && lock(&self.0.open).contains_key(&number)
    }

    /// Ends every open job: an error replaces the missing results.
    fn fail_all(&self, py: Python<'_>, error: Py<PyAny>) {
        let open: Vec<_> = lock(&self.0.open).values().cloned().collect();
        for job in open {
            if job.fail_rest(&error, py) {
                self.0.close(&job);
            }
        }
    }

    /// Returns the number of open jobs.
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Removes the jobs that finished since the last call from the dict of results, and the references to the pool from
    /// their results.
    fn forget_finished(&self, results: &Bound<'_, PyDict>) -> PyResult<()> {
        self.0.forget_finished(results)
    }

    /// Marks a job as finished, after its callbacks have run.
    fn mark_finished(&self, number: u64) {
        lock(&self.0.finished).push(number);
    }

    /// Waits for a job whose callbacks are due, and returns its number. Returns None after `stop_callbacks`.
    fn next_callback(&self, py: Python<'_>) -> Option<u64> {
        let due = lock(&self.0.callbacks).due.pop_front();
        if due.is_some() {
            return due;
        }
        py.detach(|| {
            let mut callbacks = lock(&self.0.callbacks);
            loop {
                if let Some(number) = callbacks.due.pop_front() {
                    return Some(number);
                }
                if callbacks.stopped {
                    return None;
                }
                callbacks = match self.0.due.wait_timeout(callbacks, CHECK_INTERVAL) {
                    Ok((callbacks, _)) => callbacks,
                    Err(poisoned) => poisoned.into_inner().0,
                };
            }
        })
    }

    /// Makes `next_callback` return None when no callbacks are due any more.
    fn stop_callbacks(&self) {
        lock(&self.0.callbacks).stopped = true;
        self.0.due.notify_all();
    }
}
