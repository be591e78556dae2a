//! The chain of strips that is a queue: finding, linking, retiring and taking apart.
//!
//! ```text
//! link a new strip N behind S:             retire a strip S, wherever it is, once all its slots are over:
//!   N making(me)                             S linked --> S retiring(me)
//!   S.next: end --> N                        freeze S.next;  lead over S  (anybody may help, `retire.rs`)
//!   N --> linked  (anybody may help)         S begins its next life;  S --> free
//! ```
//!
//! Each arrow is one compare-and-swap. A strip found belonging to a dead maker is linked exactly when
//! its predecessor says so; one found retiring by a dead process is finished by whoever finds it.
//!
//! So what is linked is what something may still happen in: a slot that a stopped process claimed keeps its own
//! strip, and none of those behind it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::link::{Link, LinkWord};
use super::pads::Pads;
use super::slot::View;
use super::strip::{Strip, next_class};
use crate::arena::Arena;
use crate::arena::block::BlockId;
use crate::arena::class::Class;
use crate::arena::object::Kind;
use crate::arena::owner::Owner;
use crate::error::{Error, Result};
use crate::kill;
use crate::retries::Retries;
use crate::sync::eventcount::EventCount;

/// The words of one queue. Zeroed but for `limit` and `flags` until the first strip is there.
#[repr(C, align(64))]
pub(crate) struct Chain {
    /// The most messages there may be; zero for no limit.
    pub(crate) limit: AtomicU64,
    /// The most bytes large messages may take while another is there; zero for no limit.
    pub(crate) byte_limit: AtomicU64,
    pub(crate) flags: AtomicU32,
    _pad: [AtomicU32; 11],
    /// The strip in which slots are claimed.
    pub(super) tail: LinkWord,
    /// How many messages put since that strip was linked would have needed a wide slot, about.
    pub(crate) medium: AtomicU32,
    _pad2: [AtomicU32; 13],
    /// The oldest strip.
    pub(super) head: LinkWord,
    /// The oldest strip from which something may be received. A hint: never one behind that.
    pub(super) received: LinkWord,
    _pad3: [AtomicU64; 6],
    /// Consumers sleep here.
    pub(crate) items: EventCount,
    _pad4: [AtomicU32; 15],
    /// Producers sleep here.
    pub(crate) space: EventCount,
    /// Those that wait for all tasks to be done sleep here.
    pub(crate) finished: EventCount,
    /// How many tasks were reported done, and how many slots stand for none (`tasks.rs`).
    pub(crate) reported: AtomicU64,
    pub(crate) pads: Pads,
    _pad5: [AtomicU64; 5],
}

pub(crate) const CLOSED: u32 = 1;
pub(crate) const JOINABLE: u32 = 2;

const _: () = assert!(size_of::<Chain>() == 320);

/// What is behind a strip.
pub(crate) enum Next<'a> {
    Strip(Strip<'a>),
    /// Nothing yet.
    End,
    /// The strip was taken out meanwhile: look at the chain anew.
    Stale,
}

/// A chain, where it lies, and the arena it lies in.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) chain: &'a Chain,
    /// The object the chain is in, its generation, and which of the object's chains it is.
    pub(crate) home: BlockId,
    pub(crate) generation: u32,
    pub(crate) which: u32,
}

