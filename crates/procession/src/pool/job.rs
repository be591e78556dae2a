//! Results on their way from the watcher to the one who waits for them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use procession_engine::Deadline;
use procession_engine::pool::Reply;
use serde::de::DeserializeOwned;

use crate::error::TaskError;
use crate::transfer::call::{self, Failure};

/// What came of a task: an response to decode, or why there is none.
pub(super) type Outcome = Result<Response, TaskError>;

/// What a worker answered.
pub(super) enum Response {
    /// As it came, in shared memory.
    Shared(Reply),
    /// In this process's own.
    Owned(Vec<u8>),
}

impl Response {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Response::Shared(reply) => reply.bytes(),
            Response::Owned(bytes) => bytes,
        }
    }

    /// Moves it out of shared memory.
    pub(super) fn make_owned(&mut self) {
        if let Response::Shared(reply) = self {
            *self = Response::Owned(reply.bytes().to_vec());
        }
    }
}

/// The results of some tasks. One thread at a time waits for them.
pub(super) struct Job {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    completed: Completed,
    /// How many have completed and were not taken.
    count: usize,
    /// Set when no more results come: what every other task ended with.
    end: Option<TaskError>,
    wait_for: WaitFor,
    /// Who polled for the next result in vain.
    waker: Option<Waker>,
}

/// What has completed and was not taken.
enum Completed {
    /// Taken in the order of the tasks; the first slot is the task `next`.
    InOrder {
        next: u64,
        slots: VecDeque<Option<Outcome>>,
    },
    /// Taken in the order of arrival.
    ByArrival(VecDeque<(u64, Outcome)>),
}

/// What the waiting thread is to be woken for: being woken for each of many results is what costs.
#[derive(Clone, Copy)]
enum WaitFor {
    Nothing,
    Next,
    Count(usize),
}

impl State {
    fn is_there(&self, wait_for: WaitFor) -> bool {
        self.end.is_some()
            || match wait_for {
                WaitFor::Nothing => false,
                WaitFor::Next => match &self.completed {
                    Completed::InOrder { slots, .. } => slots.front().is_some_and(Option::is_some),
                    Completed::ByArrival(queue) => !queue.is_empty(),
                },
                WaitFor::Count(count) => self.count >= count,
            }
    }

    fn put(&mut self, index: u64, outcome: Outcome) {
        match &mut self.completed {
            Completed::ByArrival(queue) => queue.push_back((index, outcome)),
            Completed::InOrder { next, slots } => {
                // Cancelled and taken, while its result was under way.
                let Some(place) = index.checked_sub(*next) else {
                    return;
                };
                let place = place as usize;
                if slots.len() <= place {
                    slots.resize_with(place + 1, || None);
                }
                if slots[place].replace(outcome).is_some() {
                    return;
                }
            }
        }
        self.count += 1;
    }

    fn pop(&mut self) -> Option<(u64, Outcome)> {
        let popped = match &mut self.completed {
            Completed::ByArrival(queue) => queue.pop_front()?,
            Completed::InOrder { next, slots } => {
                let outcome = slots.front_mut()?.take()?;
                slots.pop_front();
                *next += 1;
                (*next - 1, outcome)
            }
        };
        self.count -= 1;
        Some(popped)
    }

    /// The next result and whose it is, or what all tasks that are left ended with.
    fn next(&mut self) -> Option<(Option<u64>, Outcome)> {
        if let Some((index, outcome)) = self.pop() {
            return Some((Some(index), outcome));
        }
        self.end.clone().map(|error| (None, Err(error)))
    }

    fn responses(&mut self) -> impl Iterator<Item = &mut Response> {
        let (slots, queue) = match &mut self.completed {
            Completed::InOrder { slots, .. } => (Some(slots), None),
            Completed::ByArrival(queue) => (None, Some(queue)),
        };
        let slots = slots.into_iter().flatten().flatten();
        let queue = queue.into_iter().flatten().map(|(_, outcome)| outcome);
        slots.chain(queue).flatten()
    }
}

impl Job {
    /// Results are taken in the order of the tasks.
    pub(super) fn in_order() -> Job {
        Job::taken(Completed::InOrder {
            next: 0,
            slots: VecDeque::new(),
        })
    }

    /// Results are taken in the order in which they arrive.
    pub(super) fn by_arrival() -> Job {
        Job::taken(Completed::ByArrival(VecDeque::new()))
    }

    fn taken(completed: Completed) -> Job {
        let state = State {
            completed,
            count: 0,
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
        state.put(index, outcome);
        self.notify(state);
    }

    /// Ends the tasks that have not ended.
    pub(super) fn fail(&self, error: TaskError) {
        let mut state = self.state();
        state.end.get_or_insert(error);
        self.notify(state);
    }

    fn notify(&self, mut state: MutexGuard<'_, State>) {
        if state.is_there(state.wait_for) {
            self.changed.notify_one();
        }
        if state.is_there(WaitFor::Next)
            && let Some(waker) = state.waker.take()
        {
            drop(state);
            // What an executor does there is not to be the end of the pool.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    /// Moves what was not taken out of shared memory.
    pub(super) fn detach(&self) {
        self.state().responses().for_each(Response::make_owned);
    }

    /// Waits until this many results are there to be taken.
    pub(super) fn wait_until(&self, count: usize) {
        drop(self.wait(WaitFor::Count(count), Deadline::NEVER));
    }

    /// Takes the next result and says whose it is, waiting for it; `None` when the deadline
    /// passed. Without a task, it is what all tasks that are left ended with.
    pub(super) fn take(&self, deadline: Deadline) -> Option<(Option<u64>, Outcome)> {
        self.wait(WaitFor::Next, deadline).next()
    }

    /// As [`take`](Job::take), but has somebody woken instead of waiting.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Outcome> {
        let mut state = self.state();
        if let Some((_, outcome)) = state.next() {
            return Poll::Ready(outcome);
        }
        state.waker = Some(waker.clone());
        Poll::Pending
    }

    /// Whether a result is there to be taken.
    pub(super) fn is_ready(&self) -> bool {
        self.state().is_there(WaitFor::Next)
    }

    fn wait(&self, wait_for: WaitFor, deadline: Deadline) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while !state.is_there(wait_for) {
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

/// Takes the next call's output off an response.
pub(super) fn next_output<R: DeserializeOwned>(response: &mut &[u8]) -> Result<R, TaskError> {
    match call::next_result(response) {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(Failure::Panicked(panic))) => Err(TaskError::Panicked(panic)),
        Ok(Err(Failure::Undelivered(reason))) => Err(TaskError::Undelivered(reason)),
        Err(error) => Err(TaskError::Undelivered(error.to_string())),
    }
}

/// The output of a task that was one call.
pub(super) fn only_output<R: DeserializeOwned>(outcome: Outcome) -> Result<R, TaskError> {
    next_output(&mut outcome?.bytes())
}
