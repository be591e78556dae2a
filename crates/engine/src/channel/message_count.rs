//! Counting what waits in a chain. Nothing is counted while messages move: all of it is read off the slots.
//!
//! Messages are received in the order of the slots, but for what is stepped over. So the chunks that consumers have
//! come to are looked at slot by slot; there is something left in each, and they are few. Behind the first one that
//! nobody came to yet all messages wait, and positions say how many. Only a message whose writer died there is
//! counted as well, until somebody comes to it.

use super::chunk::Chunk;
use super::chunk_list::{ListCursor, Next, over_in};
use super::link::Link;
use super::recovery;
use super::slot::{Phase, View};
use crate::error::Result;
use crate::retries::Retries;

/// Up to so many places are looked at one by one where nobody has come to yet.
const EXACT: u64 = 1024;

/// Where a walk over the slots goes on.
pub(super) enum Step {
    NextSlot,
    NextStrip,
    Done,
    /// From the first chunk on, with a new sum.
    Again,
}

impl<'a> ListCursor<'a> {
    /// How many messages wait to be received.
    pub(super) fn len(&self) -> Result<u64> {
        self.waiting(None, |phase| {
            matches!(phase, Phase::Ready | Phase::Reserved(_))
        })
    }

    /// Whether a message is there, is being written, or may be given again by whoever is reading it.
    pub(super) fn is_due(&self) -> bool {
        let due = self.first_to_receive().and_then(|first| {
            self.walk(first, |chunk, index, due| {
                match recovery::look(self, chunk, index) {
                    View::In(phase) if phase.is_over() => Step::NextSlot,
                    View::In(_) => {
                        *due = 1;
                        Step::Done
                    }
                    View::Empty => Step::Done,
                    View::Stale => Step::Again,
                }
            })
        });
        due.map_or(true, |due| due > 0)
    }

    /// What the messages take of the limit that count, those at `end` and behind left out: that is where the next
    /// one is put, unless it is said.
    pub(super) fn waiting(&self, end: Option<u64>, counts: impl Fn(Phase) -> bool) -> Result<u64> {
        let mut came_to = Link::NONE;
        self.walk(self.first_to_receive()?, |chunk, index, sum| {
            let is_new = std::mem::replace(&mut came_to, chunk.link) != chunk.link;
            if is_new && !chunk.is_touched() {
                let start = self.position(chunk, index);
                match end.map_or_else(|| self.end(), Ok) {
                    Ok(end) if end.saturating_sub(start) > EXACT && chunk.is_current() => {
                        *sum += end - start;
                        return Step::Done;
                    }
                    Ok(_) => {}
                    Err(_) => return Step::Again,
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
                View::Stale => Step::Again,
            }
        })
    }

    /// How many bytes the messages before `end` take, about, if they are not more than `most`: some number that is,
    /// if they are.
    pub(super) fn bytes_waiting(&self, end: u64, most: u64) -> Result<u64> {
        let mut came_to = Link::NONE;
        self.walk(self.first_to_receive()?, |chunk, index, sum| {
            if *sum > most || self.position(chunk, index) >= end {
                return Step::Done;
            }
            let is_new = std::mem::replace(&mut came_to, chunk.link) != chunk.link;
            if is_new && !chunk.is_touched() {
                *sum += chunk.header.large.get(chunk);
                return Step::NextStrip;
            }
            *sum += match recovery::look(self, chunk, index) {
                View::In(phase) if phase.is_over() => 0,
                View::In(Phase::Reserved(_)) => 1,
                View::In(_) => chunk
                    .slot(index)
                    .length
                    .load(std::sync::atomic::Ordering::Relaxed),
                View::Empty => return Step::Done,
                View::Stale => return Step::Again,
            };
            Step::NextSlot
        })
    }

    /// Whether nothing waits to be received.
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
                    View::Stale => Step::Again,
                }
            })
        });
        found.is_ok_and(|found| found == 0)
    }

    /// Goes over the slots from `first` on, but for those that are known to be over. A chunk that was taken out on
    /// the way is a reason to begin again with a new sum.
    pub(super) fn walk(
        &self,
        first: Option<Chunk<'a>>,
        mut visit: impl FnMut(&Chunk<'a>, u32, &mut u64) -> Step,
    ) -> Result<u64> {
        let mut next = first;
        let mut sum = 0;
        let mut retries = Retries::default();
        'chunks: while let Some(chunk) = next {
            let mut index = over_in(&chunk);
            while index < chunk.count {
                match visit(&chunk, index, &mut sum) {
                    Step::NextSlot => index = chunk.skip(index + 1),
                    Step::NextStrip => break,
                    Step::Done => return Ok(sum),
                    Step::Again => {
                        retries.again()?;
                        sum = 0;
                        next = self.first_anew()?;
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
                    self.first_anew()?
                }
            };
        }
        Ok(sum)
    }
}