impl<'a> At<'a> {
    #[inline]
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.chain.flags.load(Ordering::SeqCst) & flag != 0
    }

    pub(super) fn linked(&self, inc: u32) -> Owner {
        Owner::Linked {
            queue: self.home.0,
            inc,
        }
    }

    /// The position of a slot, by which limits go: that of its message, or what all slots before it take where
    /// the limit is one of bytes.
    #[inline]
    pub(crate) fn position(&self, strip: &Strip<'a>, index: u32) -> u64 {
        strip.base() + u64::from(index) * self.weight(strip)
    }

    #[inline]
    pub(crate) fn weight(&self, strip: &Strip<'a>) -> u64 {
        match self.chain.byte_limit.load(Ordering::Relaxed) {
            0 => 1,
            _ => strip.weight(),
        }
    }

    /// The strip that one of the chain's words names; `None` before the first one is there.
    #[inline(always)]
    pub(super) fn strip_at(&self, word: &LinkWord) -> Result<Option<Strip<'a>>> {
        let link = word.get();
        if link == Link::NONE {
            return Ok(None);
        }
        match Strip::of(self.arena, link)? {
            Some(strip) => Ok(Some(strip)),
            None => self.strip_at_last(word),
        }
    }

    /// As [`At::strip_at`]: a strip lives another life, then the word was moved off it before.
    #[cold]
    fn strip_at_last(&self, word: &LinkWord) -> Result<Option<Strip<'a>>> {
        let mut retries = Retries::default();
        loop {
            let link = word.get();
            if link == Link::NONE {
                return Ok(None);
            }
            if let Some(strip) = Strip::of(self.arena, link)? {
                return Ok(Some(strip));
            }
            retries.again()?;
        }
    }

    #[inline]
    pub(crate) fn head(&self) -> Result<Option<Strip<'a>>> {
        self.strip_at(&self.chain.head)
    }

    /// The strip to look for messages in first.
    #[inline(always)]
    pub(crate) fn first_to_receive(&self) -> Result<Option<Strip<'a>>> {
        match Strip::of(self.arena, self.chain.received.get())? {
            Some(strip) => Ok(Some(strip)),
            None => self.first_anew(),
        }
    }

    /// As [`At::first_to_receive`], after a strip was taken out under one's feet: what was taken out may lead on
    /// to what was taken out as well, so it begins at the head. The hint is moved there if it names such a strip.
    #[cold]
    pub(crate) fn first_anew(&self) -> Result<Option<Strip<'a>>> {
        let hint = self.chain.received.get();
        let head = self.head()?;
        if let Some(head) = head
            && Strip::of(self.arena, hint)?.is_none_or(|strip| strip.next().is_frozen())
        {
            self.chain.received.swing(hint, head.link);
        }
        Ok(head)
    }

    /// The strip in which slots are claimed, if there is one.
    pub(crate) fn last(&self) -> Result<Option<Strip<'a>>> {
        self.strip_at(&self.chain.tail)
    }

    /// The strip to claim a slot in, made if need be.
    #[inline(always)]
    pub(crate) fn tail(&self) -> Result<Strip<'a>> {
        match self.strip_at(&self.chain.tail)? {
            Some(strip) => Ok(strip),
            None => self.begin(),
        }
    }

    /// What is behind `strip`. Sees to it that the next strip is the chain's own.
    pub(crate) fn after(&self, strip: &Strip<'a>) -> Result<Next<'a>> {
        let seen = strip.next();
        // What was read belongs to this life only if the strip still lives it.
        if !strip.is_current() {
            return Ok(Next::Stale);
        }
        let link = seen.thawed();
        let Some(block) = link.block() else {
            return Ok(Next::End);
        };
        self.adopt(block, link.inc())?;
        match Strip::of(self.arena, link)? {
            // A chain only ever leads on: without that one could go round in it for ever.
            Some(next) if next.base() > strip.base() => Ok(Next::Strip(next)),
            // Before a strip ends its life, nothing leads on to it but what was taken out before.
            _ if !seen.is_frozen() && strip.next() == seen && strip.is_current() => {
                Err(Error::Damaged)
            }
            _ => Ok(Next::Stale),
        }
    }

    /// The strip behind `strip`, made if need be; the tail is moved on to it.
    pub(crate) fn extend(&self, strip: &Strip<'a>) -> Result<()> {
        if strip.next().block().is_none() {
            let wide = self.chain.medium.load(Ordering::Relaxed) > strip.count / 8;
            let class = next_class(false, wide);
            let base = self.position(strip, strip.count);
            let new = self.make(class, strip.link, base)?;
            kill::point("chain.made");
            let end = Link::end_of(strip.inc());
            match strip.header.next.swing(end, new) {
                true => self.chain.medium.store(0, Ordering::Relaxed),
                false => self.unmake(new),
            }
            kill::point("chain.linked");
        }
        if let Next::Strip(next) = self.after(strip)? {
            self.chain.tail.swing(strip.link, next.link);
        }
        Ok(())
    }

    /// Makes the first strip.
    #[cold]
    fn begin(&self) -> Result<Strip<'a>> {
        let head = &self.chain.head;
        if head.get() == Link::NONE {
            let new = self.make(next_class(true, false), Link::NONE, 0)?;
            kill::point("chain.made");
            if !head.swing(Link::NONE, new) {
                self.unmake(new);
            }
            kill::point("chain.begun");
        }
        let mut retries = Retries::default();
        loop {
            // Whoever linked the first strip may have died before it wrote the tail.
            let first = head.get();
            if let Some(block) = first.block() {
                self.adopt(block, first.inc())?;
                self.chain.received.swing(Link::NONE, first);
                self.chain.tail.swing(Link::NONE, first);
            }
            if let Some(strip) = self.strip_at(&self.chain.tail)? {
                return Ok(strip);
            }
            retries.again()?;
        }
    }

    /// A strip of this process's own, ready to be linked behind `prev`.
    fn make(&self, class: Class, prev: Link, base: u64) -> Result<Link> {
        let block = self.arena.alloc_class(class, class.size())?;
        let strip = Strip::at(self.arena, block)?;
        let header = strip.header;
        let link = Link::new(block.0, strip.next_life(self.arena));
        header.queue.store(self.home.0, Ordering::SeqCst);
        header.generation.store(self.generation, Ordering::SeqCst);
        header.which.store(self.which, Ordering::SeqCst);
        header.base.store(base, Ordering::SeqCst);
        header.prev.set(prev);
        header.next.set(Link::end_of(link.inc()));
        header.inc.store(link.inc(), Ordering::SeqCst);
        let cell = self.arena.cell(block)?;
        cell.kind.store(Kind::Strip as u32, Ordering::SeqCst);
        kill::point("chain.prepared");
        cell.owner.pass(self.arena.mine(), self.making(link.inc()));
        Ok(link)
    }

    fn making(&self, inc: u32) -> Owner {
        Owner::Making {
            by: self.arena.me(),
            inc,
        }
    }

    /// Gives back a strip that nobody saw.
    fn unmake(&self, link: Link) {
        if let Some(block) = link.block() {
            free(self.arena, block, self.making(link.inc()));
        }
    }

    /// Makes a linked strip the chain's own if its maker did not get to it.
    pub(super) fn adopt(&self, block: BlockId, inc: u32) -> Result<()> {
        let owner = &self.arena.cell(block)?.owner;
        let maker = owner.get();
        if let Owner::Making { by, .. } = maker
            && maker == (Owner::Making { by, inc }).cut()
        {
            owner.pass(maker, self.linked(inc));
        }
        Ok(())
    }

    /// Sees to it that none of the chain's words names `strip` any more; head last.
    ///
    /// A strip without a successor is only ever taken out when the whole chain is taken apart.
    pub(super) fn move_off(&self, strip: &Strip<'a>) {
        let next = match strip.next().thawed() {
            next if next.block().is_some() => next,
            _ => Link::NONE,
        };
        for word in [&self.chain.tail, &self.chain.received, &self.chain.head] {
            word.swing(strip.link, next);
        }
    }

    /// Frees every strip and every message, for a chain that nobody uses any more.
    fn dismantle(&self) {
        while let Ok(Some(strip)) = self.head() {
            free_messages(self.arena, &strip);
            let Some(block) = strip.link.block() else {
                break;
            };
            let next = strip.next().thawed();
            if let Some(successor) = next.block() {
                let _ = self.adopt(successor, next.inc());
            }
            let _ = self.adopt(block, strip.inc());
            let Ok(cell) = self.arena.cell(block) else {
                break;
            };
            let mine = Owner::Retiring {
                by: self.arena.me(),
                inc: strip.inc(),
            };
            let former = cell.owner.get();
            let ours = matches!(
                former,
                Owner::Linked { .. } | Owner::Retiring { .. } | Owner::Making { .. }
            ) && self.arena.claim(block, cell, former, mine);
            kill::point("chain.dismantling");
            self.move_off(&strip);
            if ours {
                strip.wipe();
                strip.end_life();
                free(self.arena, block, mine);
            }
        }
        self.chain.tail.set(Link::NONE);
        self.chain.received.set(Link::NONE);
    }
}

