//! The submitting side of a process pool.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procession_engine::pool::{Room, Task, TaskQueue};
use procession_engine::{Deadline, ObjectRef};
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator};

use super::chunks::{Chunks, PoolRemainder, are_small, have_common_parts, next_chunk};
use super::functions;
use super::job::{PoolJob, Shape};
use super::jobs::{Jobs, PoolJobs};
use super::payload::{self, EncodedFunction, HEAVY, Kind, PoolFunction, TaskPolicy, Weight};
use super::result::{ResultKind, TaskResult};
use crate::support::errors::raise;

/// A smaller task of a single call counts as weightless, in bytes: keeping its arguments would use as much memory.
const SMALL: usize = 1024;

/// The submitting side of a process pool.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct PoolTaskQueue {
    pub(super) queue: Arc<TaskQueue>,
    pub(super) jobs: Arc<Jobs>,
    /// Set by the supervisor, which then looks at the tasks only when it is woken.
    pub(super) has_given_up: Arc<AtomicBool>,
    /// The function of the last call, which is often the same in the next one.
    last: Mutex<Option<(Py<PyAny>, EncodedFunction)>>,
    workers: usize,
    /// The limit on waiting tasks.
    room: Room,
    /// Set when the waiting tasks became heavy; cleared by a check that finds them light.
    is_heavy: AtomicBool,
}

impl PoolTaskQueue {
    /// Submits a payload and its attachments, or stores the error as the result of the task.
    ///
    /// # Errors
    /// Only exceptions that are not an `Exception`, such as `KeyboardInterrupt` raised while the payload was built.
    fn submit(
        &self,
        py: Python<'_>,
        task: Task,
        payload: PyResult<&[u8]>,
        attachments: Vec<ObjectRef>,
    ) -> PyResult<()> {
        let submitted = payload.and_then(|bytes| {
            self.queue
                .submit_with(task, &[bytes], attachments)
                .map_err(raise)
        });
        match submitted {
            Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
            Err(error) => {
                self.set_error(py, task.job, task.index, error);
                Ok(())
            }
            Ok(weight) => {
                if !Room::is_light(weight) {
                    self.is_heavy.store(true, Ordering::Relaxed);
                }
                if self.has_given_up.load(Ordering::Relaxed) {
                    // If memory is short, the watcher still wakes up at intervals.
                    let _ = self.queue.ring();
                }
                Ok(())
            }
        }
    }

    /// Returns whether the waiting tasks are so light that more can be submitted, whatever their number.
    #[inline]
    fn is_light(&self) -> bool {
        if !self.is_heavy.load(Ordering::Relaxed) {
            return true;
        }
        let is_light = Room::is_light(self.queue.weight());
        if is_light {
            self.is_heavy.store(false, Ordering::Relaxed);
        }
        is_light
    }

    /// Returns whether task `index` may be submitted. Checks the number of waiting tasks at intervals.
    fn has_room(&self, index: usize) -> bool {
        let is_due = index.is_multiple_of(64) || !self.is_light();
        !is_due || self.queue.wait_for_room(self.room, Deadline::NOW)
    }

    /// Opens a job and submits its tasks. If that raises, fails the job, since nothing else would end it.
    fn with_job(
        &self,
        py: Python<'_>,
        result: &(Bound<'_, PyAny>, Bound<'_, PyDict>),
        job: &PoolJob,
        submit: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        self.jobs.begin(&job.0, &result.0, &result.1)?;
        submit().inspect_err(|error| {
            self.queue.withdraw(job.0.number);
            let error = error.clone_ref(py).into_value(py).into_any();
            if job.0.fail_rest(&error, py) {
                self.jobs.close(&job.0);
            }
        })
    }

    fn set_error(&self, py: Python<'_>, job: u64, index: u64, error: PyErr) {
        let error = error.into_value(py).into_any();
        self.jobs.set_result(
            job,
            index,
            TaskResult::from_object(ResultKind::Failed, error),
        );
    }

    /// Begins the payload of a call of a plain function. Returns the shared objects in the function.
    fn begin_call(
        &self,
        function: &Bound<'_, PyAny>,
        payload: &mut Vec<u8>,
    ) -> PyResult<Vec<ObjectRef>> {
        {
            // It is locked only while attached, and never across Python code.
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((known, encoded)) = &*last
                && known.is(function)
            {
                encoded.begin(Kind::Call, false, payload);
                return Ok(Vec::new());
            }
        }
        let encoded = EncodedFunction::single(function)?;
        encoded.begin(Kind::Call, false, payload);
        if !encoded.is_name() {
            return Ok(encoded.into_attachments());
        }
        let keep = Some((function.clone().unbind(), encoded));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = std::mem::replace(&mut *last, keep);
        drop(last);
        drop(replaced);
        Ok(Vec::new())
    }
}

