//! Taking a chunk out of its chain, wherever it is: see `link.rs` for the protocol.

use super::chunk::Chunk;
use super::chunk_list::{JOINABLE, ListCursor, chain_of, free, free_messages};
use super::link::{Link, LinkWord};
use crate::error::Result;
use crate::failpoint;
use crate::memory::Arena;
use crate::memory::block::BlockId;
use crate::memory::owner::Owner;
use crate::retries::Retries;

impl<'a> ListCursor<'a> {
    /// Takes out a chunk whose slots are all over, and behind which there is another one.
    ///
    /// Whoever comes while another process is at it helps: a process that was stopped in the middle keeps the memory
    /// of this chunk, and nobody from going on.
    pub(crate) fn retire(&self, chunk: &Chunk<'a>) -> Result<()> {
        let Some(block) = chunk.link.block() else {
            return Ok(());
        };
        let by = self.arena.me();
        let inc = chunk.inc();
        let cell = self.arena.cell(block)?;
        let mine = Owner::Retiring { by, inc };
        let claimed = self.arena.claim(block, cell, self.linked(inc), mine);
        failpoint::hit("chunk_list.retiring");
        self.take_out(chunk)?;
        failpoint::hit("chunk_list.moved");
        if claimed {
            chunk.end_life();
            free(self.arena, block, mine);
        }
        Ok(())
    }

    /// Sees to it that nothing leads on to a chunk any more that is being retired, if it has a successor.
    fn take_out(&self, chunk: &Chunk<'a>) -> Result<()> {
        if self.has(JOINABLE) {
            // Nobody is to look for a slot of this life in the next one.
            self.settle_pads()?;
        }
        let Some(next) = self.freeze(chunk)? else {
            return Ok(());
        };
        failpoint::hit("chunk_list.frozen");
        self.lead_over(chunk)?;
        for word in [&self.chain.tail, &self.chain.received] {
            word.swing(chunk.link, next);
        }
        Ok(())
    }

    /// Freezes the word that leads on from a chunk; what it says, or `None` if there is nothing, or not any more.
    fn freeze(&self, chunk: &Chunk<'a>) -> Result<Option<Link>> {
        let word = &chunk.header.next;
        let mut retries = Retries::default();
        loop {
            let next = word.get();
            if !chunk.is_current() {
                return Ok(None);
            }
            let Some(block) = next.thawed().block() else {
                return Ok(None);
            };
            // What leads on to a chunk that nobody adopted yet is only ever the word its maker wrote.
            self.adopt(block, next.inc())?;
            if next.is_frozen() || word.swing(next, next.frozen()) {
                return Ok(Some(next.thawed()));
            }
            retries.again()?;
        }
    }

    /// Goes from the head to a frozen chunk and leads over it, and over all other frozen ones on the way. Those
    /// that are not are few: something is still to happen in each.
    fn lead_over(&self, gone: &Chunk<'a>) -> Result<()> {
        let mut retries = Retries::default();
        let mut from: Option<Chunk<'a>> = None;
        while gone.is_current() {
            let word = from.map_or(&self.chain.head, |chunk| &chunk.header.next);
            let link = word.get();
            // A word of another life says nothing about this chain; a frozen one cannot be changed.
            let stale = from.is_some_and(|chunk| !chunk.is_current()) || link.is_frozen();
            let next = match stale {
                true => None,
                false if link.block().is_none() => return Ok(()),
                false => Chunk::of(self.arena, link)?,
            };
            match next.map(|chunk| self.step_to(word, &chunk, gone)) {
                Some(Ok(Stepped::On(chunk))) => from = Some(chunk),
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

    /// One step of [`ListCursor::lead_over`], from the word that names `chunk`.
    fn step_to(&self, word: &LinkWord, chunk: &Chunk<'a>, gone: &Chunk<'a>) -> Result<Stepped<'a>> {
        let (base, next) = (chunk.base(), chunk.next());
        if !chunk.is_current() {
            return Ok(Stepped::Lost);
        }
        if base > gone.base() {
            return Ok(Stepped::Past);
        }
        if !next.is_frozen() {
            return Ok(Stepped::On(*chunk));
        }
        failpoint::hit("chunk_list.leading_over");
        match word.swing(chunk.link, next.thawed()) {
            true => Ok(Stepped::Over),
            false => Ok(Stepped::Lost),
        }
    }
}

/// What became of one step along the chain.
enum Stepped<'a> {
    /// To this chunk, which stays.
    On(Chunk<'a>),
    /// Over one that is taken out.
    Over,
    /// Past the place where the chunk was.
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
    failpoint::hit("chunk_list.inherited");
    let Ok(chunk) = Chunk::at(arena, block) else {
        return;
    };
    // Unless its life was ended already, and nothing is left but freeing it.
    if Owner::same_inc(chunk.inc(), inc) {
        if let Some(at) = chain_of(arena, &chunk) {
            if at.take_out(&chunk).is_err() {
                // Overwritten memory: what something may still lead on to is not used again.
                return;
            }
            // A chain that was being taken apart.
            at.move_off(&chunk);
        }
        free_messages(arena, &chunk);
        chunk.wipe();
        chunk.end_life();
    }
    free(arena, block, mine);
}
