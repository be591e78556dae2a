//! A job: the results of one `apply`, `map` or `imap`.
//!
//! Any thread can store a result, attached to the interpreter or not. Results are stored as bytes, and decoded in the
//! thread that takes them out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_engine::pool::{Collector, Order};
use procession_engine::{Deadline, sync};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::jobs::Jobs;
use super::result::{ResultKind, TaskResult};
use crate::support::blocking;
use crate::support::errors::raise;
use crate::wire;

/// How the results of a job are returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One value.
    Single,
    /// A list, all at once.
    List,
    /// An iterator, in the order of the tasks.
    Ordered,
    /// An iterator, in the order of completion.
    Unordered,
}

#[derive(Debug)]
struct State {
    results: Collector<TaskResult>,
    /// The values of chunks, already unpacked.
    unpacked: VecDeque<Py<PyAny>>,
    /// Whether a thread has begun to decode all results at once, and whether it has ended.
    collected: bool,
    decoded: bool,
    /// Set when the results are complete and the callbacks have run.
    announced: bool,
    /// Set at the next change. Created by the first thread that has to wait.
    changed: Option<Arc<sync::Event>>,
    waiting: bool,
}

/// The result of a job that threads can use without the interpreter.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) has_callbacks: bool,
    /// Whether it ends with its first failure.
    pub(super) fails_fast: AtomicBool,
    /// Whether it was given up: no more tasks are submitted for it.
    given_up: AtomicBool,
    shape: Shape,
    state: Mutex<State>,
}

impl Job {
    pub(super) fn new(
        number: u64,
        shape: Shape,
        expected: Option<usize>,
        has_callbacks: bool,
    ) -> Job {
        let order = match shape {
            Shape::Unordered => Order::Completion,
            _ => Order::Tasks,
        };
        let state = State {
            results: Collector::new(order, expected),
            unpacked: VecDeque::new(),
            collected: false,
            decoded: false,
            announced: false,
            changed: None,
            waiting: false,
        };
        Job {
            number,
            has_callbacks,
            fails_fast: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            shape,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether an iterator takes its results one by one.
    fn streams(&self) -> bool {
        matches!(self.shape, Shape::Ordered | Shape::Unordered)
    }

    /// Stores the result of task `index`. Returns true if that completed the job.
    pub(super) fn set_result(&self, index: usize, result: TaskResult) -> bool {
        let failed = result.kind() == ResultKind::Failed;
        let mut state = self.state();
        let is_new = match failed && self.fails_fast.load(Ordering::Relaxed) {
            true => state.results.cut_by(result),
            false => state.results.put(index, result, failed),
        };
        is_new && self.note_change(state)
    }

    /// Stores the error that ends the results of `index` tasks. Returns true if that completed the job.
    pub(super) fn set_last_error(&self, index: usize, result: TaskResult) -> bool {
        let mut state = self.state();
        state.results.put_last(index, result) && self.note_change(state)
    }

    /// Wakes a thread that takes results one by one. Returns whether the job is complete.
    fn note_change(&self, mut state: MutexGuard<'_, State>) -> bool {
        if self.streams() {
            state.notify_waiter();
        }
        state.results.is_complete()
    }

    /// Sets the number of tasks. Returns true if that completed the job.
    pub(super) fn expect(&self, expected: usize) -> bool {
        let mut state = self.state();
        if state.results.is_cut() || self.given_up.load(Ordering::Relaxed) {
            return false;
        }
        state.results.expect(expected);
        state.notify_waiter();
        state.results.is_complete()
    }

    /// Stops submission: the job is about to fail.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Returns whether it was given up, or ended with its first failure.
    #[inline]
    pub(super) fn has_stopped(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
            || self.fails_fast.load(Ordering::Relaxed) && self.has_failed()
    }

    #[cold]
    fn has_failed(&self) -> bool {
        self.state().results.is_cut()
    }

    /// Reduces the number of tasks. The removed ones are not submitted yet.
    pub(super) fn reduce_to(&self, tasks: usize) {
        self.state().results.expect(tasks);
    }

    /// Returns whether it has all results.
    pub(super) fn is_complete(&self) -> bool {
        self.state().results.is_complete()
    }

    /// Returns whether a waiting thread can take something out.
    fn has_output(&self) -> bool {
        let state = self.state();
        state.announced || self.streams() && state.results.has_next()
    }

    /// Lets waiting threads take the results out.
    pub(super) fn announce(&self) {
        let mut state = self.state();
        state.announced = true;
        state.notify_waiter();
    }

    /// Fails every task without a result. Returns true if that completed the job.
    pub(super) fn fail_rest(&self, error: &Py<PyAny>, py: Python<'_>) -> bool {
        let failure = || TaskResult::from_object(ResultKind::Failed, error.clone_ref(py));
        self.give_up();
        let mut state = self.state();
        let was_open = state.results.fail_rest(failure);
        if was_open {
            state.notify_waiter();
        }
        was_open
    }
}

impl State {
    fn notify_waiter(&mut self) {
        if std::mem::take(&mut self.waiting)
            && let Some(changed) = &self.changed
        {
            changed.set();
        }
    }

    /// Returns an event that is set at the next change.
    fn changed(&mut self) -> PyResult<Arc<sync::Event>> {
        let changed = match &self.changed {
            Some(changed) => changed.clone(),
            None => {
                let changed = Arc::new(sync::Event::new().map_err(raise)?);
                self.changed.insert(changed).clone()
            }
        };
        changed.clear();
        self.waiting = true;
        Ok(changed)
    }
}

/// A job of a pool.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct PoolJob(pub(super) Arc<Job>, pub(super) Arc<Jobs>);

impl PoolJob {
    /// Creates a job. Its `begin` opens it.
    pub(super) fn create(
        jobs: &Arc<Jobs>,
        shape: Shape,
        expected: Option<usize>,
        has_callbacks: bool,
    ) -> PyResult<PoolJob> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);

        jobs.check_here()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let job = Arc::new(Job::new(number, shape, expected, has_callbacks));
        Ok(PoolJob(job, jobs.clone()))
    }

