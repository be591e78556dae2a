//! Takes a chunk out of its list, wherever it is: `link.rs` has the protocol.

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::owner::Owner;
use crate::channel::chunk_list::chunk::Chunk;
use crate::channel::chunk_list::link::{Link, LinkWord};
use crate::channel::chunk_list::{JOINABLE, ListCursor, chain_of, free, free_messages};
use crate::error::Result;
use crate::failpoint;
use crate::retries::Retries;

impl<'a> ListCursor<'a> {
    /// Takes out a chunk whose slots are all finished and that has a successor.
    ///
    /// If another process is already doing so, this one helps. A process that stops in the middle
    /// keeps the memory of this chunk but holds nobody up.
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
        self.unlink(chunk)?;
        failpoint::hit("chunk_list.moved");
        if claimed {
            chunk.end_generation();
            free(self.arena, block, mine);
        }
        Ok(())
    }

    /// Makes sure that nothing in the list leads to a chunk that is being retired, if it has a
    /// successor.
    fn unlink(&self, chunk: &Chunk<'a>) -> Result<()> {
        if self.has(JOINABLE) {
            // Nobody may look for a slot of this generation in the next one.
            self.settle_skipped()?;
        }
        let Some(next) = self.freeze(chunk)? else {
            return Ok(());
        };
        failpoint::hit("chunk_list.frozen");
        self.bypass(chunk)?;
        for word in [&self.chain.tail, &self.chain.received] {
            word.swing(chunk.link, next);
        }
        Ok(())
    }

    /// Freezes the `next` word of a chunk. Returns the successor, or `None` if there is none or the
    /// chunk is in another generation.
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
            // Adopt it first: only the word that its maker wrote may lead to a chunk that nobody has
            // adopted.
            self.adopt(block, next.inc())?;
            if next.is_frozen() || word.swing(next, next.frozen()) {
                return Ok(Some(next.thawed()));
            }
            retries.again()?;
        }
    }

    /// Walks from the head to a frozen chunk and bypasses it, and all other frozen ones on the way.
    /// The chunks that are not frozen are few: something is still to happen in each.
    fn bypass(&self, gone: &Chunk<'a>) -> Result<()> {
        let mut retries = Retries::default();
        let mut from: Option<Chunk<'a>> = None;
        while gone.is_current() {
            let word = from.map_or(&self.chain.head, |chunk| &chunk.header.next);
            let link = word.get();
            // A word of another generation says nothing about this list; a frozen word cannot be
            // changed.
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
                // Look at this word again.
                Some(Ok(Stepped::Bypassed)) => retries.again()?,
                Some(Ok(Stepped::Lost)) | None => {
                    retries.again()?;
                    from = None;
                }
            }
        }
        Ok(())
    }

    /// One step of [`ListCursor::bypass`], from the word that names `chunk`.
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
            true => Ok(Stepped::Bypassed),
            false => Ok(Stepped::Lost),
        }
    }
}

/// The result of one step along the list.
enum Stepped<'a> {
    /// To this chunk, which stays.
    On(Chunk<'a>),
    /// Bypassed a chunk that is being taken out.
    Bypassed,
    /// Past the place where the chunk was.
    Past,
    /// The list has changed.
    Lost,
}

/// Finishes a retirement in place of the process that died during it.
pub(crate) fn finish_retiring(arena: &Arena, block: BlockId, from: Owner) {
    let Owner::Retiring { inc, .. } = from else {
        return;
    };
    let mine = Owner::Retiring {
        by: arena.me(),
        inc,
    };
    // Claim the block first: no other process may be at work on it, and it must not have been
    // reused.
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
    // If its generation has already ended, all that is left is to free it.
    if Owner::same_inc(chunk.inc(), inc) {
        if let Some(cursor) = chain_of(arena, &chunk) {
            if cursor.unlink(&chunk).is_err() {
                // The memory was overwritten. Something may still lead to the chunk, so do not
                // reuse it.
                return;
            }
            // For a list that was being taken apart.
            cursor.move_off(&chunk);
        }
        free_messages(arena, &chunk);
        chunk.mark_used_up();
        chunk.end_generation();
    }
    free(arena, block, mine);
}
