//! Counting what is in a chain. Nothing is counted while messages move: all of it is read off the slots.

use std::sync::atomic::Ordering;

use super::chain::{At, Next, done_in};
use super::repair;
use super::slot::{Phase, View};
use super::strip::Strip;
use crate::arena::owner::OwnerId;
use crate::error::{Result, TooMany};
use crate::retries::Retries;

/// Up to so many positions are looked at one by one; beyond, whole strips are taken as full.
const EXACT: u64 = 1 << 16;

/// Where a walk over the slots goes on.
pub(super) enum Step {
    NextSlot,
    NextStrip,
    Done,
    /// From the head, with a new sum.
    Again,
}

impl<'a> At<'a> {
    /// How many messages wait to be received.
    pub(super) fn len(&self) -> Result<u64> {
        self.tally(|phase| matches!(phase, Phase::Ready | Phase::Claimed(_)))
    }

    /// Whether a message is there, is being written, or may be given again by whoever is reading it.
    pub(super) fn is_due(&self) -> bool {
        self.tally(|phase| matches!(phase, Phase::Ready | Phase::Claimed(_) | Phase::Taken(_)))
            .map_or(true, |due| due > 0)
    }

    /// How many messages were put and not yet reported done.
    pub(super) fn unfinished(&self) -> Result<u64> {
        let slots = self.tally(|phase| !matches!(phase, Phase::Done | Phase::Pad))?;
        let credits = u64::from(self.chain.credits.load(Ordering::SeqCst));
        Ok(slots.saturating_sub(credits))
    }

    fn tally(&self, counts: impl Fn(Phase) -> bool) -> Result<u64> {
        let mut looked_at = 0;
        self.walk(self.head()?, |strip, index, sum| {
            // Far behind the head, a strip that is followed by another is taken as full.
            if looked_at >= EXACT && strip.next().block().is_some() {
                *sum += u64::from(strip.count - index);
                return Step::NextStrip;
            }
            looked_at += 1;
            match repair::look(self, strip, index) {
                View::In(phase) => {
                    *sum += u64::from(counts(phase));
                    Step::NextSlot
                }
                View::Empty => Step::Done,
                View::Stale => Step::Again,
            }
        })
    }

    /// Whether nothing waits to be received.
    pub(crate) fn is_empty(&self) -> bool {
        let found = self.first_to_receive().and_then(|first| {
            self.walk(first, |strip, index, found| {
                if index < strip.header.received.get(strip) {
                    return Step::NextSlot;
                }
                match repair::look(self, strip, index) {
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

    /// Goes over the slots from `first` on, those done at the start of a strip left out. A strip that
    /// was taken out on the way is a reason to begin again at the head with a new sum.
    pub(super) fn walk(
        &self,
        first: Option<Strip<'a>>,
        mut visit: impl FnMut(&Strip<'a>, u32, &mut u64) -> Step,
    ) -> Result<u64> {
        let mut next = first;
        let mut sum = 0;
        let mut retries = Retries::default();
        'strips: while let Some(strip) = next {
            let mut index = done_in(&strip);
            while index < strip.count {
                match visit(&strip, index, &mut sum) {
                    Step::NextSlot => index += 1,
                    Step::NextStrip => break,
                    Step::Done => return Ok(sum),
                    Step::Again => {
                        retries.again()?;
                        sum = 0;
                        next = self.head()?;
                        continue 'strips;
                    }
                }
            }
            next = match self.after(&strip)? {
                Next::Strip(after) => Some(after),
                Next::End => None,
                Next::Stale => {
                    retries.again()?;
                    sum = 0;
                    self.head()?
                }
            };
        }
        Ok(sum)
    }

    /// How many messages were received by processes that are gone and never reported done, if all others
    /// were: nobody will report those.
    pub(super) fn lost(&self) -> Result<u64> {
        let mut others = false;
        let lost = self.walk(self.head()?, |strip, index, lost| {
            match repair::look(self, strip, index) {
                View::In(Phase::Handed(reader)) if self.arena.is_dead(reader) => *lost += 1,
                View::In(Phase::Done | Phase::Pad) => {}
                View::In(_) => {
                    others = true;
                    return Step::Done;
                }
                View::Empty => return Step::Done,
                View::Stale => return Step::Again,
            }
            Step::NextSlot
        })?;
        Ok(if others { 0 } else { lost })
    }

    /// Turns the first message handed to whom it may concern into one that is done; false if there is none.
    fn report_done(&self, concerns: impl Fn(OwnerId) -> bool) -> Result<bool> {
        let reported = self.walk(self.head()?, |strip, index, reported| {
            let word = &strip.slot(index).word;
            match word.look().view(strip.inc()) {
                View::In(from @ Phase::Handed(reader)) if concerns(reader) => {
                    if word.pass(strip.inc(), from, Phase::Done) {
                        *reported = 1;
                        return Step::Done;
                    }
                    Step::NextSlot
                }
                View::In(_) => Step::NextSlot,
                View::Empty => Step::Done,
                View::Stale => Step::Again,
            }
        })?;
        Ok(reported > 0)
    }

    /// Reports one task done: one of this process's, or else anybody's.
    pub(super) fn task_done(&self) -> Result<Result<(), TooMany>> {
        let me = self.arena.me();
        if self.report_done(|reader| reader == me)? || self.report_done(|_| true)? {
            crate::kill::point("queue.task_done");
            self.retire_done()?;
            self.notify_if_finished()?;
            return Ok(Ok(()));
        }
        // Reported before the message was received: the next one received counts as done at once.
        if self.unfinished()? == 0 {
            return Ok(Err(TooMany));
        }
        self.chain.credits.fetch_add(1, Ordering::SeqCst);
        self.notify_if_finished()?;
        Ok(Ok(()))
    }

    fn notify_if_finished(&self) -> Result<()> {
        if self.chain.finished.is_awaited() && self.unfinished()? == 0 {
            self.chain.finished.notify(u32::MAX);
        }
        Ok(())
    }
}