    /// Waits until `check` returns something. Returns `None` if the timeout passed first.
    fn wait_until<T>(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        check: impl Fn(&mut State) -> Option<T>,
    ) -> PyResult<Option<T>> {
        let mut deadline = None;
        let mut assisted = false;
        if !self.1.is_here() {
            // A forked copy can still take out what has arrived.
            let found = self
                .0
                .state
                .try_lock()
                .ok()
                .and_then(|mut state| check(&mut state));
            return found
                .map(Some)
                .ok_or(())
                .or_else(|()| self.1.check_here().map(|()| None));
        }
        loop {
            let changed = {
                let mut state = self.0.state();
                if let Some(found) = check(&mut state) {
                    return Ok(Some(found));
                }
                let until = match deadline {
                    Some(until) => until,
                    None => *deadline.insert(blocking::deadline(true, timeout)?),
                };
                if until.is_past() {
                    return Ok(None);
                }
                let first = !std::mem::replace(&mut assisted, true);
                if first && !self.0.has_callbacks {
                    drop(state);
                    py.detach(|| self.1.assist(|| self.0.has_output()));
                    continue;
                }
                state.changed()?
            };
            let until = deadline.unwrap_or(Deadline::NEVER);
            // The next check decides, not the outcome of the wait. But handle a signal first: an interrupted task must
            // not end before its interrupt.
            let _ = blocking::wait(py, until, |slice| changed.wait(slice))?;
            py.check_signals()?;
        }
    }

    fn collect<'py>(&self, py: Python<'py>) -> (bool, Py<PyAny>) {
        let left = Collector::new(Order::Tasks, Some(0));
        let mut results = std::mem::replace(&mut self.0.state().results, left);
        let decoded = match results.take_failure() {
            _ if self.0.streams() => Err(lost(py)),
            Some(failure) => failure.decode(py),
            None if self.0.shape == Shape::List => join_results(py, results),
            None => match results.take() {
                Some((_, result)) => result.decode(py),
                None => Err(lost(py)),
            },
        };
        match decoded {
            Ok(value) => (true, value.unbind()),
            Err(error) => (false, error.unbind()),
        }
    }
}

fn lost(py: Python<'_>) -> Bound<'_, PyAny> {
    PyRuntimeError::new_err("the result was taken already")
        .into_value(py)
        .into_bound(py)
        .into_any()
}

fn join_results<'py>(
    py: Python<'py>,
    mut results: Collector<TaskResult>,
) -> Result<Bound<'py, PyAny>, Bound<'py, PyAny>> {
    let list = PyList::empty(py);
    let raised = |error: PyErr| error.into_value(py).into_bound(py).into_any();
    while let Some((_, result)) = results.take() {
        let many = result.kind() == ResultKind::Many;
        let bytes = result.bytes().map_err(raised)?;
        if many && wire::decode_into(bytes, &list).map_err(raised)? {
            continue;
        }
        let value = result.decode(py)?;
        if !many {
            list.append(value).map_err(raised)?;
        } else {
            let length = list.len();
            list.set_slice(length, length, &value).map_err(raised)?;
        }
    }
    Ok(list.into_any())
}

