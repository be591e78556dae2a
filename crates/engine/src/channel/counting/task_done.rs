//! Counts the tasks of a queue that are not done yet.
//!
//! The number of unfinished tasks is the number put minus the number reported done: the position of
//! the next message, minus the slots that hold no message (`chunk_list/skipped.rs`), minus a count that
//! [`ListCursor::task_done`] advances by one swap. This costs the same however many tasks there
//! are, and keeps nothing about a received message.
//!
//! The words that say which processes have tasks in hand (`tasks_in_hand.rs`) are read only when no
//! message waits. Once no living process has a task in hand, the unfinished ones stay unfinished,
//! and `join` reports that.

use std::sync::atomic::Ordering;

use crate::arena::cell::BlockId;
use crate::arena::layout::MAX_PROCESSES;
use crate::channel::chunk_list::chunk::Chunk;
use crate::channel::chunk_list::slot::{Phase, View};
use crate::channel::chunk_list::{ListCursor, Next};
use crate::channel::counting::tasks_in_hand::Taker;
use crate::channel::queue::QueueObject;
use crate::error::{Error, Result, TooMany};
use crate::failpoint;
use crate::objects::object::{EXTENSION, Layout};
use crate::retries::Retries;

/// The words in the queue object for processes with tasks in hand. When they run out, each entry of
/// the process table gets one.
pub(crate) const TAKERS: usize = 8;

/// The size of the part with one word for each entry.
const PART: u64 = (MAX_PROCESSES * size_of::<Taker>()) as u64;

impl<'a> ListCursor<'a> {
    /// The number of messages put and not yet reported done.
    pub(crate) fn unfinished(&self) -> Result<u64> {
        let [put, reported] = self.put_and_reported()?;
        Ok(put.saturating_sub(reported))
    }

    /// Reads in this order, so that everything unfinished when the read began is in the difference.
    fn put_and_reported(&self) -> Result<[u64; 2]> {
        let skipped = self.chain.skipped.get().count();
        let reported = self.chain.reported.load(Ordering::SeqCst);
        Ok([self.end()?.saturating_sub(skipped), reported])
    }

