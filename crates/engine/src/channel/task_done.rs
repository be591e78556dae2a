//! Which tasks of a queue are not done yet.
//!
//! Unfinished is what was put less what was reported: the position of the next message, less the slots that stand
//! for none (`skipped.rs`), less a count that [`ListCursor::task_done`] moves by one swap. That costs the same however many
//! there are, and keeps nothing of a message that was received.
//!
//! Who has tasks in hand (`tasks_in_hand.rs`) is only asked when nothing waits: once nobody who lives has any, what is
//! unfinished stays so, and `join` says it.

use std::sync::atomic::Ordering;

use super::chunk::Chunk;
use super::chunk_list::{ListCursor, Next};
use super::queue::QueueObject;
use super::slot::{Phase, View};
use super::tasks_in_hand::Taker;
use crate::error::{Error, Result, TooMany};
use crate::failpoint;
use crate::memory::block::BlockId;
use crate::memory::layout::MAX_PROCESSES;
use crate::objects::object::{EXTENSION, Layout};
use crate::retries::Retries;

/// The words of processes that have tasks in hand; those beyond have one for each slot.
pub(super) const TAKERS: usize = 8;

/// The size of the part that holds one for each slot.
const PART: u64 = (MAX_PROCESSES * size_of::<Taker>()) as u64;

impl<'a> ListCursor<'a> {
    /// How many messages were put and not yet reported done.
    pub(super) fn unfinished(&self) -> Result<u64> {
        let [put, reported] = self.put_and_reported()?;
        Ok(put.saturating_sub(reported))
    }

    /// In this order: what was not finished when it began is in the difference.
    fn put_and_reported(&self) -> Result<[u64; 2]> {
        let skipped = self.chain.skipped.get().count();
        let reported = self.chain.reported.load(Ordering::SeqCst);
        Ok([self.end()?.saturating_sub(skipped), reported])
    }

    /// Reports one task done: one of this process's, or else anybody's.
    pub(super) fn task_done(&self) -> Result<Result<(), TooMany>> {
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

    /// How many messages were received by processes that are gone and never reported done, if all others
    /// were: nobody will report those.
    pub(super) fn lost(&self) -> Result<u64> {
        let before = self.put_and_reported()?;
        if self.is_due() || self.is_somebody_busy()? {
            return Ok(0);
        }
        let now = self.put_and_reported()?;
        // Both only grow: in between nothing was put, and nothing reported.
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

    /// Says that this process is about to take a task: before the message is its own, so that at every instant
    /// somebody has it.
    #[inline(never)]
    pub(super) fn begin_task(&self) -> Result<()> {
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
                let vacant = seen.is_idle() || seen.owner().is_none_or(|o| self.arena.is_dead(o));
                vacant && word.enter(seen, me)
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

    /// Says whether this process took the task it was about to take.
    #[inline(never)]
    pub(super) fn end_task(&self, took: bool) -> Result<()> {
        let me = self.arena.me();
        let (inline, part) = self.takers()?;
        let own = part.map(|part| &part[me.slot() as usize]);
        // With several threads it has several words at times: which of them says so is all one.
        inline.iter().chain(own).any(|word| word.end(me, took));
        failpoint::hit("tasks.ended");
        Ok(())
    }

    /// One task that was taken is reported: this process's, or a dead one's, or anybody's.
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
        // Else it was reported before it was received.
        let _ = of_others(true) || of_others(false);
        Ok(())
    }

    fn object(&self) -> Result<&QueueObject> {
        let payload = self.arena.payload(self.home)?;
        if self.arena.capacity(self.home) < size_of::<QueueObject>() as u64 {
            return Err(Error::BadHandle);
        }
        // SAFETY: only queues count tasks, the chain of one lies in its object, and blocks are mapped for good;
        // all of it is atomics.
        Ok(unsafe { payload.cast().as_ref() })
    }

    /// The first words, and those of each slot if they were made.
    fn takers(&self) -> Result<(&[Taker; TAKERS], Option<&[Taker]>)> {
        let object = self.object()?;
        let part = self.arena.part(object.head(), EXTENSION, PART);
        // SAFETY: the part is at least this large, 64-aligned, mapped for good; any bytes are atomics.
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

    /// Takes back that the message of a slot was put, whose writer died.
    pub(super) fn discount(&self, chunk: &Chunk<'a>, index: u32) -> Result<()> {
        let Some(block) = chunk.link.block() else {
            return Ok(());
        };
        let mut retries = Retries::default();
        loop {
            self.settle_pads()?;
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

    /// Counts the slot that is being counted, if there is one.
    pub(super) fn settle_pads(&self) -> Result<()> {
        let mut retries = Retries::default();
        loop {
            let seen = self.chain.skipped.get();
            let Some((block, index)) = seen.slot() else {
                return Ok(());
            };
            let block = BlockId::new(block).ok_or(Error::Damaged)?;
            let chunk = Chunk::at(self.arena, block)?;
            // Still named: so the chunk lives the life in which its slot was lost.
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
    pub(super) fn end(&self) -> Result<u64> {
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
