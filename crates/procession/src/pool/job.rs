//! Results on their way from the watcher to the one who waits for them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use procession_engine::Deadline;
use procession_engine::pool::Reply;
use serde::de::DeserializeOwned;

use super::Hall;
use crate::call::{self, Failure};
use crate::error::TaskError;

/// What came of a task: an answer to decode, or why there is none.
pub(super) type Outcome = Result<Reply, TaskError>;

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
        if state.is_there(state.awaited) {
            self.changed.notify_one();
        }
    }

    pub(super) fn fail(&self, error: TaskError) {
        self.state().end.get_or_insert(error);
        self.changed.notify_one();
    }

    /// Waits until this many results are there to be taken.
    pub(super) fn wait_for(&self, count: usize) {
        drop(self.wait(Awaited::Count(count), Deadline::NEVER));
    }

    /// Takes the next result and says whose it is, waiting for it; `None` when the deadline
    /// passed. Without a task, it is what all tasks that are left ended with.
    pub(super) fn take(&self, deadline: Deadline) -> Option<(Option<u64>, Outcome)> {
        let mut state = self.wait(Awaited::Next, deadline);
        if let Some((index, outcome)) = state.pop() {
            return Some((Some(index), outcome));
        }
        state.end.clone().map(|error| (None, Err(error)))
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

/// The right to the results of a job. When it goes, results still to come are let go of.
pub(super) struct Results {
    hall: Arc<Hall>,
    id: u64,
    job: Arc<Job>,
}

impl Results {
    pub(super) fn new(hall: Arc<Hall>, id: u64, job: Arc<Job>) -> Results {
        Results { hall, id, job }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn job(&self) -> &Job {
        &self.job
    }

    /// Takes the next result as [`Job::take`] does. A result that comes at once is looked for in this thread.
    pub(super) fn take(&self, deadline: Deadline) -> Option<(Option<u64>, Outcome)> {
        if !self.job.is_ready() && !deadline.is_past() {
            let board = &self.hall.board;
            board.assist(|| self.job.is_ready(), |event| self.hall.file(event));
        }
        self.job.take(deadline)
    }

    /// Ends those tasks that have not begun.
    pub(super) fn withdraw(&self) -> bool {
        let cancelled = self.hall.board.cancel(self.id, None);
        let mut crew = self.hall.crew();
        for (index, worker) in &cancelled.running {
            crew.kill(*worker);
            self.job.deliver(*index, Err(TaskError::Cancelled));
        }
        for index in &cancelled.withdrawn {
            self.job.deliver(*index, Err(TaskError::Cancelled));
        }
        !cancelled.running.is_empty() || !cancelled.withdrawn.is_empty()
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        self.hall.jobs().remove(&self.id);
    }
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {}", self.id)
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
