//! The submitting side of a process pool.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procession_engine::error::GetError;
use procession_engine::pool::{Board, Event, Task, guided};
use procession_engine::{Deadline, Error, Held, OwnerId};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBytes, PyDict, PyFloat, PyInt, PyIterator, PyList, PySlice, PyString, PyTuple,
};

use super::functions;
use super::job::PoolJob;
use super::ledger::{Ledger, PoolLedger};
use super::part::{Part, Verdict};
use super::payload::{self, HEAVY, Kind, PoolFunction, Terms};
use crate::errors::raise;

/// While so many tasks wait outside of the shared memory, no more arguments are generated.
const PLENTY: usize = 1024;
/// Nor while those that have not ended are more than two a worker, and this would be their bytes.
const PLENTY_BYTES: usize = 16 << 20;

/// A string this short is nothing that tasks share.
const SMALL: usize = 1024;

/// The watcher returns at least this often while it has something to tidy up.
const TIDY: Duration = Duration::from_millis(50);

/// Tasks on their way to worker processes.
#[pyclass(frozen, module = "procession._engine")]
#[derive(Debug)]
pub struct PoolBoard {
    board: Arc<Board>,
    ledger: Arc<Ledger>,
    /// Set when no more jobs will be opened: the watcher then returns as the last one ends.
    closing: AtomicBool,
    /// The function of the last call, which is often that of the next one.
    last: Mutex<Option<(Py<PyAny>, PoolFunction)>>,
    /// While so many tasks have not ended, no more like the last generated one are made.
    most: AtomicUsize,
}

impl PoolBoard {
    /// Submits a payload and what it mentions, or files why that failed.
    ///
    /// # Errors
    /// What no task fails with: Ctrl-C, which a handler raised while the payload was made.
    fn submit(
        &self,
        py: Python<'_>,
        task: Task,
        payload: PyResult<&[u8]>,
        held: Vec<Held>,
    ) -> PyResult<()> {
        let submitted =
            payload.and_then(|bytes| self.board.submit_with(task, &[bytes], held).map_err(raise));
        match submitted {
            Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
            Err(error) => {
                self.file_error(py, task.job, task.index, error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Opens a job and submits its tasks; if that ends with an exception, gives the job up, which has no other end then.
    fn with_job(
        &self,
        py: Python<'_>,
        result: &(Bound<'_, PyAny>, Bound<'_, PyDict>),
        job: &PoolJob,
        submit: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        self.ledger.begin(&job.0, &result.0, &result.1)?;
        submit().inspect_err(|error| {
            self.board.withdraw(job.0.number);
            let error = error.clone_ref(py).into_value(py).into_any();
            if job.0.fail_rest(&error, py) {
                self.ledger.close(&job.0);
            }
        })
    }

    fn file_error(&self, py: Python<'_>, job: u64, index: u64, error: PyErr) {
        let error = error.into_value(py).into_any();
        self.ledger
            .file(job, index, Part::from_object(Verdict::Failed, error));
    }

    /// Starts the payload of a call of a plain function; returns what the function mentions.
    fn begin_call(
        &self,
        function: &Bound<'_, PyAny>,
        payload: &mut Vec<u8>,
    ) -> PyResult<Vec<Held>> {
        {
            // Held while attached only, and across no Python code.
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((known, encoded)) = &*last
                && known.is(function)
            {
                encoded.begin(Kind::Call, payload);
                return Ok(Vec::new());
            }
        }
        let encoded = PoolFunction::single(function)?;
        encoded.begin(Kind::Call, payload);
        if !encoded.is_name() {
            return Ok(encoded.into_held());
        }
        let keep = Some((function.clone().unbind(), encoded));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = std::mem::replace(&mut *last, keep);
        drop(last);
        drop(replaced);
        Ok(Vec::new())
    }

    fn next_event(&self, watch: &[OwnerId], deadline: Deadline) -> Result<Event, GetError> {
        loop {
            let until = match self.ledger.has_finished() {
                true => deadline.min(Deadline::after(TIDY)),
                false => deadline,
            };
            if let Some(event) = self.ledger.digest(self.board.next_event(until, watch)?) {
                return Ok(event);
            }
            if self.closing.load(Ordering::Relaxed) && self.ledger.is_empty() {
                return Ok(Event::Rung);
            }
        }
    }
}

fn report<'py>(py: Python<'py>, event: Event) -> PyResult<Bound<'py, PyTuple>> {
    match event {
        Event::Rung | Event::Result { .. } => ("rung",).into_pyobject(py),
        Event::Gone(worker) => ("gone", worker.as_u32()).into_pyobject(py),
        Event::Notice {
            worker,
            verdict,
            reply,
        } => {
            let bytes = PyBytes::new(py, reply.bytes());
            ("notice", worker.as_u32(), verdict, bytes).into_pyobject(py)
        }
        Event::Overdue {
            job,
            index,
            item,
            ran,
            limit,
            worker,
        } => {
            let times = (ran.as_secs_f64(), limit.as_secs_f64());
            ("overdue", job, index, item, times, worker.as_u32()).into_pyobject(py)
        }
        Event::Abandoned { job, index } => ("abandoned", job, index).into_pyobject(py),
        Event::Refused { job, index, error } => {
            ("refused", job, index, raise(error).into_value(py)).into_pyobject(py)
        }
    }
}

fn owner(raw: u32) -> PyResult<OwnerId> {
    OwnerId::from_u32(raw).ok_or_else(|| raise(Error::BadHandle))
}

#[pymethods]
impl PoolBoard {
    #[new]
    fn new(py: Python<'_>, ledger: &PoolLedger) -> PyResult<PoolBoard> {
        functions::function_type(py)?;
        let board = Arc::new(Board::new().map_err(raise)?);
        ledger.0.comes_from(&board);
        Ok(PoolBoard {
            board,
            ledger: ledger.0.clone(),
            closing: AtomicBool::new(false),
            last: Mutex::new(None),
            most: AtomicUsize::new(usize::MAX),
        })
    }

    /// What a worker makes its `PoolBench` from.
    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.board.handle().to_bytes())
    }

