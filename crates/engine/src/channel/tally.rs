//! Counting what is in a chain. Nothing is counted while messages move: all of it is read off the slots.

use std::sync::atomic::Ordering;

use super::chain::{At, done_in};
use super::repair;
use super::slot::{Phase, View};
use crate::error::{Result, TooMany};

/// Up to so many positions are looked at one by one; beyond, whole strips are taken as full.
const EXACT: u64 = 1 << 16;

impl At<'_> {
    /// How many messages wait to be received.
    pub(super) fn len(&self) -> Result<u64> {
        self.tally(|phase| matches!(phase, Phase::Ready | Phase::Claimed(_)))
    }

    /// How many messages were put and not yet reported done.
    pub(super) fn unfinished(&self) -> Result<u64> {
        let slots = self.tally(|phase| !matches!(phase, Phase::Done | Phase::Pad))?;
        let credits = u64::from(self.chain.credits.load(Ordering::SeqCst));
        Ok(slots.saturating_sub(credits))
    }

    fn tally(&self, counts: impl Fn(Phase) -> bool) -> Result<u64> {
        let mut sum = 0;
        let mut looked_at = 0;
        let mut next = self.head()?;
        while let Some(strip) = next {
            let after = self.after(&strip)?;
            if looked_at >= EXACT && after.is_some() {
                sum += u64::from(strip.count);
                next = after;
                continue;
            }
            for index in done_in(&strip)..strip.count {
                looked_at += 1;
                match repair::look(self, &strip, index) {
                    View::In(phase) => sum += u64::from(counts(phase)),
                    View::Empty | View::Stale => return Ok(sum),
                }
            }
            next = after;
        }
        Ok(sum)
    }

    /// Whether nothing waits to be received.
    pub(super) fn is_empty(&self) -> bool {
        let Ok(mut next) = self.first_to_receive() else {
            return true;
        };
        while let Some(strip) = next {
            for index in strip.header.received.get(&strip)..strip.count {
                match repair::look(self, &strip, index) {
                    View::In(Phase::Ready) => return false,
                    View::In(_) => {}
                    View::Empty | View::Stale => return true,
                }
            }
            next = self.after(&strip).ok().flatten();
        }
        true
    }

    /// Reports one task done.
    pub(super) fn task_done(&self) -> Result<Result<(), TooMany>> {
        let mut next = self.head()?;
        while let Some(strip) = next {
            for index in done_in(&strip)..strip.count {
                let word = &strip.slot(index).word;
                if word.look().view(strip.inc()) == View::In(Phase::Handed)
                    && word.pass(strip.inc(), Phase::Handed, Phase::Done)
                {
                    crate::kill::point("queue.task_done");
                    self.retire_done()?;
                    self.notify_if_finished()?;
                    return Ok(Ok(()));
                }
            }
            next = self.after(&strip)?;
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
