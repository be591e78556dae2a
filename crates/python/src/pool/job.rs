//! A job: the results of one `apply`, `map` or `imap`.
//!
//! Any thread can store a result, attached to the interpreter or not. Results are stored as bytes, and decoded in the
//! thread that takes them out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_engine::{Deadline, IdMap, sync};
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
    /// The number of tasks; `None` while their arguments are still being generated.
    expected: Option<usize>,
    arrived: usize,
    first_failure: Option<usize>,
    /// Whether it ended with its first failure, before all tasks had ended.
    stopped: bool,
    results: Results,
    /// Set when the results are complete and the callbacks have run.
    announced: bool,
    /// Set at the next change. Created by the first thread that has to wait.
    changed: Option<Arc<sync::Event>>,
    waiting: bool,
}

#[derive(Debug)]
enum Results {
    /// The result of the only task.
    Single(Option<TaskResult>),
    /// The results of all tasks, by index.
    List(Vec<Option<TaskResult>>),
    Stream(Box<Stream>),
}

/// Results that an iterator takes out one by one.
#[derive(Debug, Default)]
struct Stream {
    /// Results that arrived before their predecessors, by index.
    early: IdMap<usize, TaskResult>,
    next: usize,
    /// Results that are next, and the values of chunks already unpacked.
    ready: VecDeque<TaskResult>,
    unpacked: VecDeque<Py<PyAny>>,
    /// The error that follows after this many results, in any order.
    last: Option<(usize, TaskResult)>,
    /// The number of tasks whose results were taken out. It limits a bounded `imap`.
    consumed: usize,
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
        let results = match (shape, expected) {
            (Shape::Single, Some(1)) => Results::Single(None),
            (Shape::Single | Shape::List, _) => {
                Results::List((0..expected.unwrap_or(0)).map(|_| None).collect())
            }
            (Shape::Ordered | Shape::Unordered, _) => Results::Stream(Box::default()),
        };
        let state = State {
            expected,
            arrived: 0,
            first_failure: None,
            stopped: false,
            results,
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

    /// Stores the result of task `index`. Returns true if that completed the job.
    pub(super) fn set_result(&self, index: usize, result: TaskResult) -> bool {
        let mut state = self.state();
        if state.stopped {
            return false;
        }
        let failed = result.kind() == ResultKind::Failed;
        let stops = failed && self.fails_fast.load(Ordering::Relaxed);
        let streams = match &mut state.results {
            Results::Single(place @ None) if index == 0 => {
                *place = Some(result);
                false
            }
            Results::Single(_) => return false,
            Results::List(list) => match list.get_mut(index) {
                Some(place @ None) => {
                    *place = Some(result);
                    false
                }
                _ => return false,
            },
            Results::Stream(stream) if stops => {
                stream.end_with(result);
                true
            }
            Results::Stream(stream) => {
                stream.add(index, result, self.shape == Shape::Ordered);
                true
            }
        };
        state.arrived += 1;
        if stops {
            state.stopped = true;
            state.expected = Some(state.arrived);
        }
        if failed {
            state.first_failure.get_or_insert(index);
        }
        state.add_last();
        let complete = state.expected == Some(state.arrived);
        if streams {
            state.notify_waiter();
        }
        complete
    }

    /// Stores the error that ends the results of `index` tasks. Returns true if that completed the job.
    pub(super) fn set_last_error(&self, index: usize, result: TaskResult) -> bool {
        if self.shape == Shape::Unordered {
            let mut state = self.state();
            if let Some(stream) = state.stream() {
                stream.last = Some((index, result));
            }
            state.add_last();
            state.notify_waiter();
            return state.expected == Some(state.arrived);
        }
        self.set_result(index, result)
    }

    /// Sets the number of tasks. Returns true if that completed the job.
    pub(super) fn expect(&self, expected: usize) -> bool {
        let mut state = self.state();
        if state.stopped || self.given_up.load(Ordering::Relaxed) {
            return false;
        }
        state.expected = Some(expected);
        state.notify_waiter();
        state.arrived == expected
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
        self.state().stopped
    }

    /// Reduces the number of tasks. The removed ones are not submitted yet.
    pub(super) fn reduce_to(&self, tasks: usize) {
        let mut state = self.state();
        if state.stopped {
            return;
        }
        state.expected = Some(tasks);
        if let Results::List(list) = &mut state.results {
            list.truncate(tasks);
        }
    }

    /// Returns whether it has all results.
    pub(super) fn is_complete(&self) -> bool {
        let state = self.state();
        state.expected == Some(state.arrived)
    }

    /// Returns whether a waiting thread can take something out.
    fn has_output(&self) -> bool {
        let mut state = self.state();
        state.announced
            || state
                .stream()
                .is_some_and(|stream| !stream.ready.is_empty())
    }

    /// Lets waiting threads take the results out.
    pub(super) fn announce(&self) {
        let mut state = self.state();
        state.announced = true;
        state.notify_waiter();
    }

    /// Fails every task without a result. Returns true if that completed the job.
    pub(super) fn fail_rest(&self, error: &Py<PyAny>, py: Python<'_>) -> bool {
        let result = || TaskResult::from_object(ResultKind::Failed, error.clone_ref(py));
        self.give_up();
        let mut state = self.state();
        if state.expected == Some(state.arrived) {
            return false;
        }
        let open = match &mut state.results {
            Results::Single(place) => {
                *place = Some(result());
                Some(0)
            }
            Results::List(list) => {
                let open = list.iter().position(Option::is_none);
                if let Some(open) = open {
                    list[open] = Some(result());
                }
                open
            }
            Results::Stream(stream) => {
                stream.end_with(result());
                None
            }
        };
        if let Some(open) = open {
            state.first_failure.get_or_insert(open);
        }
        state.arrived = state.expected.unwrap_or(state.arrived + 1);
        state.expected = Some(state.arrived);
        state.notify_waiter();
        true
    }
}

impl Stream {
    fn add(&mut self, index: usize, result: TaskResult, in_order: bool) {
        if !in_order {
            self.ready.push_back(result);
            return;
        }
        self.early.insert(index, result);
        while let Some(result) = self.early.remove(&self.next) {
            self.ready.push_back(result);
            self.next += 1;
        }
    }

