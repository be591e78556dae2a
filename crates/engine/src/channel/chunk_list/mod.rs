//! The list of chunks that makes up a queue: find, link, retire and dismantle chunks.
//!
//! ```text
//! link a new chunk N behind S:             retire a chunk S, wherever it is, once all its slots are finished:
//!   N making(me)                             S linked --> S retiring(me)
//!   S.next: end --> N                        freeze S.next;  bypass S  (any process may help, `retire.rs`)
//!   N --> linked  (any process may help)     S begins its next generation;  S --> free
//! ```
//!
//! Each arrow is one compare-and-swap. A chunk whose maker died counts as linked exactly when its
//! predecessor links to it. A chunk that a dead process was retiring is finished by the process
//! that finds it.
//!
//! So a chunk stays linked only while something may still happen in it. A slot that a stopped
//! process claimed keeps its own chunk, and none of those behind it.

pub(crate) mod chunk;
mod done_marks;
pub(crate) mod link;
mod retire;
pub(crate) mod skipped;
pub(crate) mod slot;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::kind::Kind;
use crate::arena::owner::Owner;
use crate::arena::size_class::SizeClass;
use crate::arena::upcalls::KindOps;
use crate::channel::chunk_list::chunk::{Chunk, next_class};
use crate::channel::chunk_list::link::{Link, LinkWord};
use crate::channel::chunk_list::skipped::SkippedCount;
use crate::channel::chunk_list::slot::View;
use crate::error::{Error, Result};
use crate::eventcount::EventCount;
use crate::failpoint;
use crate::retries::Retries;

/// The words of one queue. All zero, except `limit` and `flags`, until there is a first chunk.
#[repr(C, align(64))]
pub(crate) struct ChunkList {
    /// The largest number of messages; zero for no limit.
    pub(crate) limit: AtomicU64,
    /// The most bytes that large messages may take while another message is there; zero for no
    /// limit.
    pub(crate) byte_limit: AtomicU64,
    pub(crate) flags: AtomicU32,
    _pad: [AtomicU32; 11],
    /// The chunk in which slots are claimed.
    pub(crate) tail: LinkWord,
    /// Roughly how many messages put since that chunk was linked would have needed a wide slot.
    pub(crate) medium: AtomicU32,
    _pad2: [AtomicU32; 13],
    /// The oldest chunk.
    pub(crate) head: LinkWord,
    /// The oldest chunk from which something may be received. A hint: it is never behind that
    /// chunk.
    pub(crate) received: LinkWord,
    _pad3: [AtomicU64; 6],
    /// Consumers sleep here.
    pub(crate) items: EventCount,
    _pad4: [AtomicU32; 15],
    /// Producers sleep here.
    pub(crate) space: EventCount,
    /// Processes that wait for all tasks to be done sleep here.
    pub(crate) finished: EventCount,
    /// The number of tasks reported done, and the number of slots that hold no message
    /// (`channel/counting/task_done.rs`).
    pub(crate) reported: AtomicU64,
    pub(crate) skipped: SkippedCount,
    _pad5: [AtomicU64; 5],
}

pub(crate) const CLOSED: u32 = 1;
pub(crate) const JOINABLE: u32 = 2;

const _: () = assert!(size_of::<ChunkList>() == 320);

/// What follows a chunk.
pub(crate) enum Next<'a> {
    Chunk(Chunk<'a>),
    /// Nothing yet.
    End,
    /// The chunk was taken out meanwhile: look at the list again.
    Stale,
}

/// A chunk list, where it lies, and the arena that it lies in.
#[derive(Clone, Copy)]
pub(crate) struct ListCursor<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) chain: &'a ChunkList,
    /// The object that the list is in, its generation, and which of the object's lists it is.
    pub(crate) home: BlockId,
    pub(crate) generation: u32,
    pub(crate) which: u32,
}

