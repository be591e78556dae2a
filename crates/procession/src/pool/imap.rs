//! Iterators that submit items while results are taken.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use procession_engine::Deadline;
use serde::de::DeserializeOwned;

use super::job;
use super::job_handle::JobHandle;
use super::local::Local;
use super::shared::{Limits, PoolShared};
use crate::error::{Error, TaskError};

/// Tasks submitted in advance, per worker.
const TASKS_AHEAD: usize = 32;

/// Takes items and submits them, a window ahead of the results taken.
///
/// Dropping it ends the tasks that have not started.
pub(super) struct Feed<'a> {
    shared: &'a Local<Arc<PoolShared>>,
    limits: Limits,
    results: JobHandle,
    requests: Option<Box<dyn Iterator<Item = Result<Vec<u8>, Error>> + 'a>>,
    submitted: u64,
    taken: u64,
    /// The total weight of the pool's tasks when the last one was submitted.
    weight: u64,
}

impl<'a> Feed<'a> {
    pub(super) fn new(
        shared: &'a Local<Arc<PoolShared>>,
        limits: Limits,
        results: JobHandle,
        requests: Box<dyn Iterator<Item = Result<Vec<u8>, Error>> + 'a>,
    ) -> Feed<'a> {
        let mut feed = Feed {
            shared,
            limits,
            results,
            requests: Some(requests),
            submitted: 0,
            taken: 0,
            weight: 0,
        };
        feed.top_up();
        feed
    }

    /// Submits tasks when few are left.
    fn top_up(&mut self) {
        let Some(requests) = &mut self.requests else {
            return;
        };
        let Ok(shared) = self.shared.get() else {
            // Report one failing item, even when no task is open.
            self.submitted = self.submitted.max(self.taken + 1);
            self.requests = None;
            return;
        };
        let window = (shared.supervisor().wanted() * TASKS_AHEAD) as u64;
        if (self.submitted - self.taken) * 2 > window {
            return;
        }
        while self.submitted - self.taken < window {
            // Wait for room only when there is no result to wait for.
            let has_room = || shared.has_room() && shared.has_memory(self.weight);
            if self.submitted > self.taken && !has_room() {
                return;
            }
            let Some(request) = requests.next() else {
                self.requests = None;
                return;
            };
            let index = self.submitted;
            self.submitted += 1;
            let task = self.limits.task(self.results.id(), index);
            let submitted =
                request.and_then(|request| shared.submit(task, &request, Deadline::NEVER));
            let error = match submitted {
                Ok(weight) => {
                    self.weight = weight.unwrap_or(0);
                    continue;
                }
                Err(error) => error,
            };
            let (error, is_last) = match error {
                Error::Task(error) => (error, true),
                Error::PoolClosed => (TaskError::PoolGone, true),
                other => (TaskError::Undelivered(other.to_string()), false),
            };
            self.results.deliver(index, Err(error));
            if is_last {
                // Later items would fail in the same way.
                self.requests = None;
                return;
            }
        }
    }

    /// Returns whether there is another result. If so, the caller must take it.
    fn advance(&mut self) -> bool {
        self.top_up();
        let more = self.taken < self.submitted;
        self.taken += u64::from(more);
        more
    }

    #[track_caller]
    fn cancel(mut self) {
        self.requests = None;
        self.results.expect_to_cancel();
    }
}

impl Drop for Feed<'_> {
    fn drop(&mut self) {
        if self.taken < self.submitted {
            self.results.withdraw();
        }
    }
}

/// Yields the results of [`Pool::imap`](crate::PoolHandle::imap) in the order of the items.
///
/// Dropping it takes no more items and skips tasks that have not started.
pub struct Imap<'a, R> {
    feed: Feed<'a>,
    _results: PhantomData<fn() -> R>,
}

impl<'a, R> Imap<'a, R> {
    pub(super) fn new(feed: Feed<'a>) -> Imap<'a, R> {
        Imap {
            feed,
            _results: PhantomData,
        }
    }

    /// Ends all its tasks at once. Workers that run one of them are killed and replaced.
    ///
    /// # Panics
    /// Panics in a forked copy of the process that created the pool.
    #[track_caller]
    pub fn cancel(self) {
        self.feed.cancel();
    }
}

impl<R: DeserializeOwned> Iterator for Imap<'_, R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.feed.advance() {
            return None;
        }
        let (_, outcome) = self.feed.results.take(Deadline::NEVER)?;
        Some(job::only_output(outcome))
    }
}

impl<R> fmt::Debug for Imap<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("taken", &self.feed.taken)
            .finish_non_exhaustive()
    }
}

/// Yields the results of [`Pool::imap_unordered`](crate::PoolHandle::imap_unordered) in the order of completion.
///
/// Dropping it takes no more items and skips tasks that have not started.
pub struct ImapUnordered<'a, R> {
    feed: Feed<'a>,
    _results: PhantomData<fn() -> R>,
}

impl<'a, R> ImapUnordered<'a, R> {
    pub(super) fn new(feed: Feed<'a>) -> ImapUnordered<'a, R> {
        ImapUnordered {
            feed,
            _results: PhantomData,
        }
    }

    /// Ends all its tasks at once. Workers that run one of them are killed and replaced.
    ///
    /// # Panics
    /// Panics in a forked copy of the process that created the pool.
    #[track_caller]
    pub fn cancel(self) {
        self.feed.cancel();
    }
}

impl<R: DeserializeOwned> Iterator for ImapUnordered<'_, R> {
    /// The index of the item, and its result.
    type Item = (usize, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.feed.advance() {
            return None;
        }
        match self.feed.results.take(Deadline::NEVER)? {
            (Some(index), outcome) => Some((index as usize, job::only_output(outcome))),
            (None, outcome) => {
                // The pool ended: this item stands for all that are left.
                let index = self.feed.taken as usize - 1;
                self.feed.taken = self.feed.submitted;
                self.feed.requests = None;
                Some((index, job::only_output(outcome)))
            }
        }
    }
}

impl<R> fmt::Debug for ImapUnordered<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImapUnordered")
            .field("taken", &self.feed.taken)
            .finish_non_exhaustive()
    }
}