    /// Every handle that has to be handed over to a worker.
    #[getter]
    fn handles<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let handles = self.board.handles();
        handles
            .iter()
            .map(|handle| PyBytes::new(py, &handle.to_bytes()))
            .collect()
    }

    /// Submits `function(*args, **kwds)` as the only task of a job.
    #[expect(
        clippy::too_many_arguments,
        reason = "what one call of apply is made of"
    )]
    fn call(
        &self,
        result: (Bound<'_, PyAny>, Bound<'_, PyDict>),
        job: &PoolJob,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyAny>,
        kwds: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        retries: u32,
    ) -> PyResult<()> {
        let py = function.py();
        let task = Terms::new(timeout, retries)?.task(job.0.number, 0, 0);
        let mut payload = Vec::with_capacity(160);
        let mut held = Vec::new();
        let is_function = functions::is_function(function)?;
        self.with_job(py, &result, job, || {
            let encoded = if is_function {
                self.begin_call(function, &mut payload)
                    .and_then(|of_function| {
                        held = of_function;
                        let value = (args, kwds).into_pyobject(py)?;
                        payload::end(value.as_any(), None, &mut payload, &mut held)
                    })
            } else {
                payload = payload::whole();
                let value = (function, args, kwds).into_pyobject(py)?;
                payload::end(value.as_any(), None, &mut payload, &mut held)
            };
            self.submit(py, task, encoded.map(|_| payload.as_slice()), held)
        })
    }

    /// Into how many tasks `spread` cuts `items` items, at most: of `chunksize` each, or guided if None.
    #[staticmethod]
    fn chunks(items: usize, chunksize: Option<usize>, workers: usize) -> usize {
        match chunksize {
            Some(size) => items.div_ceil(size.max(1)),
            None => guided(items, workers).count(),
        }
    }

    /// Submits the items of a list or tuple, cut as `chunks` said, or into fewer.
    #[expect(clippy::too_many_arguments, reason = "what one call of map is made of")]
    fn spread(
        &self,
        py: Python<'_>,
        result: (Bound<'_, PyAny>, Bound<'_, PyDict>),
        job: &PoolJob,
        function: &PoolFunction,
        items: &Bound<'_, PyAny>,
        chunksize: Option<usize>,
        workers: usize,
    ) -> PyResult<()> {
        let length = items.len()?;
        self.with_job(py, &result, job, || {
            self.spread_over(py, job, function, items, length, (chunksize, workers))
        })
    }

    /// Submits items of an iterator as tasks from number `index` on, `chunksize` in each, until it
    /// ends, until there are plenty for so many workers, or up to number `limit`.
    ///
    /// Returns the next number and whether the iterator ended; its exception ends it, too, and is
    /// filed as the result of the task it would have been part of.
    fn feed(
        &self,
        job: &PoolJob,
        function: &PoolFunction,
        items: &Bound<'_, PyIterator>,
        chunksize: usize,
        places: (usize, Option<usize>),
        workers: usize,
    ) -> (usize, bool) {
        let py = items.py();
        let (mut index, limit) = places;
        let mut payload = Vec::new();
        let mut items = items.clone();
        while limit.is_none_or(|limit| index < limit) {
            let most = self.most.load(Ordering::Relaxed);
            let is_to_look = most != usize::MAX || index.is_multiple_of(64);
            if is_to_look && !self.board.wait_for_room(PLENTY, most, Deadline::NOW) {
                return (index, false);
            }
            let chunk = match next_chunk(&mut items, chunksize) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return (index, true),
                Err(error) => {
                    let error = error.into_value(py).into_any();
                    self.ledger.file_last(&job.0, index, error);
                    return (index + 1, true);
                }
            };
            function.begin_items(chunksize > 1, &mut payload);
            let mut held = Vec::new();
            let encoded = payload::end(&chunk, Some(&function.common), &mut payload, &mut held);
            let weight = encoded.as_ref().map_or(0, |weight| *weight);
            let most = match PLENTY_BYTES / weight.max(1) {
                most if most > PLENTY => usize::MAX,
                most => most.max(2 * workers + 2),
            };
            self.most.store(most, Ordering::Relaxed);
            let first = index * chunksize;
            let task = function.terms.task(job.0.number, index, first);
            if let Err(error) = self.submit(py, task, encoded.map(|_| payload.as_slice()), held) {
                self.file_error(py, job.0.number, index as u64, error);
            }
            index += 1;
        }
        (index, false)
    }

    /// Waits until `feed` can go on; False when `timeout` seconds passed first.
    fn wait_for_room(&self, py: Python<'_>, timeout: f64) -> bool {
        let deadline = Deadline::after(Duration::from_secs_f64(timeout));
        let most = self.most.load(Ordering::Relaxed);
        py.detach(|| self.board.wait_for_room(PLENTY, most, deadline))
    }

    /// Files results until something happens that is not one; returns it as a tuple, None after
    /// `timeout` seconds or when there are finished jobs to tidy up after.
    fn watch<'py>(
        &self,
        py: Python<'py>,
        workers: Vec<u32>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let workers = workers
            .into_iter()
            .map(owner)
            .collect::<PyResult<Vec<_>>>()?;
        let deadline = crate::patience::deadline(true, timeout)?;
        match py.detach(|| self.next_event(&workers, deadline)) {
            Ok(event) => report(py, event).map(Some),
            Err(GetError::Empty | GetError::Interrupted) => Ok(None),
            Err(GetError::Failed(error)) => Err(raise(error)),
            Err(error @ GetError::Closed) => Err(PyValueError::new_err(error.to_string())),
        }
    }

    /// What a worker that is gone held: (job, index, item, whether it is tried again).
    fn lost_by(&self, py: Python<'_>, worker: u32) -> PyResult<Vec<(u64, u64, u64, bool)>> {
        let worker = owner(worker)?;
        let lost = py.detach(|| self.board.lost_by(worker));
        Ok(lost
            .into_iter()
            .map(|lost| (lost.job, lost.index, lost.item, lost.repeated))
            .collect())
    }

    /// Takes tasks back: (numbers of those that had not begun, (number, worker) of those that run).
    #[pyo3(signature = (job, index=None))]
    fn cancel(&self, job: u64, index: Option<u64>) -> (Vec<u64>, Vec<(u64, u32)>) {
        let cancelled = self.board.cancel(job, index);
        let running = cancelled.running.into_iter();
        (
            cancelled.withdrawn,
            running
                .map(|(index, owner)| (index, owner.as_u32()))
                .collect(),
        )
    }

    /// Takes back all tasks that have not begun, of all jobs.
    fn withdraw_all(&self, py: Python<'_>) {
        py.detach(|| self.board.withdraw_all());
    }

    /// Lets workers go that have no task, and others after it.
    fn dismiss(&self, workers: Vec<u32>) -> PyResult<()> {
        let workers = workers.into_iter().map(owner);
        self.board
            .dismiss_all(&workers.collect::<PyResult<Vec<_>>>()?);
        Ok(())
    }

    /// How many tasks no worker has claimed: of those that lie in shared memory, and of those that wait outside.
    fn backlog(&self) -> (usize, usize) {
        self.board.backlog()
    }

    /// Whether there are results, or other messages of workers, that nobody has looked at.
    fn has_results(&self) -> bool {
        self.board.has_messages()
    }

    /// Tasks that have not ended.
    fn outstanding(&self) -> usize {
        self.board.outstanding()
    }

    /// Makes `watch` return.
    fn ring(&self) {
        // Without memory for the bell the watcher still looks around now and then.
        let _ = self.board.ring();
    }

    /// Says that no more jobs will be opened.
    fn finish(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.ring();
    }

    /// Sends the workers home once all tasks are claimed.
    fn close(&self) {
        self.board.close();
    }

    /// Says that the pool has no workers any more, and will have none.
    fn over(&self, py: Python<'_>) {
        py.detach(|| self.board.over());
    }
}