/// How many slots from the start are over, moving the strip's hint along if it is of this life.
pub(crate) fn over_in(strip: &Strip<'_>) -> u32 {
    let first = strip.header.received.get(strip);
    let mut over = first;
    while over < strip.count
        && matches!(strip.slot(over).word.look().view(strip.inc()), View::In(phase) if phase.is_over())
    {
        over += 1;
    }
    if over > first {
        strip.header.received.set(strip, over);
    }
    over
}

/// Notes of a free strip of this process's which lives it had, before its memory is given back.
pub(crate) fn empty(arena: &Arena, block: BlockId) {
    if let Ok(strip) = Strip::at(arena, block) {
        strip.forget(arena);
    }
}

/// Frees a strip that is between two lives.
pub(super) fn free(arena: &Arena, block: BlockId, from: Owner) {
    let Ok(cell) = arena.cell(block) else { return };
    cell.kind.store(Kind::Bytes as u32, Ordering::SeqCst);
    arena.free(block, from);
}

/// Frees the blocks of the messages in a strip that nobody will receive.
pub(super) fn free_messages(arena: &Arena, strip: &Strip<'_>) {
    let Some(own) = strip.link.block() else {
        return;
    };
    for (index, slot) in strip.slots() {
        let Some(block) = BlockId::new(slot.block.load(Ordering::SeqCst)) else {
            continue;
        };
        let owner = Owner::Slot {
            strip: own.0,
            index,
            inc: strip.inc(),
        };
        // Exactly the messages of this life: a number left over from another names another owner.
        let _ = arena.free(block, owner);
    }
}

