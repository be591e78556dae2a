//! Taking a strip out of its chain, wherever it is: see `link.rs` for the protocol.

use super::chain::{At, JOINABLE, chain_of, free, free_messages};
use super::link::{Link, LinkWord};
use super::strip::Strip;
use crate::arena::Arena;
use crate::arena::block::BlockId;
use crate::arena::owner::Owner;
use crate::error::Result;
use crate::kill;
use crate::retries::Retries;

impl<'a> At<'a> {
    /// Takes out a strip whose slots are all over, and behind which there is another one.
    ///
    /// Whoever comes while another process is at it helps: a process that was stopped in the middle keeps the memory
    /// of this strip, and nobody from going on.
    pub(crate) fn retire(&self, strip: &Strip<'a>) -> Result<()> {
        let Some(block) = strip.link.block() else {
            return Ok(());
        };
        let by = self.arena.me();
        let inc = strip.inc();
        let cell = self.arena.cell(block)?;
        let mine = Owner::Retiring { by, inc };
        let claimed = self.arena.claim(block, cell, self.linked(inc), mine);
        kill::point("chain.retiring");
        self.take_out(strip)?;
        kill::point("chain.moved");
        if claimed {
            strip.end_life();
            free(self.arena, block, mine);
        }
        Ok(())
    }

    /// Sees to it that nothing leads on to a strip any more that is being retired, if it has a successor.
    fn take_out(&self, strip: &Strip<'a>) -> Result<()> {
        if self.has(JOINABLE) {
            // Nobody is to look for a slot of this life in the next one.
            self.settle_pads()?;
        }
        let Some(next) = self.freeze(strip)? else {
            return Ok(());
        };
        kill::point("chain.frozen");
        self.lead_over(strip)?;
        for word in [&self.chain.tail, &self.chain.received] {
            word.swing(strip.link, next);
        }
        Ok(())
    }

    /// Freezes the word that leads on from a strip; what it says, or `None` if there is nothing, or not any more.
    fn freeze(&self, strip: &Strip<'a>) -> Result<Option<Link>> {
        let word = &strip.header.next;
        let mut retries = Retries::default();
        loop {
            let next = word.get();
            if !strip.is_current() {
                return Ok(None);
            }
            let Some(block) = next.thawed().block() else {
                return Ok(None);
            };
            // What leads on to a strip that nobody adopted yet is only ever the word its maker wrote.
            self.adopt(block, next.inc())?;
            if next.is_frozen() || word.swing(next, next.frozen()) {
                return Ok(Some(next.thawed()));
            }
            retries.again()?;
        }
    }

    /// Goes from the head to a frozen strip and leads over it, and over all other frozen ones on the way. Those
    /// that are not are few: something is still to happen in each.
    fn lead_over(&self, gone: &Strip<'a>) -> Result<()> {
        let mut retries = Retries::default();
        let mut from: Option<Strip<'a>> = None;
        while gone.is_current() {
            let word = from.map_or(&self.chain.head, |strip| &strip.header.next);
            let link = word.get();
            // A word of another life says nothing about this chain; a frozen one cannot be changed.
            let stale = from.is_some_and(|strip| !strip.is_current()) || link.is_frozen();
            let next = match stale {
                true => None,
                false if link.block().is_none() => return Ok(()),
                false => Strip::of(self.arena, link)?,
            };
            match next.map(|strip| self.step_to(word, &strip, gone)) {
                Some(Ok(Stepped::On(strip))) => from = Some(strip),
                Some(Ok(Stepped::Past)) => return Ok(()),
                Some(Err(error)) => return Err(error),
                // Another look at this word.
                Some(Ok(Stepped::Over)) => retries.again()?,
                Some(Ok(Stepped::Lost)) | None => {
                    retries.again()?;
                    from = None;
                }
            }
        }
        Ok(())
    }

    /// One step of [`At::lead_over`], from the word that names `strip`.
    fn step_to(&self, word: &LinkWord, strip: &Strip<'a>, gone: &Strip<'a>) -> Result<Stepped<'a>> {
        let (base, next) = (strip.base(), strip.next());
        if !strip.is_current() {
            return Ok(Stepped::Lost);
        }
        if base > gone.base() {
            return Ok(Stepped::Past);
        }
        if !next.is_frozen() {
            return Ok(Stepped::On(*strip));
        }
        kill::point("chain.leading_over");
        match word.swing(strip.link, next.thawed()) {
            true => Ok(Stepped::Over),
            false => Ok(Stepped::Lost),
        }
    }
}

/// What became of one step along the chain.
enum Stepped<'a> {
    /// To this strip, which stays.
    On(Strip<'a>),
    /// Over one that is taken out.
    Over,
    /// Past the place where the strip was.
    Past,
    /// The chain has changed.
    Lost,
}

/// Finishes a retirement in the place of the process that died over it.
pub(crate) fn finish_retiring(arena: &Arena, block: BlockId, from: Owner) {
    let Owner::Retiring { inc, .. } = from else {
        return;
    };
    let mine = Owner::Retiring {
        by: arena.me(),
        inc,
    };
    // First of all: nobody else may be at it, and it must not have been used again.
    if !arena
        .cell(block)
        .is_ok_and(|cell| arena.claim(block, cell, from, mine))
    {
        return;
    }
    kill::point("chain.inherited");
    let Ok(strip) = Strip::at(arena, block) else {
        return;
    };
    // Unless its life was ended already, and nothing is left but freeing it.
    if Owner::same_inc(strip.inc(), inc) {
        if let Some(at) = chain_of(arena, &strip) {
            if at.take_out(&strip).is_err() {
                // Overwritten memory: what something may still lead on to is not used again.
                return;
            }
            // A chain that was being taken apart.
            at.move_off(&strip);
        }
        free_messages(arena, &strip);
        strip.wipe();
        strip.end_life();
    }
    free(arena, block, mine);
}