impl<'a> ListCursor<'a> {
    #[inline]
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.chain.flags.load(Ordering::SeqCst) & flag != 0
    }

    pub(crate) fn linked(&self, inc: u32) -> Owner {
        Owner::Linked {
            queue: self.home.0,
            inc,
        }
    }

    /// The position of a slot, which limits are compared with: the number of its message, or, where
    /// the limit is one of bytes, what all slots before it take.
    #[inline]
    pub(crate) fn position(&self, chunk: &Chunk<'a>, index: u32) -> u64 {
        chunk.base() + u64::from(index) * self.weight(chunk)
    }

    #[inline]
    pub(crate) fn weight(&self, chunk: &Chunk<'a>) -> u64 {
        match self.chain.byte_limit.load(Ordering::Relaxed) {
            0 => 1,
            _ => chunk.weight(),
        }
    }

    /// The chunk that one of the list's words names; `None` before there is a first chunk.
    #[inline(always)]
    pub(crate) fn chunk_at(&self, word: &LinkWord) -> Result<Option<Chunk<'a>>> {
        let link = word.get();
        if link == Link::NONE {
            return Ok(None);
        }
        match Chunk::of(self.arena, link)? {
            Some(chunk) => Ok(Some(chunk)),
            None => self.chunk_at_last(word),
        }
    }

    /// Like [`ListCursor::chunk_at`]. If a chunk is in another generation, the word was moved off
    /// it before that; so read the word again.
    #[cold]
    fn chunk_at_last(&self, word: &LinkWord) -> Result<Option<Chunk<'a>>> {
        let mut retries = Retries::default();
        loop {
            let link = word.get();
            if link == Link::NONE {
                return Ok(None);
            }
            if let Some(chunk) = Chunk::of(self.arena, link)? {
                return Ok(Some(chunk));
            }
            retries.again()?;
        }
    }

    #[inline]
    pub(crate) fn head(&self) -> Result<Option<Chunk<'a>>> {
        self.chunk_at(&self.chain.head)
    }

    /// The chunk in which to look for messages first.
    #[inline(always)]
    pub(crate) fn first_to_receive(&self) -> Result<Option<Chunk<'a>>> {
        match Chunk::of(self.arena, self.chain.received.get())? {
            Some(chunk) => Ok(Some(chunk)),
            None => self.first_from_head(),
        }
    }

    /// Like [`ListCursor::first_to_receive`], after a chunk was taken out during a walk. A chunk
    /// that was taken out may lead to others that were taken out as well, so this begins at the
    /// head. If the hint names such a chunk, it is moved to the head.
    #[cold]
    pub(crate) fn first_from_head(&self) -> Result<Option<Chunk<'a>>> {
        let hint = self.chain.received.get();
        let head = self.head()?;
        if let Some(head) = head
            && Chunk::of(self.arena, hint)?.is_none_or(|chunk| chunk.next().is_frozen())
        {
            self.chain.received.swing(hint, head.link);
        }
        Ok(head)
    }

    /// The chunk in which slots are claimed, if there is one.
    pub(crate) fn last(&self) -> Result<Option<Chunk<'a>>> {
        self.chunk_at(&self.chain.tail)
    }

    /// The chunk in which slots are claimed; makes the first one if there is none.
    #[inline(always)]
    pub(crate) fn tail(&self) -> Result<Chunk<'a>> {
        match self.chunk_at(&self.chain.tail)? {
            Some(chunk) => Ok(chunk),
            None => self.begin(),
        }
    }

    /// What follows `chunk`. Makes sure that the next chunk belongs to the list.
    pub(crate) fn after(&self, chunk: &Chunk<'a>) -> Result<Next<'a>> {
        let seen = chunk.next();
        // The link belongs to this generation only if the chunk is still in it.
        if !chunk.is_current() {
            return Ok(Next::Stale);
        }
        let link = seen.thawed();
        let Some(block) = link.block() else {
            return Ok(Next::End);
        };
        self.adopt(block, link.inc())?;
        match Chunk::of(self.arena, link)? {
            // A list only ever leads forward. Without this check, a damaged list could be walked in
            // circles for ever.
            Some(next) if next.base() > chunk.base() => Ok(Next::Chunk(next)),
            // Until a chunk ends its generation, only chunks that were taken out before it lead to
            // it.
            _ if !seen.is_frozen() && chunk.next() == seen && chunk.is_current() => {
                Err(Error::Damaged)
            }
            _ => Ok(Next::Stale),
        }
    }

    /// Makes the chunk behind `chunk` if there is none, and moves the tail to it.
    pub(crate) fn extend(&self, chunk: &Chunk<'a>) -> Result<()> {
        if chunk.next().block().is_none() {
            let wide = self.chain.medium.load(Ordering::Relaxed) > chunk.count / 8;
            let class = next_class(false, wide);
            let base = self.position(chunk, chunk.count);
            let new = self.make(class, chunk.link, base)?;
            failpoint::hit("chunk_list.made");
            let end = Link::end_of(chunk.inc());
            match chunk.header.next.swing(end, new) {
                true => self.chain.medium.store(0, Ordering::Relaxed),
                false => self.discard(new),
            }
            failpoint::hit("chunk_list.linked");
        }
        if let Next::Chunk(next) = self.after(chunk)? {
            self.chain.tail.swing(chunk.link, next.link);
        }
        Ok(())
    }

    /// Makes the first chunk.
    #[cold]
    fn begin(&self) -> Result<Chunk<'a>> {
        let head = &self.chain.head;
        if head.get() == Link::NONE {
            let new = self.make(next_class(true, false), Link::NONE, 0)?;
            failpoint::hit("chunk_list.made");
            if !head.swing(Link::NONE, new) {
                self.discard(new);
            }
            failpoint::hit("chunk_list.begun");
        }
        let mut retries = Retries::default();
        loop {
            // The process that linked the first chunk may have died before it wrote the tail.
            let first = head.get();
            if let Some(block) = first.block() {
                self.adopt(block, first.inc())?;
                self.chain.received.swing(Link::NONE, first);
                self.chain.tail.swing(Link::NONE, first);
            }
            if let Some(chunk) = self.chunk_at(&self.chain.tail)? {
                return Ok(chunk);
            }
            retries.again()?;
        }
    }

    /// Makes a chunk, owned by this process and ready to be linked behind `prev`.
    fn make(&self, class: SizeClass, prev: Link, base: u64) -> Result<Link> {
        let block = self.arena.alloc_class(class, class.size())?;
        let chunk = Chunk::at(self.arena, block)?;
        let header = chunk.header;
        let link = Link::new(block.0, chunk.next_generation(self.arena));
        header.queue.store(self.home.0, Ordering::SeqCst);
        header.generation.store(self.generation, Ordering::SeqCst);
        header.which.store(self.which, Ordering::SeqCst);
        header.base.store(base, Ordering::SeqCst);
        header.prev.set(prev);
        header.next.set(Link::end_of(link.inc()));
        header.inc.store(link.inc(), Ordering::SeqCst);
        let cell = self.arena.cell(block)?;
        cell.kind.store(Kind::Chunk as u32, Ordering::SeqCst);
        failpoint::hit("chunk_list.prepared");
        cell.owner.pass(self.arena.mine(), self.making(link.inc()));
        Ok(link)
    }

    fn making(&self, inc: u32) -> Owner {
        Owner::Making {
            by: self.arena.me(),
            inc,
        }
    }

    /// Frees a chunk that no other process saw.
    fn discard(&self, link: Link) {
        if let Some(block) = link.block() {
            free(self.arena, block, self.making(link.inc()));
        }
    }

    /// Makes a linked chunk the list's own if its maker did not get to it.
    pub(crate) fn adopt(&self, block: BlockId, inc: u32) -> Result<()> {
        let owner = &self.arena.cell(block)?.owner;
        let maker = owner.get();
        if let Owner::Making { by, .. } = maker
            && maker == (Owner::Making { by, inc }).truncated()
        {
            owner.pass(maker, self.linked(inc));
        }
        Ok(())
    }

    /// Makes sure that none of the list's words names `chunk` any more. Moves the head last.
    ///
    /// A chunk without a successor is taken out only when the whole list is dismantled.
    pub(crate) fn move_off(&self, chunk: &Chunk<'a>) {
        let next = match chunk.next().thawed() {
            next if next.block().is_some() => next,
            _ => Link::NONE,
        };
        for word in [&self.chain.tail, &self.chain.received, &self.chain.head] {
            word.swing(chunk.link, next);
        }
    }

    /// Frees every chunk and every message of a list that nobody uses any more.
    fn dismantle(&self) {
        while let Ok(Some(chunk)) = self.head() {
            free_messages(self.arena, &chunk);
            let Some(block) = chunk.link.block() else {
                break;
            };
            let next = chunk.next().thawed();
            if let Some(successor) = next.block() {
                let _ = self.adopt(successor, next.inc());
            }
            let _ = self.adopt(block, chunk.inc());
            let Ok(cell) = self.arena.cell(block) else {
                break;
            };
            let mine = Owner::Retiring {
                by: self.arena.me(),
                inc: chunk.inc(),
            };
            let previous = cell.owner.get();
            let ours = matches!(
                previous,
                Owner::Linked { .. } | Owner::Retiring { .. } | Owner::Making { .. }
            ) && self.arena.claim(block, cell, previous, mine);
            failpoint::hit("chunk_list.dismantling");
            self.move_off(&chunk);
            if ours {
                chunk.mark_used_up();
                chunk.end_generation();
                free(self.arena, block, mine);
            }
        }
        self.chain.tail.set(Link::NONE);
        self.chain.received.set(Link::NONE);
    }
}