#[pymethods]
impl PoolTaskQueue {
    /// Creates the task queue of a pool with so many workers.
    #[new]
    fn new(py: Python<'_>, jobs: &PoolJobs, workers: usize) -> PyResult<PoolTaskQueue> {
        functions::function_type(py)?;
        let queue = Arc::new(TaskQueue::new().map_err(raise)?);
        jobs.0.set_task_queue(&queue);
        Ok(PoolTaskQueue {
            queue,
            jobs: jobs.0.clone(),
            has_given_up: Arc::default(),
            last: Mutex::new(None),
            workers,
            room: Room::for_workers(workers),
            is_heavy: AtomicBool::new(false),
        })
    }

    /// The argument of a worker's `PoolWorker`.
    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.queue.handle().to_bytes())
    }

    /// All handles of objects that a worker must hold.
    #[getter]
    fn handles<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let handles = self.queue.handles();
        handles
            .iter()
            .map(|handle| PyBytes::new(py, &handle.to_bytes()))
            .collect()
    }

    /// Submits `function(*args, **kwds)` as the only task of a new job, which becomes the attribute `_handle` of `result`.
    ///
    /// `policy` is the time limit, the retries, and whether the job has callbacks. Returns False, and creates no job, if
    /// there is no room. Submit the call with `submit_next` then.
    fn submit_call(
        &self,
        result: Bound<'_, PyAny>,
        results: Bound<'_, PyDict>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyAny>,
        kwds: &Bound<'_, PyAny>,
        policy: (Option<f64>, u32, bool),
    ) -> PyResult<bool> {
        let py = function.py();
        let (timeout, retries, has_callbacks) = policy;
        let policy = TaskPolicy::new(timeout, retries)?;
        let mut payload = Vec::with_capacity(160);
        let mut attachments = Vec::new();
        let is_function = functions::is_function(function)?;
        let fits = self.is_light() || is_function && are_small(args, kwds);
        if !fits {
            return Ok(false);
        }
        let job = PoolJob::create(&self.jobs, Shape::Single, Some(1), has_callbacks)?;
        let job = Bound::new(py, job)?;
        result.setattr(intern!(py, "_handle"), &job)?;
        let job = job.get();
        self.with_job(py, &(result, results), job, || {
            let encoded = if is_function {
                self.begin_call(function, &mut payload)
                    .and_then(|function_attachments| {
                        attachments = function_attachments;
                        let value = (args, kwds).into_pyobject(py)?;
                        payload::end(value.as_any(), None, &mut payload, &mut attachments)
                    })
            } else {
                payload = payload::whole();
                let value = (function, args, kwds).into_pyobject(py)?;
                payload::end(value.as_any(), None, &mut payload, &mut attachments)
            };
            let weight = encoded
                .as_ref()
                .map_or(0, |weight| weight.new.max(payload.len()));
            let weight = if weight < SMALL { 0 } else { weight as u64 };
            let task = policy.task(job.0.number, 0, 0, weight);
            self.submit(py, task, encoded.map(|_| payload.as_slice()), attachments)
        })?;
        Ok(true)
    }

    /// Returns whether there is no room for tasks that are not weightless.
    fn is_full(&self) -> bool {
        !self.is_light()
    }

    /// Returns the largest number of tasks into which `submit_items` divides so many items.
    ///
    /// Each has `chunksize` items; if that is None, guided self-scheduling decides.
    #[staticmethod]
    fn count_chunks(items: usize, chunksize: Option<usize>, workers: usize) -> usize {
        Chunks::count(items, chunksize, workers)
    }

    /// Submits the items of a list or tuple, in at most `count_chunks` tasks, while there is room. With `waits` it submits
    /// none.
    ///
    /// Returns the items left, for `submit_next`.
    #[expect(clippy::too_many_arguments, reason = "what one call of map is made of")]
    fn submit_items(
        &self,
        py: Python<'_>,
        result: (Bound<'_, PyAny>, Bound<'_, PyDict>),
        job: &PoolJob,
        function: &PoolFunction,
        items: &Bound<'_, PyAny>,
        chunksize: Option<usize>,
        waits: bool,
    ) -> PyResult<Option<PoolRemainder>> {
        let mut chunks = Chunks::new(items.len()?, chunksize, self.workers);
        let mut rest = None;
        self.with_job(py, &result, job, || {
            let ended = !waits
                && !function.is_late()
                && self.submit_sequence(job, function, items, &mut chunks, |_| self.is_light())?;
            if !ended {
                rest = Some(PoolRemainder::new(chunks, items)?);
            }
            Ok(())
        })?;
        Ok(rest)
    }

    /// Submits the items of an iterator, or of a `PoolRemainder`, `chunksize` items in each task.
    ///
    /// `places` is the number of the next task and the number at which to stop, if any. Also stops at the end of the items
    /// and when enough tasks wait. Returns the number of the next task, and whether the items have ended. An exception of
    /// the iterator ends it, and becomes the result of the task to which the item would have belonged.
    fn submit_next(
        &self,
        job: &PoolJob,
        function: &PoolFunction,
        items: &Bound<'_, PyAny>,
        chunksize: usize,
        places: (usize, Option<usize>),
    ) -> PyResult<(usize, bool)> {
        let Ok(rest) = items.cast::<PoolRemainder>() else {
            return self.submit_iterator(job, function, items.cast()?, chunksize, places);
        };
        let rest = rest.get();
        let mut chunks = rest.chunks();
        let items = rest.items.bind(items.py());
        let started = chunks.index;
        let fed = self.submit_sequence(job, function, items, &mut chunks, |index| {
            self.has_room(index)
        });
        rest.set_chunks(chunks);
        match fed {
            Ok(ended) => Ok((chunks.index, ended)),
            Err(error) if chunks.index > started => {
                self.set_error(items.py(), job.0.number, chunks.index as u64 - 1, error);
                Ok((chunks.index, false))
            }
            // The function could not be encoded.
            Err(error) => Err(error),
        }
    }

    /// Waits until `submit_next` can go on. Returns False if `timeout` seconds passed first.
    fn wait_for_room(&self, py: Python<'_>, timeout: f64) -> bool {
        let deadline = Deadline::after(Duration::from_secs_f64(timeout));
        py.detach(|| self.queue.wait_for_room(self.room, deadline))
    }

    /// Takes back the tasks of all jobs that have not started. The jobs are about to fail.
    fn withdraw_all(&self, py: Python<'_>) {
        self.jobs.give_up_all();
        py.detach(|| self.queue.withdraw_all());
    }

    /// Returns how many unclaimed tasks are in shared memory, and how many wait outside of it.
    fn backlog(&self) -> (usize, usize) {
        self.queue.backlog()
    }

    /// Returns whether there are results, or other messages of workers, that were not received.
    fn has_results(&self) -> bool {
        self.queue.has_messages()
    }
}

