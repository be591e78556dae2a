//! Results on their way from the watcher to the one who waits for them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use procession_engine::Deadline;
use procession_engine::pool::Reply;
use serde::de::DeserializeOwned;

use crate::call::{self, Failure};
use crate::error::TaskError;

/// What came of a task: an answer to decode, or why there is none.
pub(super) type Outcome = Result<Answer, TaskError>;

/// What a worker answered.
pub(super) enum Answer {
    /// As it came, in shared memory.
    Arrived(Reply),
    /// In this process's own.
    Kept(Vec<u8>),
}

impl Answer {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Answer::Arrived(reply) => reply.bytes(),
            Answer::Kept(bytes) => bytes,
        }
    }

    /// Moves it out of shared memory.
    pub(super) fn keep(&mut self) {
        if let Answer::Arrived(reply) = self {
            *self = Answer::Kept(reply.bytes().to_vec());
        }
    }
}

/// The results of some tasks. One thread at a time waits for them.
pub(super) struct Job {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    arrived: Arrived,
    /// How many have arrived and were not taken.
    count: usize,
    /// Set when no more results come: what every other task ended with.
    end: Option<TaskError>,
    awaited: Awaited,
    /// Who polled for the next result in vain.
    waker: Option<Waker>,
}

/// What has arrived and was not taken.
enum Arrived {
    /// Taken in the order of the tasks; the first slot is the task `next`.
    InOrder {
        next: u64,
        slots: VecDeque<Option<Outcome>>,
    },
    /// Taken in the order of arrival.
    AsTheyCome(VecDeque<(u64, Outcome)>),
}

/// What the waiting thread is to be woken for: being woken for each of many results is what costs.
#[derive(Clone, Copy)]
enum Awaited {
    Nothing,
    Next,
    Count(usize),
}

impl State {
    fn is_there(&self, awaited: Awaited) -> bool {
        self.end.is_some()
            || match awaited {
                Awaited::Nothing => false,
                Awaited::Next => match &self.arrived {
                    Arrived::InOrder { slots, .. } => slots.front().is_some_and(Option::is_some),
                    Arrived::AsTheyCome(queue) => !queue.is_empty(),
                },
                Awaited::Count(count) => self.count >= count,
            }
    }

    fn put(&mut self, index: u64, outcome: Outcome) {
        match &mut self.arrived {
            Arrived::AsTheyCome(queue) => queue.push_back((index, outcome)),
            Arrived::InOrder { next, slots } => {
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
        let popped = match &mut self.arrived {
            Arrived::AsTheyCome(queue) => queue.pop_front()?,
            Arrived::InOrder { next, slots } => {
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

    fn answers(&mut self) -> impl Iterator<Item = &mut Answer> {
        let (slots, queue) = match &mut self.arrived {
            Arrived::InOrder { slots, .. } => (Some(slots), None),
            Arrived::AsTheyCome(queue) => (None, Some(queue)),
        };
        let slots = slots.into_iter().flatten().flatten();
        let queue = queue.into_iter().flatten().map(|(_, outcome)| outcome);
        slots.chain(queue).flatten()
    }
}

impl Job {
    /// Results are taken in the order of the tasks.
    pub(super) fn in_order() -> Job {
        Job::taken(Arrived::InOrder {
            next: 0,
            slots: VecDeque::new(),
        })
    }

    /// Results are taken in the order in which they arrive.
    pub(super) fn as_they_come() -> Job {
        Job::taken(Arrived::AsTheyCome(VecDeque::new()))
    }

    fn taken(arrived: Arrived) -> Job {
        let state = State {
            arrived,
            count: 0,
            end: None,
            awaited: Awaited::Nothing,
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
        self.tell(state);
    }

    /// Ends the tasks that have not ended.
    pub(super) fn fail(&self, error: TaskError) {
        let mut state = self.state();
        state.end.get_or_insert(error);
        self.tell(state);
    }

    fn tell(&self, mut state: MutexGuard<'_, State>) {
        if state.is_there(state.awaited) {
            self.changed.notify_one();
        }
        if state.is_there(Awaited::Next)
            && let Some(waker) = state.waker.take()
        {
            drop(state);
            // What an executor does there is not to be the end of the pool.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    /// Moves what was not taken out of shared memory.
    pub(super) fn detach(&self) {
        self.state().answers().for_each(Answer::keep);
    }

    /// Waits until this many results are there to be taken.
    pub(super) fn wait_for(&self, count: usize) {
        drop(self.wait(Awaited::Count(count), Deadline::NEVER));
    }

    /// Takes the next result and says whose it is, waiting for it; `None` when the deadline
    /// passed. Without a task, it is what all tasks that are left ended with.
    pub(super) fn take(&self, deadline: Deadline) -> Option<(Option<u64>, Outcome)> {
        self.wait(Awaited::Next, deadline).next()
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
        self.state().is_there(Awaited::Next)
    }

    fn wait(&self, awaited: Awaited, deadline: Deadline) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while !state.is_there(awaited) {
            state.awaited = awaited;
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
        state.awaited = Awaited::Nothing;
        state
    }
}

/// Takes the next call's output off an answer.
pub(super) fn next_output<R: DeserializeOwned>(answer: &mut &[u8]) -> Result<R, TaskError> {
    match call::next_result(answer) {
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