/// The number of finished slots from the start. Moves the chunk's hint forward if it is of this
/// generation.
pub(crate) fn finished_prefix(chunk: &Chunk<'_>) -> u32 {
    let first = chunk.header.received.get(chunk);
    let mut finished = first;
    while finished < chunk.count
        && matches!(chunk.slot(finished).word.look().view(chunk.inc()), View::In(phase) if phase.is_finished())
    {
        finished += 1;
    }
    if finished > first {
        chunk.header.received.set(chunk, finished);
    }
    finished
}

/// Records which generations a free chunk of this process had, before its memory is given back.
pub(crate) fn empty(arena: &Arena, block: BlockId) {
    if let Ok(chunk) = Chunk::at(arena, block) {
        chunk.forget(arena);
    }
}

/// Frees a chunk that is between two generations.
pub(crate) fn free(arena: &Arena, block: BlockId, from: Owner) {
    let Ok(cell) = arena.cell(block) else { return };
    cell.kind.store(Kind::Bytes as u32, Ordering::SeqCst);
    arena.free(block, from);
}

/// Frees the blocks of the messages in a chunk that nobody will receive.
pub(crate) fn free_messages(arena: &Arena, chunk: &Chunk<'_>) {
    let Some(own) = chunk.link.block() else {
        return;
    };
    for (index, slot) in chunk.slots() {
        let Some(block) = BlockId::new(slot.block.load(Ordering::SeqCst)) else {
            continue;
        };
        let owner = Owner::Slot {
            chunk: own.0,
            index,
            inc: chunk.inc(),
        };
        // Frees exactly the messages of this generation: a number left over from an earlier one
        // names another owner.
        let _ = arena.free(block, owner);
    }
}