impl PoolTaskQueue {
    /// Submits items of a sequence chunk by chunk, while `has_room`. Returns true if there are no more.
    fn submit_sequence(
        &self,
        job: &PoolJob,
        function: &PoolFunction,
        items: &Bound<'_, PyAny>,
        chunks: &mut Chunks,
        has_room: impl Fn(usize) -> bool,
    ) -> PyResult<bool> {
        let py = items.py();
        let mut payload = Vec::new();
        let mut encoded = None;
        loop {
            let index = chunks.index;
            if job.0.has_stopped() {
                return Ok(true);
            }
            if !has_room(index) {
                return Ok(false);
            }
            let encoded = match encoded {
                Some(known) => known,
                None => *encoded.insert(function.encoded(py)?),
            };
            let Some(chunk) = chunks.next() else {
                return Ok(true);
            };
            function.begin_items(encoded, chunk.many, &mut payload);
            let value = Chunks::items(&chunk, items)?;
            let place = (index, chunk.first);
            let weight = self.submit_chunk(job, function, &value, place, &mut payload)?;
            if index == 0
                && chunks.is_guided()
                && (encoded.is_heavy() || weight > HEAVY && have_common_parts(items)?)
            {
                job.0.reduce_to(chunks.even_out(&chunk));
            }
            if index % 1024 == 1023 {
                py.check_signals()?;
            }
        }
    }

    /// Submits the items of an iterator; see `submit_next`.
    fn submit_iterator(
        &self,
        job: &PoolJob,
        function: &PoolFunction,
        items: &Bound<'_, PyIterator>,
        chunksize: usize,
        places: (usize, Option<usize>),
    ) -> PyResult<(usize, bool)> {
        let py = items.py();
        let (mut index, limit) = places;
        let mut payload = Vec::new();
        let mut items = items.clone();
        while limit.is_none_or(|limit| index < limit) {
            if job.0.has_stopped() {
                return Ok((index, true));
            }
            if !self.has_room(index) {
                return Ok((index, false));
            }
            let encoded = function.encoded(py)?;
            let chunk = match next_chunk(&mut items, chunksize) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok((index, true)),
                Err(error) => {
                    let error = error.into_value(py).into_any();
                    self.jobs.set_last_error(&job.0, index, error);
                    return Ok((index + 1, true));
                }
            };
            function.begin_items(encoded, chunksize > 1, &mut payload);
            let place = (index, index * chunksize);
            if let Err(error) = self.submit_chunk(job, function, &chunk, place, &mut payload) {
                self.set_error(py, job.0.number, index as u64, error);
            }
            index += 1;
        }
        Ok((index, false))
    }

    /// Submits items as task `index` of a job; `first` is the number of the first item. Returns their size in bytes.
    #[inline]
    fn submit_chunk(
        &self,
        job: &PoolJob,
        function: &PoolFunction,
        items: &Bound<'_, PyAny>,
        (index, first): (usize, usize),
        payload: &mut Vec<u8>,
    ) -> PyResult<usize> {
        let py = items.py();
        let mut attachments = Vec::new();
        let encoded = payload::end(items, Some(&function.common), payload, &mut attachments);
        let Weight { whole, new } = *encoded.as_ref().unwrap_or(&Weight::default());
        let weight = new.max(payload.len()) as u64 + function.take_weight();
        let task = function.policy.task(job.0.number, index, first, weight);
        // The job can have been given up while its items were pickled or written.
        if !job.0.has_stopped() {
            self.submit(py, task, encoded.map(|_| payload.as_slice()), attachments)?;
        }
        if job.0.has_stopped() {
            // Or after that check.
            self.queue.withdraw(job.0.number);
        }
        Ok(whole)
    }
}
