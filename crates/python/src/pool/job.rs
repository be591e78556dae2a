//! A job: the results of one `apply`, `map` or `imap` as they come in.
//!
//! Results are stored as the bytes they came as, by whichever thread brings them, attached to the
//! interpreter or not. They are decoded in the thread that asks for them.

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

/// How results come out.
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
    /// Tasks the job has; `None` while its arguments are still being generated.
    expected: Option<usize>,
    arrived: usize,
    first_failure: Option<usize>,
    /// Whether it ended with its first failure, before all tasks were done.
    stopped: bool,
    results: Results,
    /// Set when callbacks have run, too.
    announced: bool,
    /// Made by the first thread that has to wait.
    changed: Option<Arc<sync::Event>>,
    waiting: bool,
}

#[derive(Debug)]
enum Results {
    /// Of one task.
    Single(Option<TaskResult>),
    /// Of a list, by index.
    List(Vec<Option<TaskResult>>),
    Stream(Box<Stream>),
}

/// Results on their way through an iterator.
#[derive(Debug, Default)]
struct Stream {
    /// Those that came before their ready, by index.
    early: IdMap<usize, TaskResult>,
    next: usize,
    /// Results in their ready, and values of chunks taken apart.
    ready: VecDeque<TaskResult>,
    unpacked: VecDeque<Py<PyAny>>,
    /// What comes when so many others have arrived, in whatever order.
    last: Option<(usize, TaskResult)>,
    /// Tasks whose results were taken out: what bounds a bounded `imap`.
    consumed: usize,
}

