//! Passes results from the watcher thread to the waiting thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use procession_engine::Deadline;
use procession_engine::pool::{Collector, Order, WorkerMessage};
use serde::de::DeserializeOwned;

use crate::error::TaskError;
use crate::transfer::call::{self, Failure};

/// The outcome of a task: a response to decode, or an error.
pub(super) type Outcome = Result<Response, TaskError>;

/// The response of a worker.
pub(super) enum Response {
    /// In shared memory, as received.
    Shared(WorkerMessage),
    /// In this process's own memory.
    Owned(Vec<u8>),
}

impl Response {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Response::Shared(reply) => reply.bytes(),
            Response::Owned(bytes) => bytes,
        }
    }

    /// Copies it out of shared memory.
    pub(super) fn make_owned(&mut self) {
        if let Response::Shared(reply) = self {
            *self = Response::Owned(reply.bytes().to_vec());
        }
    }
}

/// The results of one or more tasks. One thread at a time waits for them.
pub(super) struct Job {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    results: Collector<Outcome>,
    /// Set when no more results will come: the error of every unfinished task.
    end: Option<TaskError>,
    wait_for: WaitFor,
    /// The waker of the last poll that found no result.
    waker: Option<Waker>,
}

/// When to wake the waiting thread. Waking it for each of many results would be expensive.
#[derive(Clone, Copy)]
enum WaitFor {
    Nothing,
    Next,
    Count(usize),
}

impl State {
    fn is_satisfied(&self, wait_for: WaitFor) -> bool {
        self.end.is_some()
            || match wait_for {
                WaitFor::Nothing => false,
                WaitFor::Next => self.results.has_next(),
                WaitFor::Count(count) => self.results.count() >= count,
            }
    }

    /// Returns the next result with its task's index, or the error of all unfinished tasks.
    fn next(&mut self) -> Option<(Option<u64>, Outcome)> {
        if let Some((index, outcome)) = self.results.take() {
            return Some((Some(index as u64), outcome));
        }
        self.end.clone().map(|error| (None, Err(error)))
    }
}

impl Job {
    /// Creates a job whose results are taken in this order.
    pub(super) fn taken(order: Order) -> Job {
        let state = State {
            results: Collector::new(order, None),
            end: None,
            wait_for: WaitFor::Nothing,
            waker: None,
        };
        Job {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn deliver(&self, index: u64, outcome: Outcome) {
        let mut state = self.state();
        let failed = outcome.is_err();
        state.results.put(index as usize, outcome, failed);
        self.notify(state);
    }

    /// Ends the unfinished tasks with `error`.
    pub(super) fn fail(&self, error: TaskError) {
        let mut state = self.state();
        state.end.get_or_insert(error);
        self.notify(state);
    }

    fn notify(&self, mut state: MutexGuard<'_, State>) {
        if state.is_satisfied(state.wait_for) {
            self.changed.notify_one();
        }
        if state.is_satisfied(WaitFor::Next)
            && let Some(waker) = state.waker.take()
        {
            drop(state);
            // A panic of the executor must not end the pool.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    /// Copies results not yet taken out of shared memory.
    pub(super) fn detach(&self) {
        let mut state = self.state();
        state
            .results
            .results_mut()
            .flatten()
            .for_each(Response::make_owned);
    }

    /// Waits until `count` results have arrived.
    pub(super) fn wait_until(&self, count: usize) {
        drop(self.wait(WaitFor::Count(count), Deadline::NEVER));
    }

    /// Waits for the next result and returns it with its task's index. Returns `None` when the deadline
    /// passes. An outcome without an index applies to all unfinished tasks.
    pub(super) fn take(&self, deadline: Deadline) -> Option<(Option<u64>, Outcome)> {
        self.wait(WaitFor::Next, deadline).next()
    }

    /// Like [`take`](Job::take), but registers `waker` instead of waiting.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Outcome> {
        let mut state = self.state();
        if let Some((_, outcome)) = state.next() {
            return Poll::Ready(outcome);
        }
        state.waker = Some(waker.clone());
        Poll::Pending
    }

    /// Returns whether a result is available.
    pub(super) fn is_ready(&self) -> bool {
        self.state().is_satisfied(WaitFor::Next)
    }

    fn wait(&self, wait_for: WaitFor, deadline: Deadline) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while !state.is_satisfied(wait_for) {
            state.wait_for = wait_for;
            state = match deadline.remaining() {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.wait_for = WaitFor::Nothing;
        state
    }
}

/// Decodes the output of the next call from a response.
pub(super) fn next_output<R: DeserializeOwned>(response: &mut &[u8]) -> Result<R, TaskError> {
    match call::next_result(response) {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(Failure::Panicked(panic))) => Err(TaskError::Panicked(panic)),
        Ok(Err(Failure::Undelivered(reason))) => Err(TaskError::Undelivered(reason)),
        Err(error) => Err(TaskError::Undelivered(error.to_string())),
    }
}

/// Decodes the output of a task that was a single call.
pub(super) fn only_output<R: DeserializeOwned>(outcome: Outcome) -> Result<R, TaskError> {
    next_output(&mut outcome?.bytes())
}