impl PoolBoard {
    /// Submits the items of `spread`.
    fn spread_over(
        &self,
        py: Python<'_>,
        job: &PoolJob,
        function: &PoolFunction,
        items: &Bound<'_, PyAny>,
        length: usize,
        (chunksize, workers): (Option<usize>, usize),
    ) -> PyResult<()> {
        let list = items.cast::<PyList>().ok();
        let mut payload = Vec::new();
        let mut submit = |index: usize, chunk: Range<usize>, many: bool| -> PyResult<usize> {
            if job.0.has_stopped() {
                return Ok(0);
            }
            function.begin_items(many, &mut payload);
            let value = match list {
                // Not as what collections.abc.Sequence is: to ask for that runs Python, where a signal may come.
                _ if many => {
                    let (start, end) = (chunk.start as isize, chunk.end as isize);
                    items.get_item(PySlice::new(py, start, end, 1))?
                }
                Some(list) => list.get_item(chunk.start)?,
                None => items.get_item(chunk.start)?,
            };
            let mut held = Vec::new();
            let encoded = payload::end(&value, Some(&function.common), &mut payload, &mut held);
            let weight = *encoded.as_ref().unwrap_or(&0);
            let task = function.terms.task(job.0.number, index, chunk.start);
            self.submit(py, task, encoded.map(|_| payload.as_slice()), held)?;
            if index % 1024 == 1023 {
                py.check_signals()?;
            }
            Ok(weight)
        };
        let even = |size: usize| {
            let starts = (0..length).step_by(size);
            starts.map(move |start| start..length.min(start + size))
        };
        if let Some(size) = chunksize {
            let mut chunks = even(size.max(1)).enumerate();
            return chunks.try_for_each(|(index, chunk)| submit(index, chunk, size > 1).map(drop));
        }
        let mut chunks = guided(length, workers).enumerate();
        let Some((_, first)) = chunks.next() else {
            return Ok(());
        };
        // As large as all of the standard library's.
        let size = first.len();
        let weight = submit(0, first, size > 1)?;
        let mut submit = |(index, chunk): (usize, Range<usize>)| {
            let many = chunk.len() > 1;
            submit(index, chunk, many).map(drop)
        };
        if function.is_heavy() || weight > HEAVY && have_common_parts(items)? {
            job.0.cut_to(length.div_ceil(size));
            return even(size).enumerate().skip(1).try_for_each(submit);
        }
        chunks.try_for_each(&mut submit)
    }
}

