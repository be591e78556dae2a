//! Counts what waits in a chunk list. Nothing is counted while messages move: everything is read
//! off the slots.
//!
//! Messages are received in the order of the slots, except for those behind a slot that was stepped
//! over. So the chunks that consumers have reached are looked at slot by slot. There is something
//! left in each of them, and they are few. From the first chunk that no consumer has reached on,
//! every message waits, and the positions say how many there are. This counts a message there whose
//! writer died, until a process reaches it.

use crate::channel::chunk_list::chunk::Chunk;
use crate::channel::chunk_list::link::Link;
use crate::channel::chunk_list::slot::{Phase, View};
use crate::channel::chunk_list::{ListCursor, Next, finished_prefix};
use crate::channel::recovery;
use crate::error::Result;
use crate::retries::Retries;

/// Where no consumer has come yet, up to this many positions are looked at one by one.
const EXACT: u64 = 1024;

/// Where a walk over the slots goes on.
pub(crate) enum Step {
    NextSlot,
    NextChunk,
    Done,
    /// Start again at the first chunk, with a new sum.
    Restart,
}

impl<'a> ListCursor<'a> {
    /// The number of messages that wait to be received.
    pub(crate) fn len(&self) -> Result<u64> {
        self.waiting(None, |phase| {
            matches!(phase, Phase::Ready | Phase::Reserved(_))
        })
    }

    /// Whether a message is there, is being written, or may be delivered again if its reader
    /// dies.
    pub(crate) fn is_due(&self) -> bool {
        let due = self.first_to_receive().and_then(|first| {
            self.walk(first, |chunk, index, due| {
                match recovery::look(self, chunk, index) {
                    View::In(phase) if phase.is_finished() => Step::NextSlot,
                    View::In(_) => {
                        *due = 1;
                        Step::Done
                    }
                    View::Empty => Step::Done,
                    View::Stale => Step::Restart,
                }
            })
        });
        due.map_or(true, |due| due > 0)
    }

    /// How much of the limit is taken by the messages that `counts` selects, before position `end`.
    /// The default for `end` is where the next message is put.
    pub(crate) fn waiting(&self, end: Option<u64>, counts: impl Fn(Phase) -> bool) -> Result<u64> {
        let mut last_seen = Link::NONE;
        self.walk(self.first_to_receive()?, |chunk, index, sum| {
            let is_new = std::mem::replace(&mut last_seen, chunk.link) != chunk.link;
            if is_new && !chunk.is_touched() {
                let start = self.position(chunk, index);
                match end.map_or_else(|| self.end(), Ok) {
                    Ok(end) if end.saturating_sub(start) > EXACT && chunk.is_current() => {
                        *sum += end - start;
                        return Step::Done;
                    }
                    Ok(_) => {}
                    Err(_) => return Step::Restart,
                }
            }
            if end.is_some_and(|end| self.position(chunk, index) >= end) {
                return Step::Done;
            }
            match recovery::look(self, chunk, index) {
                View::In(phase) => {
                    *sum += u64::from(counts(phase)) * self.weight(chunk);
                    Step::NextSlot
                }
                View::Empty => Step::Done,
                View::Stale => Step::Restart,
            }
        })
    }

    /// Roughly how many bytes the messages before `end` take, if that is at most `most`. If it is
    /// more, returns some number above `most`.
    pub(crate) fn bytes_waiting(&self, end: u64, max_bytes: u64) -> Result<u64> {
        let mut last_seen = Link::NONE;
        self.walk(self.first_to_receive()?, |chunk, index, sum| {
            if *sum > max_bytes || self.position(chunk, index) >= end {
                return Step::Done;
            }
            let is_new = std::mem::replace(&mut last_seen, chunk.link) != chunk.link;
            if is_new && !chunk.is_touched() {
                *sum += chunk.header.large.get(chunk);
                return Step::NextChunk;
            }
            *sum += match recovery::look(self, chunk, index) {
                View::In(phase) if phase.is_finished() => 0,
                View::In(Phase::Reserved(_)) => 1,
                View::In(_) => chunk
                    .slot(index)
                    .length
                    .load(std::sync::atomic::Ordering::Relaxed),
                View::Empty => return Step::Done,
                View::Stale => return Step::Restart,
            };
            Step::NextSlot
        })
    }

    /// Whether no message waits to be received.
    pub(crate) fn is_empty(&self) -> bool {
        let found = self.first_to_receive().and_then(|first| {
            self.walk(first, |chunk, index, found| {
                match recovery::look(self, chunk, index) {
                    View::In(Phase::Ready) => {
                        *found = 1;
                        Step::Done
                    }
                    View::In(_) => Step::NextSlot,
                    View::Empty => Step::Done,
                    View::Stale => Step::Restart,
                }
            })
        });
        found.is_ok_and(|found| found == 0)
    }

    /// Walks over the slots from `first` on, except those known to be finished. If a chunk is taken
    /// out on the way, the walk starts again with a new sum.
    pub(crate) fn walk(
        &self,
        first: Option<Chunk<'a>>,
        mut visit: impl FnMut(&Chunk<'a>, u32, &mut u64) -> Step,
    ) -> Result<u64> {
        let mut next = first;
        let mut sum = 0;
        let mut retries = Retries::default();
        'chunks: while let Some(chunk) = next {
            let mut index = finished_prefix(&chunk);
            while index < chunk.count {
                match visit(&chunk, index, &mut sum) {
                    Step::NextSlot => index = chunk.skip(index + 1),
                    Step::NextChunk => break,
                    Step::Done => return Ok(sum),
                    Step::Restart => {
                        retries.again()?;
                        sum = 0;
                        next = self.first_from_head()?;
                        continue 'chunks;
                    }
                }
            }
            next = match self.after(&chunk)? {
                Next::Chunk(after) => Some(after),
                Next::End => None,
                Next::Stale => {
                    retries.again()?;
                    sum = 0;
                    self.first_from_head()?
                }
            };
        }
        Ok(sum)
    }
}