/// The chunk lists in the object in `block`, if its kind has any.
pub(crate) fn chains_of(arena: &Arena, kind: Kind, block: BlockId) -> &[ChunkList] {
    let count = match kind {
        Kind::Queue => 1,
        Kind::Pipe => 2,
        _ => return &[],
    };
    let size = 64 + size_of::<ChunkList>() * count;
    match arena.payload(block) {
        // SAFETY: objects of these kinds have this many lists behind their 64-byte head (the
        // layouts assert it), blocks are never unmapped, and the lists are atomics.
        Ok(payload) if arena.capacity(block) >= size as u64 => unsafe {
            std::slice::from_raw_parts(payload.add(64).cast().as_ptr(), count)
        },
        _ => &[],
    }
}

/// Dismantles all chunk lists of an object.
pub(crate) fn dismantle_all(arena: &Arena, kind: Kind, block: BlockId) {
    for (which, chain) in chains_of(arena, kind, block).iter().enumerate() {
        let cursor = ListCursor {
            arena,
            chain,
            home: block,
            generation: 0,
            which: which as u32,
        };
        cursor.dismantle();
    }
}

/// The list that a chunk says it belongs to, if the object is still the same.
pub(crate) fn chain_of<'a>(arena: &'a Arena, chunk: &Chunk<'a>) -> Option<ListCursor<'a>> {
    let home = BlockId::new(chunk.header.queue.load(Ordering::SeqCst))?;
    let cell = arena.cell(home).ok()?;
    let kind = Kind::from_u32(cell.kind.load(Ordering::SeqCst));
    let generation = chunk.header.generation.load(Ordering::SeqCst);
    let which = chunk.header.which.load(Ordering::SeqCst);
    let chain = chains_of(arena, kind, home).get(which as usize)?;
    (cell.generation.load(Ordering::SeqCst) == generation).then_some(ListCursor {
        arena,
        chain,
        home,
        generation,
        which,
    })
}

pub(crate) const CHUNK: KindOps = KindOps::of_block(|arena, block, from| match from {
    Owner::Retiring { .. } => retire::finish_retiring(arena, block, from),
    Owner::Making { .. } => finish_linking(arena, block, from),
    // Its owner had not begun to link it, or had already taken it out.
    _ => free_unlinked(arena, block, from),
});

/// Keeps a chunk whose maker died if it was linked, and frees it otherwise.
fn finish_linking(arena: &Arena, block: BlockId, from: Owner) {
    let Owner::Making { inc, .. } = from else {
        return;
    };
    let (Ok(chunk), Ok(cell)) = (Chunk::at(arena, block), arena.cell(block)) else {
        return;
    };
    let prev = chunk.header.prev.get();
    let queue = chunk.header.queue.load(Ordering::SeqCst);
    let linked = match prev.block() {
        Some(before) => {
            // A process that takes a chunk out adopts its successor first. So a predecessor that is
            // no longer part of the list says nothing about this chunk.
            let part = Owner::Linked {
                queue,
                inc: prev.inc(),
            };
            let in_chain = arena.cell(before).is_ok_and(|cell| cell.owner.is(part));
            let before = Chunk::of(arena, prev).ok().flatten();
            in_chain && before.is_some_and(|before| before.next().thawed() == chunk.link)
        }
        None => chain_of(arena, &chunk).is_some_and(|cursor| cursor.chain.head.get() == chunk.link),
    };
    if linked {
        cell.owner.pass(from, Owner::Linked { queue, inc });
    } else {
        free_unlinked(arena, block, from);
    }
}

/// Frees a chunk that a dead process had not linked. No slot of it was touched in this generation.
fn free_unlinked(arena: &Arena, block: BlockId, from: Owner) {
    let mine = arena.mine();
    if arena
        .cell(block)
        .is_ok_and(|cell| arena.claim(block, cell, from, mine))
    {
        free(arena, block, mine);
    }
}