    /// Reports one task done: one of this process's if it has any, otherwise any process's.
    pub(crate) fn task_done(&self) -> Result<Result<(), TooMany>> {
        let mut retries = Retries::default();
        loop {
            let [put, reported] = self.put_and_reported()?;
            if put <= reported {
                return Ok(Err(TooMany));
            }
            let swapped = self.chain.reported.compare_exchange(
                reported,
                reported + 1,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            if swapped.is_ok() {
                break;
            }
            retries.again()?;
        }
        failpoint::hit("queue.task_done");
        self.report_taken()?;
        if self.chain.finished.is_awaited() && self.unfinished()? == 0 {
            self.chain.finished.notify(u32::MAX);
        }
        Ok(Ok(()))
    }

    /// The number of messages that were received by processes that are gone and never reported
    /// done, if no other message is unfinished. Nobody will report those.
    pub(crate) fn lost(&self) -> Result<u64> {
        let before = self.put_and_reported()?;
        if self.is_due() || self.is_somebody_busy()? {
            return Ok(0);
        }
        let now = self.put_and_reported()?;
        // Both only grow, so between the two reads nothing was put and nothing was reported.
        match before == now {
            true => Ok(now[0].saturating_sub(now[1])),
            false => Ok(0),
        }
    }

    fn is_somebody_busy(&self) -> Result<bool> {
        let (inline, part) = self.takers()?;
        let mut words = inline.iter().chain(part.unwrap_or_default());
        Ok(words.any(|word| {
            let seen = word.get();
            let owner = seen.owner();
            !seen.is_idle() && owner.is_some_and(|owner| !self.arena.is_dead(owner))
        }))
    }

    /// Records that this process is about to take a task. It does so before it owns the message, so
    /// that at every instant some process has the task.
    #[inline(never)]
    pub(crate) fn begin_task(&self) -> Result<()> {
        let me = self.arena.me();
        let mut retries = Retries::default();
        loop {
            let (inline, part) = self.takers()?;
            let own = part.map(|part| &part[me.slot() as usize]);
            if inline.iter().chain(own).any(|word| word.begin(me)) {
                break;
            }
            let entered = |word: &Taker| {
                let seen = word.get();
                let is_free = seen.is_idle() || seen.owner().is_none_or(|o| self.arena.is_dead(o));
                is_free && word.enter(seen, me)
            };
            if inline.iter().any(entered) || own.is_some_and(entered) {
                break;
            }
            if part.is_none() {
                self.add_takers()?;
            }
            retries.again()?;
        }
        failpoint::hit("tasks.begun");
        Ok(())
    }

    /// Records whether this process took the task that it was about to take.
    #[inline(never)]
    pub(crate) fn end_task(&self, took: bool) -> Result<()> {
        let me = self.arena.me();
        let (inline, part) = self.takers()?;
        let own = part.map(|part| &part[me.slot() as usize]);
        // With several threads a process may have several words; it does not matter which one is
        // updated.
        inline.iter().chain(own).any(|word| word.end(me, took));
        failpoint::hit("tasks.ended");
        Ok(())
    }

    /// Counts off one taken task as reported: this process's, or a dead process's, or any
    /// process's.
    fn report_taken(&self) -> Result<()> {
        let me = self.arena.me();
        let (inline, part) = self.takers()?;
        let own = part.map(|part| &part[me.slot() as usize]);
        if inline.iter().chain(own).any(|word| word.report(me)) {
            return Ok(());
        }
        let words = || inline.iter().chain(part.unwrap_or_default());
        let of_others = |dead: bool| {
            words().any(|word| {
                let seen = word.get();
                let owner = seen.owner().filter(|_| seen.taken() > 0);
                owner.is_some_and(|o| self.arena.is_dead(o) == dead && word.report(o))
            })
        };
        // Otherwise the task was reported before it was received.
        let _ = of_others(true) || of_others(false);
        Ok(())
    }

    fn object(&self) -> Result<&QueueObject> {
        let payload = self.arena.payload(self.home)?;
        if self.arena.capacity(self.home) < size_of::<QueueObject>() as u64 {
            return Err(Error::BadHandle);
        }
        // SAFETY: only queues count tasks, a queue's chunk list lies in its object, and blocks are
        // never unmapped; all fields are atomics.
        Ok(unsafe { payload.cast().as_ref() })
    }

    /// The words in the object, and the words of all entries if they were made.
    fn takers(&self) -> Result<(&[Taker; TAKERS], Option<&[Taker]>)> {
        let object = self.object()?;
        let part = self.arena.part(object.head(), EXTENSION, PART);
        // SAFETY: the part is at least this large, 64-aligned and never unmapped; any bytes are
        // valid atomics.
        let part = part.map(|part| unsafe {
            std::slice::from_raw_parts(part.cast::<Taker>().as_ptr(), MAX_PROCESSES)
        });
        Ok((&object.takers, part))
    }

    #[cold]
    fn add_takers(&self) -> Result<()> {
        let head = self.object()?.head();
        self.arena.ensure_part(self.home, head, EXTENSION, PART)
    }

    /// Stops counting a slot whose writer died as a message that was put.
    pub(crate) fn discount(&self, chunk: &Chunk<'a>, index: u32) -> Result<()> {
        let Some(block) = chunk.link.block() else {
            return Ok(());
        };
        let mut retries = Retries::default();
        loop {
            self.settle_skipped()?;
            let seen = self.chain.skipped.get();
            if chunk.slot(index).word.look().view(chunk.inc()) != View::In(Phase::Lost) {
                return Ok(());
            }
            if seen.slot().is_none() && self.chain.skipped.name(seen, block.0, index) {
                failpoint::hit("skipped.named");
            }
            retries.again()?;
        }
    }

    /// Finishes counting the slot that the word names, if it names one.
    pub(crate) fn settle_skipped(&self) -> Result<()> {
        let mut retries = Retries::default();
        loop {
            let seen = self.chain.skipped.get();
            let Some((block, index)) = seen.slot() else {
                return Ok(());
            };
            let block = BlockId::new(block).ok_or(Error::Damaged)?;
            let chunk = Chunk::at(self.arena, block)?;
            // The word still names the slot, so the chunk is in the generation in which the slot
            // was lost.
            if self.chain.skipped.get() == seen {
                if index >= chunk.count {
                    return Err(Error::Damaged);
                }
                let word = &chunk.slot(index).word;
                word.pass(chunk.inc(), Phase::Lost, Phase::Skipped);
                failpoint::hit("skipped.settled");
                self.chain.skipped.count(seen);
            }
            retries.again()?;
        }
    }

    /// The position of the next message.
    pub(crate) fn end(&self) -> Result<u64> {
        let mut next = self.last()?;
        let mut retries = Retries::default();
        while let Some(chunk) = next {
            let mut index = chunk.header.claimed.get(&chunk);
            while index < chunk.count
                && matches!(chunk.slot(index).word.look().view(chunk.inc()), View::In(_))
            {
                index += 1;
            }
            let position = self.position(&chunk, index);
            if index < chunk.count && chunk.is_current() {
                return Ok(position);
            }
            next = match self.after(&chunk)? {
                Next::Chunk(after) => Some(after),
                Next::End if chunk.is_current() => return Ok(position),
                _ => {
                    retries.again()?;
                    self.last()?
                }
            };
        }
        Ok(0)
    }
}