/// The chains in the object of a block, if it is of a kind that has some.
pub(crate) fn chains_of(arena: &Arena, kind: Kind, block: BlockId) -> &[Chain] {
    let count = match kind {
        Kind::Queue => 1,
        Kind::Pipe => 2,
        _ => return &[],
    };
    let size = 64 + size_of::<Chain>() * count;
    match arena.payload(block) {
        // SAFETY: objects of these kinds have so many chains behind their 64-byte head (the layouts
        // assert it), blocks are mapped for good, and chains are atomics.
        Ok(payload) if arena.capacity(block) >= size as u64 => unsafe {
            std::slice::from_raw_parts(payload.add(64).cast().as_ptr(), count)
        },
        _ => &[],
    }
}

/// Takes all chains of an object apart.
pub(crate) fn dismantle_all(arena: &Arena, kind: Kind, block: BlockId) {
    for (which, chain) in chains_of(arena, kind, block).iter().enumerate() {
        let at = At {
            arena,
            chain,
            home: block,
            generation: 0,
            which: which as u32,
        };
        at.dismantle();
    }
}

/// The chain a strip says it belongs to, if that still is the same object.
pub(super) fn chain_of<'a>(arena: &'a Arena, strip: &Strip<'a>) -> Option<At<'a>> {
    let home = BlockId::new(strip.header.queue.load(Ordering::SeqCst))?;
    let cell = arena.cell(home).ok()?;
    let kind = Kind::from_u32(cell.kind.load(Ordering::SeqCst));
    let generation = strip.header.generation.load(Ordering::SeqCst);
    let which = strip.header.which.load(Ordering::SeqCst);
    let chain = chains_of(arena, kind, home).get(which as usize)?;
    (cell.generation.load(Ordering::SeqCst) == generation).then_some(At {
        arena,
        chain,
        home,
        generation,
        which,
    })
}

/// Keeps a strip whose maker died if it was linked, and frees it if not.
pub(crate) fn finish_linking(arena: &Arena, block: BlockId, from: Owner) {
    let Owner::Making { inc, .. } = from else {
        return;
    };
    let (Ok(strip), Ok(cell)) = (Strip::at(arena, block), arena.cell(block)) else {
        return;
    };
    let prev = strip.header.prev.get();
    let queue = strip.header.queue.load(Ordering::SeqCst);
    let linked = match prev.block() {
        Some(before) => {
            // Whoever takes a strip out adopts its successor first, so a predecessor that is not part
            // of the chain any more tells nothing about this one.
            let part = Owner::Linked {
                queue,
                inc: prev.inc(),
            };
            let in_chain = arena.cell(before).is_ok_and(|cell| cell.owner.is(part));
            let before = Strip::of(arena, prev).ok().flatten();
            in_chain && before.is_some_and(|before| before.next().thawed() == strip.link)
        }
        None => chain_of(arena, &strip).is_some_and(|at| at.chain.head.get() == strip.link),
    };
    if linked {
        cell.owner.pass(from, Owner::Linked { queue, inc });
    } else {
        free_unlinked(arena, block, from);
    }
}

/// Frees a strip that a dead process had not linked. No slot of it was touched in this life.
pub(crate) fn free_unlinked(arena: &Arena, block: BlockId, from: Owner) {
    let mine = arena.mine();
    if arena
        .cell(block)
        .is_ok_and(|cell| arena.claim(block, cell, from, mine))
    {
        free(arena, block, mine);
    }
}