#[pymethods]
impl PoolJob {
    #[getter]
    fn number(&self) -> u64 {
        self.0.number
    }

    /// Opens the job, calls `put` with each of `tasks` to submit them, and calls `then`.
    #[pyo3(signature = (result, results, put=None, tasks=None, then=None))]
    fn begin(
        &self,
        result: &Bound<'_, PyAny>,
        results: &Bound<'_, PyDict>,
        put: Option<&Bound<'_, PyAny>>,
        tasks: Option<&Bound<'_, PyList>>,
        then: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.1.begin(&self.0, result, results)?;
        if let (Some(put), Some(tasks)) = (put, tasks) {
            for task in tasks {
                put.call1((task,))?;
            }
        }
        then.map_or(Ok(()), |then| then.call0().map(drop))
    }

    /// Returns the number of tasks, None while it is unknown, and the number of results.
    fn progress(&self) -> (Option<usize>, usize) {
        let state = self.0.state();
        (state.results.expected(), state.results.count())
    }

    /// Returns whether the results are complete and the callbacks have run.
    fn ready(&self) -> bool {
        self.0.state().announced
    }

    /// Waits until `ready`. Returns False if the timeout passed first.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let ready = self.wait_until(py, timeout, |state| state.announced.then_some(()))?;
        Ok(ready.is_some())
    }

    /// Lets waiting threads take the results out, after the callbacks have run.
    fn announce(&self) {
        self.0.announce();
    }

    /// Waits until `ready`, and sets the outcome. Returns False if the timeout passed first.
    #[pyo3(signature = (result, timeout=None))]
    fn get(
        &self,
        py: Python<'_>,
        result: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let is_ready = self.wait(py, timeout)?;
        if is_ready {
            self.set_outcome(py, result)?;
        }
        Ok(is_ready)
    }

    /// Moves the results to the attribute `_outcome` of `result`: whether the job succeeded, and its value or exception.
    /// The first thread decodes them, and the others wait for it.
    ///
    /// The job must be complete. This is one native call, so that no exception of a signal handler can lose the results.
    /// They do not stay here, because an exception refers to its frames, and these refer to the job. Such a cycle must be
    /// in Python objects, where the collector can find it.
    fn set_outcome(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let is_first = !std::mem::replace(&mut self.0.state().collected, true);
        if is_first {
            let set = result.setattr(intern!(py, "_outcome"), self.collect(py));
            let mut state = self.0.state();
            state.decoded = true;
            state.notify_waiter();
            return set;
        }
        self.wait_until(py, None, |state| state.decoded.then_some(()))
            .map(drop)
    }

    /// Returns the next result of an iterator, or a [`NoValue`].
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        enum Found {
            Unpacked(Py<PyAny>),
            TaskResult(TaskResult),
            End,
        }
        let no_value = |error, ended| Ok(Py::new(py, NoValue { error, ended })?.into_any());
        loop {
            let found = self.wait_until(py, timeout, |state| {
                if let Some(value) = state.unpacked.pop_front() {
                    return Some(Found::Unpacked(value));
                }
                match state.results.take() {
                    Some((_, result)) => Some(Found::TaskResult(result)),
                    None => state.results.is_complete().then_some(Found::End),
                }
            })?;
            let result = match found {
                None => return no_value(None, false),
                Some(Found::End) => return no_value(None, true),
                Some(Found::Unpacked(value)) => return Ok(value),
                Some(Found::TaskResult(result)) => result,
            };
            let many = result.kind() == ResultKind::Many;
            match result.decode(py) {
                Err(error) => return no_value(Some(error.unbind()), false),
                Ok(value) if !many => return Ok(value.unbind()),
                Ok(values) => {
                    let mut unpacked = VecDeque::new();
                    for value in values.try_iter()? {
                        unpacked.push_back(value?.unbind());
                    }
                    self.0.state().unpacked.append(&mut unpacked);
                }
            }
        }
    }

    /// Makes the job end with its first failure. Call it before tasks are submitted.
    fn fail_fast(&self) {
        self.0.fails_fast.store(true, Ordering::Relaxed);
    }

    /// Returns whether the job is complete, given up, or ended with its first failure.
    fn ended(&self) -> bool {
        self.0.has_stopped() || self.0.is_complete()
    }

    /// Returns the number of tasks whose results were taken out.
    fn consumed(&self) -> usize {
        self.0.state().results.taken()
    }
}

/// What `PoolJob.next` returns instead of a value. Values themselves are returned without a wrapper, which costs nothing.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct NoValue {
    /// The exception of the task; None after a timeout or at the end.
    #[pyo3(get)]
    error: Option<Py<PyAny>>,
    #[pyo3(get)]
    ended: bool,
}