/// The job, as the threads without the interpreter know it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) has_callbacks: bool,
    /// Whether it ends with its first failure.
    pub(super) fails_fast: AtomicBool,
    /// Whether it was given up: nothing more is submitted for it.
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

    /// Files the result of task `index`. True when it was the last one.
    pub(super) fn set_result(&self, index: usize, part: TaskResult) -> bool {
        let mut state = self.state();
        if state.stopped {
            return false;
        }
        let failed = part.verdict() == ResultKind::Failed;
        let stops = failed && self.fails_fast.load(Ordering::Relaxed);
        let streams = match &mut state.results {
            Results::Single(place @ None) if index == 0 => {
                *place = Some(part);
                false
            }
            Results::Single(_) => return false,
            Results::List(list) => match list.get_mut(index) {
                Some(place @ None) => {
                    *place = Some(part);
                    false
                }
                _ => return false,
            },
            Results::Stream(stream) if stops => {
                stream.end_with(part);
                true
            }
            Results::Stream(stream) => {
                stream.add(index, part, self.shape == Shape::Ordered);
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

    /// Files the failure behind all tasks, of which there are `index`: nothing comes after it. True when that was
    /// known, and it was the last one.
    pub(super) fn set_last_error(&self, index: usize, part: TaskResult) -> bool {
        if self.shape == Shape::Unordered {
            let mut state = self.state();
            if let Some(stream) = state.stream() {
                stream.last = Some((index, part));
            }
            state.add_last();
            state.notify_waiter();
            return state.expected == Some(state.arrived);
        }
        self.set_result(index, part)
    }

    /// Says how many tasks there are in all. True when they are all done.
    pub(super) fn expect(&self, expected: usize) -> bool {
        let mut state = self.state();
        if state.stopped || self.given_up.load(Ordering::Relaxed) {
            return false;
        }
        state.expected = Some(expected);
        state.notify_waiter();
        state.arrived == expected
    }

    /// Has nothing more be submitted for it: it is about to fail.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Whether it was given up, or has ended with its first failure.
    #[inline]
    pub(super) fn has_stopped(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
            || self.fails_fast.load(Ordering::Relaxed) && self.has_failed()
    }

    #[cold]
    fn has_failed(&self) -> bool {
        self.state().stopped
    }

    /// Has the job have fewer tasks than it was opened with. The last ones are not submitted yet.
    pub(super) fn cut_to(&self, tasks: usize) {
        let mut state = self.state();
        if state.stopped {
            return;
        }
        state.expected = Some(tasks);
        if let Results::List(list) = &mut state.results {
            list.truncate(tasks);
        }
    }

    /// Whether all of its results are there.
    pub(super) fn is_complete(&self) -> bool {
        let state = self.state();
        state.expected == Some(state.arrived)
    }

    /// Whether there is something to be had.
    fn has_news(&self) -> bool {
        let mut state = self.state();
        state.announced
            || state
                .stream()
                .is_some_and(|stream| !stream.ready.is_empty())
    }

    /// Lets waiting threads have the results.
    pub(super) fn announce(&self) {
        let mut state = self.state();
        state.announced = true;
        state.notify_waiter();
    }

    /// Fails every task without a result. True when that completed the job.
    pub(super) fn fail_rest(&self, error: &Py<PyAny>, py: Python<'_>) -> bool {
        let part = || TaskResult::from_object(ResultKind::Failed, error.clone_ref(py));
        self.give_up();
        let mut state = self.state();
        if state.expected == Some(state.arrived) {
            return false;
        }
        let open = match &mut state.results {
            Results::Single(place) => {
                *place = Some(part());
                Some(0)
            }
            Results::List(list) => {
                let open = list.iter().position(Option::is_none);
                if let Some(open) = open {
                    list[open] = Some(part());
                }
                open
            }
            Results::Stream(stream) => {
                stream.end_with(part());
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
    fn add(&mut self, index: usize, part: TaskResult, in_order: bool) {
        if !in_order {
            self.ready.push_back(part);
            return;
        }
        self.early.insert(index, part);
        while let Some(part) = self.early.remove(&self.next) {
            self.ready.push_back(part);
            self.next += 1;
        }
    }

    /// One error ends the iteration, after the results that are there.
    fn end_with(&mut self, error: TaskResult) {
        let mut early: Vec<_> = self.early.drain().collect();
        early.sort_by_key(|(index, _)| *index);
        self.ready.extend(early.into_iter().map(|(_, part)| part));
        self.ready.push_back(error);
    }
}

impl State {
    fn add_last(&mut self) {
        let arrived = self.arrived;
        let Some(stream) = self.stream() else { return };
        if let Some((index, part)) = stream.last.take_if(|(index, _)| *index == arrived) {
            stream.ready.push_back(part);
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

    /// A changed that rings at the next change.
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

/// A job, as Python knows it.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct PoolJob(pub(super) Arc<Job>, pub(super) Arc<Jobs>);

impl PoolJob {
    /// Waits until `check` finds something, or until the timeout.
    fn wait_until<T>(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        check: impl Fn(&mut State) -> Option<T>,
    ) -> PyResult<Option<T>> {
        let mut deadline = None;
        let mut assisted = false;
        if !self.1.is_here() {
            // What is there already may be had.
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
                    py.detach(|| self.1.assist(|| self.0.has_news()));
                    continue;
                }
                state.changed()?
            };
            let until = deadline.unwrap_or(Deadline::NEVER);
            // Timed out or not, the check decides; but an interrupted task is not to be faster than the interrupt.
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
        let one =
            |part: Option<TaskResult>| part.map_or_else(|| Err(lost(py)), |part| part.decode(py));
        let decoded = match (results, failure) {
            (Results::Single(part), _) => one(part),
            (Results::List(parts), Some(failed)) => one(parts.into_iter().nth(failed).flatten()),
            (Results::List(parts), None) => join_parts(py, parts),
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

fn join_parts<'py>(
    py: Python<'py>,
    parts: Vec<Option<TaskResult>>,
) -> Result<Bound<'py, PyAny>, Bound<'py, PyAny>> {
    let list = PyList::empty(py);
    let raised = |error: PyErr| error.into_value(py).into_bound(py).into_any();
    for part in parts.into_iter().flatten() {
        let many = part.verdict() == ResultKind::Many;
        if many && wire::decode_onto(part.bytes(), &list).map_err(raised)? {
            continue;
        }
        let value = part.decode(py)?;
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

    /// Opens the job, submits its tasks by calling `put` with each of `tasks`, and calls `then`.
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

    /// How many tasks there are, None while that is not known, and how many are done.
    fn progress(&self) -> (Option<usize>, usize) {
        let state = self.0.state();
        (state.expected, state.arrived)
    }

    /// Whether the results may be had, callbacks done.
    fn ready(&self) -> bool {
        self.0.state().announced
    }

    /// Waits until the results may be had; False when the timeout passed first.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let ready = self.wait_until(py, timeout, |state| state.announced.then_some(()))?;
        Ok(ready.is_some())
    }

    /// Lets waiting threads have the results, once the callbacks have run.
    fn announce(&self) {
        self.0.announce();
    }

    /// Gives `result` its `_outcome`: whether the job succeeded, and its value or exception. All results must be there;
    /// they are given away. In one step, so that no exception of a signal handler loses them on the way.
    ///
    /// It is not kept here because an exception refers to the frames it passed, which refer to the
    /// job: a cycle that must lie in Python, where it can be collected.
    fn set_outcome(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        result.setattr(intern!(py, "_outcome"), self.collect(py))
    }

    /// The next result of an iterator, or a [`NoValue`].
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
                    Some(part) => {
                        stream.consumed += 1;
                        Some(Found::TaskResult(part))
                    }
                    None if state.expected == Some(state.arrived) => Some(Found::End),
                    None => None,
                }
            })?;
            let part = match found {
                None => return no_value(None, false),
                Some(Found::End) => return no_value(None, true),
                Some(Found::Unpacked(value)) => return Ok(value),
                Some(Found::TaskResult(part)) => part,
            };
            let many = part.verdict() == ResultKind::Many;
            match part.decode(py) {
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

    /// Has the job end with its first failure. Said before there are tasks.
    fn fail_fast(&self) {
        self.0.fails_fast.store(true, Ordering::Relaxed);
    }

    /// Whether there is nothing to wait for any more.
    fn ended(&self) -> bool {
        self.0.has_stopped() || self.0.is_complete()
    }

    /// Tasks whose results were taken out.
    fn consumed(&self) -> usize {
        self.0.state().stream().map_or(0, |stream| stream.consumed)
    }
}

/// What an iterator has instead of a value: so that a value is nothing but itself, and costs nothing more.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct NoValue {
    /// What the task raised; None where no result came before the timeout, or there will be no more.
    #[pyo3(get)]
    error: Option<Py<PyAny>>,
    #[pyo3(get)]
    ended: bool,
}
