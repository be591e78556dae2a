//! Results one by one, while items are still being taken.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use procession_engine::Deadline;
use serde::de::DeserializeOwned;

use super::Hall;
use super::job::{self, Results};
use crate::error::{Error, TaskError};

/// Tasks that lie ready for each worker.
const AHEAD: usize = 32;

/// Takes items and submits them, a window ahead of the results that were taken.
pub(super) struct Feed<'a> {
    hall: Arc<Hall>,
    results: Results,
    orders: Option<Box<dyn Iterator<Item = Result<Vec<u8>, Error>> + 'a>>,
    window: usize,
    submitted: u64,
    taken: u64,
}

impl<'a> Feed<'a> {
    pub(super) fn new(
        hall: &Arc<Hall>,
        results: Results,
        orders: Box<dyn Iterator<Item = Result<Vec<u8>, Error>> + 'a>,
    ) -> Feed<'a> {
        let mut feed = Feed {
            hall: Arc::clone(hall),
            results,
            orders: Some(orders),
            window: hall.crew().wanted * AHEAD,
            submitted: 0,
            taken: 0,
        };
        feed.top_up();
        feed
    }

    fn top_up(&mut self) {
        while self.submitted - self.taken < self.window as u64
            && let Some(orders) = &mut self.orders
        {
            let Some(order) = orders.next() else {
                self.orders = None;
                return;
            };
            let index = self.submitted;
            self.submitted += 1;
            let submitted = order.and_then(|order| self.hall.submit(&self.results, index, &order));
            if let Err(error) = submitted {
                let error = match error {
                    Error::Task(error) => error,
                    Error::PoolClosed => TaskError::PoolGone,
                    other => TaskError::Undelivered(other.to_string()),
                };
                self.results.job().deliver(index, Err(error));
            }
        }
    }

    /// Whether there is another result; tops up when there are few tasks left.
    fn advance(&mut self) -> bool {
        if (self.submitted - self.taken) as usize * 2 <= self.window {
            self.top_up();
        }
        self.taken < self.submitted
    }
}

/// The results of [`Pool::imap`](crate::Pool::imap), in the order of the items.
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
}

impl<R: DeserializeOwned> Iterator for Imap<'_, R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.feed.advance() {
            return None;
        }
        self.feed.taken += 1;
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

/// The results of [`Pool::imap_unordered`](crate::Pool::imap_unordered), as they come.
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
}

impl<R: DeserializeOwned> Iterator for ImapUnordered<'_, R> {
    /// The place of the item among the items, and its result.
    type Item = (usize, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.feed.advance() {
            return None;
        }
        self.feed.taken += 1;
        match self.feed.results.take(Deadline::NEVER)? {
            (Some(index), outcome) => Some((index as usize, job::only_output(outcome))),
            (None, outcome) => {
                // The pool ended: this item stands for all that are left.
                let place = self.feed.taken as usize - 1;
                self.feed.taken = self.feed.submitted;
                self.feed.orders = None;
                Some((place, job::only_output(outcome)))
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