    /// Ends the iteration with an error, after the results that have arrived.
    fn end_with(&mut self, error: TaskResult) {
        let mut early: Vec<_> = self.early.drain().collect();
        early.sort_by_key(|(index, _)| *index);
        self.ready
            .extend(early.into_iter().map(|(_, result)| result));
        self.ready.push_back(error);
    }
}

impl State {
    fn add_last(&mut self) {
        let arrived = self.arrived;
        let Some(stream) = self.stream() else { return };
        if let Some((index, result)) = stream.last.take_if(|(index, _)| *index == arrived) {
            stream.ready.push_back(result);
            self.arrived += 1;
            self.first_failure.get_or_insert(index);
        }
    }

    fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.results {
            Results::Stream(stream) => Some(stream),
            _ => None,
        }
    }

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
        let (results, failure) = {
            let mut state = self.0.state();
            let taken = std::mem::replace(&mut state.results, Results::Single(None));
            (taken, state.first_failure)
        };
        let one = |result: Option<TaskResult>| {
            result.map_or_else(|| Err(lost(py)), |result| result.decode(py))
        };
        let decoded = match (results, failure) {
            (Results::Single(result), _) => one(result),
            (Results::List(results), Some(failed)) => {
                one(results.into_iter().nth(failed).flatten())
            }
            (Results::List(results), None) => join_results(py, results),
            (Results::Stream(_), _) => Err(lost(py)),
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
    results: Vec<Option<TaskResult>>,
) -> Result<Bound<'py, PyAny>, Bound<'py, PyAny>> {
    let list = PyList::empty(py);
    let raised = |error: PyErr| error.into_value(py).into_bound(py).into_any();
    for result in results.into_iter().flatten() {
        let many = result.kind() == ResultKind::Many;
        if many && wire::decode_into(result.bytes(), &list).map_err(raised)? {
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
        (state.expected, state.arrived)
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

    /// Moves the results to the attribute `_outcome` of `result`: whether the job succeeded, and its value or exception.
    ///
    /// The job must be complete. This is one native call, so that no exception of a signal handler can lose the results.
    /// They do not stay here, because an exception refers to its frames, and these refer to the job. Such a cycle must be
    /// in Python objects, where the collector can find it.
    fn set_outcome(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        result.setattr(intern!(py, "_outcome"), self.collect(py))
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
                let stream = state.stream()?;
                if let Some(value) = stream.unpacked.pop_front() {
                    return Some(Found::Unpacked(value));
                }
                match stream.ready.pop_front() {
                    Some(result) => {
                        stream.consumed += 1;
                        Some(Found::TaskResult(result))
                    }
                    None if state.expected == Some(state.arrived) => Some(Found::End),
                    None => None,
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
                    if let Some(stream) = self.0.state().stream() {
                        stream.unpacked.append(&mut unpacked);
                    }
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
        self.0.state().stream().map_or(0, |stream| stream.consumed)
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
