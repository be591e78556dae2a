//! The results of tasks submitted together, in the order of completion.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use procession_engine::Deadline;
use serde::de::DeserializeOwned;

use super::job::{self, Outcome, Response};
use super::job_handle::JobHandle;
use crate::error::TaskError;

/// Yields the results of [`Pool::map_unordered`](crate::PoolHandle::map_unordered) in the order of completion.
///
/// Dropping it skips tasks that have not started.
pub struct MapUnordered<R> {
    results: JobHandle,
    /// The items of each task, until its outcome arrives.
    chunks: Vec<Option<Range<usize>>>,
    current: Option<Chunk>,
    left: usize,
    _results: PhantomData<fn() -> R>,
}

/// The outcome of a chunk, and the indices of its items not yet yielded.
struct Chunk {
    indices: Range<usize>,
    outcome: Outcome,
    /// The number of bytes of the response already read.
    read: usize,
}

impl Chunk {
    fn next<R: DeserializeOwned>(&mut self) -> Option<(usize, Result<R, TaskError>)> {
        let index = self.indices.next()?;
        let result = match &self.outcome {
            Err(error) => Err(error.clone()),
            Ok(response) => {
                let mut rest = &response.bytes()[self.read..];
                let output = job::next_output(&mut rest);
                self.read = response.bytes().len() - rest.len();
                output
            }
        };
        Some((index, result))
    }
}

impl<R> MapUnordered<R> {
    pub(super) fn new(results: JobHandle, chunks: Vec<Range<usize>>) -> MapUnordered<R> {
        MapUnordered {
            results,
            left: chunks.iter().map(Range::len).sum(),
            chunks: chunks.into_iter().map(Some).collect(),
            current: None,
            _results: PhantomData,
        }
    }

    /// Ends all its tasks at once. Workers that run one of them are killed and replaced.
    ///
    /// # Panics
    /// Panics in a forked copy of the process that created the pool.
    #[track_caller]
    pub fn cancel(self) {
        self.results.expect_to_cancel();
    }

    /// Waits for the outcome of the next chunk.
    fn next_chunk(&mut self) -> Option<Chunk> {
        let (index, mut outcome) = self.results.take(Deadline::NEVER)?;
        let chunk = match index {
            Some(index) => self.chunks.get_mut(index as usize),
            // The pool ended, and this outcome applies to all that are left.
            None => self.chunks.iter_mut().find(|chunk| chunk.is_some()),
        };
        // The caller may keep it for long: free the shared memory.
        outcome.iter_mut().for_each(Response::make_owned);
        Some(Chunk {
            indices: chunk?.take()?,
            outcome,
            read: 0,
        })
    }
}

impl<R: DeserializeOwned> Iterator for MapUnordered<R> {
    /// The index of the item, and its result.
    type Item = (usize, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            if let Some(next) = self.current.as_mut().and_then(Chunk::next) {
                self.left -= 1;
                return Some(next);
            }
            self.current = Some(self.next_chunk()?);
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<R: DeserializeOwned> ExactSizeIterator for MapUnordered<R> {}

impl<R> fmt::Debug for MapUnordered<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapUnordered")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl<R> Drop for MapUnordered<R> {
    fn drop(&mut self) {
        if self.chunks.iter().any(Option::is_some) {
            self.results.withdraw();
        }
    }
}