/// Whether the first items mention the same large object: a chunk then carries it once, however many items it
/// has.
fn have_common_parts(items: &Bound<'_, PyAny>) -> PyResult<bool> {
    if items.len()? < 2 {
        return Ok(false);
    }
    let (first, second) = (items.get_item(0)?, items.get_item(1)?);
    if first.is(&second) {
        return Ok(true);
    }
    let is_small = |part: &Bound<'_, PyAny>| {
        part.is_none()
            || part.is_instance_of::<PyInt>()
            || part.is_instance_of::<PyFloat>()
            || part
                .cast::<PyString>()
                .is_ok_and(|text| text.len().is_ok_and(|length| length < SMALL))
    };
    let (first, second) = (parts(&first), parts(&second));
    let mut pairs = first.iter().zip(&second);
    Ok(pairs.any(|(first, second)| first.is(second) && !is_small(first)))
}

fn parts<'py>(item: &Bound<'py, PyAny>) -> Vec<Bound<'py, PyAny>> {
    match (item.cast::<PyTuple>(), item.cast::<PyList>()) {
        (Ok(tuple), _) => tuple.iter().collect(),
        (_, Ok(list)) => list.iter().collect(),
        _ => Vec::new(),
    }
}

/// The next item, or for chunks of more than one the list of the next items.
fn next_chunk<'py>(
    items: &mut Bound<'py, PyIterator>,
    chunksize: usize,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(first) = items.next().transpose()? else {
        return Ok(None);
    };
    if chunksize == 1 {
        return Ok(Some(first));
    }
    let chunk = PyList::new(first.py(), [first])?;
    while chunk.len() < chunksize {
        match items.next().transpose()? {
            Some(item) => chunk.append(item)?,
            None => break,
        }
    }
    Ok(Some(chunk.into_any()))
}
