//! The chain of strips that is a queue: finding, linking, retiring and taking apart.
//!
//! ```text
//! link a new strip N behind S:             retire the first strip S:
//!   N making(me)                             S linked --> S retiring(me)
//!   S.next: end --> N                        move head, received, tail off S  (anybody may help)
//!   N --> linked  (anybody may help)         S begins its next life;  S --> free
//! ```
//!
//! Each arrow is one compare-and-swap. A strip found belonging to a dead maker is linked exactly when
//! its predecessor says so; one found retiring by a dead process is finished by whoever finds it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::slot::{Phase, View};
use super::strip::{Link, Strip, next_class};
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
    /// Tasks reported done before their message was received.
    pub(crate) credits: AtomicU32,
    _pad: [AtomicU64; 5],
    /// The strip in which slots are claimed.
    tail: AtomicU64,
    /// How many messages put since that strip was linked would have needed a wide slot, about.
    pub(crate) medium: AtomicU32,
    _pad2: [AtomicU32; 13],
    /// The oldest strip.
    head: AtomicU64,
    /// The oldest strip from which something may be received. A hint.
    received: AtomicU64,
    _pad3: [AtomicU64; 6],
    /// Consumers sleep here.
    pub(crate) items: EventCount,
    _pad4: [AtomicU32; 15],
    /// Producers sleep here.
    pub(crate) space: EventCount,
    /// Those that wait for all tasks to be done sleep here.
    pub(crate) finished: EventCount,
    _pad5: [AtomicU32; 14],
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

    fn linked(&self, inc: u32) -> Owner {
        Owner::Linked {
            queue: self.home.0,
            inc,
        }
    }

    /// The strip that one of the chain's words names; `None` before the first one is there.
    #[inline(always)]
    fn strip_at(&self, word: &AtomicU64) -> Result<Option<Strip<'a>>> {
        let link = Link::from_word(word.load(Ordering::SeqCst));
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
    fn strip_at_last(&self, word: &AtomicU64) -> Result<Option<Strip<'a>>> {
        let mut retries = Retries::default();
        loop {
            let link = Link::from_word(word.load(Ordering::SeqCst));
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
        let hint = Link::from_word(self.chain.received.load(Ordering::SeqCst));
        match Strip::of(self.arena, hint)? {
            Some(strip) => Ok(Some(strip)),
            None => self.head(),
        }
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
        let link = strip.next();
        // What was read belongs to this life only if the strip still lives it.
        if !strip.is_current() {
            return Ok(Next::Stale);
        }
        let Some(block) = link.block() else {
            return Ok(Next::End);
        };
        self.adopt(block, link.inc())?;
        match Strip::of(self.arena, link)? {
            // A chain only ever leads on: without that one could go round in it for ever.
            Some(next) if next.base() == strip.base().wrapping_add(strip.count.into()) => {
                Ok(Next::Strip(next))
            }
            // The next one is taken out only after this one.
            _ if strip.is_current() => Err(Error::Damaged),
            _ => Ok(Next::Stale),
        }
    }

    /// The strip behind `strip`, made if need be; the tail is moved on to it.
    pub(crate) fn extend(&self, strip: &Strip<'a>) -> Result<()> {
        if strip.next().block().is_none() {
            let wide = self.chain.medium.load(Ordering::Relaxed) > strip.count / 8;
            let class = next_class(false, wide);
            let base = strip.base() + u64::from(strip.count);
            let new = self.make(class, strip.link, base)?;
            kill::point("chain.made");
            let end = Link::end_of(strip.inc());
            match cas(&strip.header.next, end, new) {
                true => self.chain.medium.store(0, Ordering::Relaxed),
                false => self.unmake(new),
            }
            kill::point("chain.linked");
        }
        if let Next::Strip(next) = self.after(strip)? {
            cas(&self.chain.tail, strip.link, next.link);
        }
        Ok(())
    }

    /// Makes the first strip.
    #[cold]
    fn begin(&self) -> Result<Strip<'a>> {
        let head = &self.chain.head;
        if head.load(Ordering::SeqCst) == 0 {
            let new = self.make(next_class(true, false), Link::NONE, 0)?;
            kill::point("chain.made");
            if !cas(head, Link::NONE, new) {
                self.unmake(new);
            }
            kill::point("chain.begun");
        }
        let mut retries = Retries::default();
        loop {
            // Whoever linked the first strip may have died before it wrote the tail.
            let first = Link::from_word(head.load(Ordering::SeqCst));
            if let Some(block) = first.block() {
                self.adopt(block, first.inc())?;
                cas(&self.chain.received, Link::NONE, first);
                cas(&self.chain.tail, Link::NONE, first);
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
        let link = Link::new(block, strip.next_life(self.arena));
        header.queue.store(self.home.0, Ordering::SeqCst);
        header.generation.store(self.generation, Ordering::SeqCst);
        header.which.store(self.which, Ordering::SeqCst);
        header.base.store(base, Ordering::SeqCst);
        header.prev.store(prev.word(), Ordering::SeqCst);
        header
            .next
            .store(Link::end_of(link.inc()).word(), Ordering::SeqCst);
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
    fn adopt(&self, block: BlockId, inc: u32) -> Result<()> {
        let owner = &self.arena.cell(block)?.owner;
        let maker = owner.get();
        if let Owner::Making { by, .. } = maker
            && maker == (Owner::Making { by, inc }).cut()
        {
            owner.pass(maker, self.linked(inc));
        }
        Ok(())
    }

    /// Moves the chain's hint off a strip from which nothing will be received any more.
    pub(crate) fn received_all(&self, strip: &Strip<'a>, next: &Strip<'a>) {
        cas(&self.chain.received, strip.link, next.link);
    }

    /// Frees the oldest strips, as far as everything in them is done.
    pub(crate) fn retire_done(&self) -> Result<()> {
        while let Some(head) = self.head()? {
            if done_in(&head) < head.count || !matches!(self.after(&head)?, Next::Strip(_)) {
                break;
            }
            self.retire(&head)?;
        }
        Ok(())
    }

    fn retire(&self, strip: &Strip<'a>) -> Result<()> {
        let Some(block) = strip.link.block() else {
            return Ok(());
        };
        let by = self.arena.me();
        let inc = strip.inc();
        self.arena.note(block);
        let claimed = self
            .arena
            .cell(block)?
            .owner
            .pass(self.linked(inc), Owner::Retiring { by, inc });
        kill::point("chain.retiring");
        self.move_off(strip);
        kill::point("chain.moved");
        if claimed {
            strip.end_life();
            free(self.arena, block, Owner::Retiring { by, inc });
        }
        Ok(())
    }

    /// Sees to it that none of the chain's words names `strip` any more; head last.
    ///
    /// A strip without a successor is only ever taken out when the whole chain is taken apart.
    fn move_off(&self, strip: &Strip<'a>) {
        let next = match strip.next() {
            next if next.block().is_some() => next,
            _ => Link::NONE,
        };
        for word in [&self.chain.tail, &self.chain.received, &self.chain.head] {
            cas(word, strip.link, next);
        }
    }

    /// Frees every strip and every message, for a chain that nobody uses any more.
    fn dismantle(&self) {
        while let Ok(Some(strip)) = self.head() {
            free_messages(self.arena, &strip);
            let Some(block) = strip.link.block() else {
                break;
            };
            let next = strip.next();
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
            self.arena.note(block);
            let former = cell.owner.get();
            let ours = matches!(
                former,
                Owner::Linked { .. } | Owner::Retiring { .. } | Owner::Making { .. }
            ) && cell.owner.pass(former, mine);
            kill::point("chain.dismantling");
            self.move_off(&strip);
            if ours {
                strip.wipe();
                strip.end_life();
                free(self.arena, block, mine);
            }
        }
        self.chain.tail.store(0, Ordering::SeqCst);
        self.chain.received.store(0, Ordering::SeqCst);
    }
}

fn cas(word: &AtomicU64, from: Link, to: Link) -> bool {
    word.compare_exchange(from.word(), to.word(), Ordering::SeqCst, Ordering::SeqCst)
        .is_ok()
}

/// How many slots from the start are done, moving the strip's hint along.
pub(crate) fn done_in(strip: &Strip<'_>) -> u32 {
    let first = strip.header.done.get(strip);
    let mut done = first;
    while done < strip.count
        && matches!(
            strip.slot(done).word.look().view(strip.inc()),
            View::In(Phase::Done | Phase::Pad)
        )
    {
        done += 1;
    }
    if done > first {
        strip.header.done.set(strip, done);
    }
    done
}

/// Notes of a free strip of this process's which lives it had, before its memory is given back.
pub(crate) fn empty(arena: &Arena, block: BlockId) {
    if let Ok(strip) = Strip::at(arena, block) {
        strip.forget(arena);
    }
}

/// Frees a strip that is between two lives.
fn free(arena: &Arena, block: BlockId, from: Owner) {
    let Ok(cell) = arena.cell(block) else { return };
    cell.kind.store(Kind::Bytes as u32, Ordering::SeqCst);
    arena.free(block, from);
}

/// Frees the blocks of the messages in a strip that nobody will receive.
fn free_messages(arena: &Arena, strip: &Strip<'_>) {
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
fn chain_of<'a>(arena: &'a Arena, strip: &Strip<'a>) -> Option<At<'a>> {
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

/// Finishes a retirement in the place of the process that died over it.
pub(crate) fn finish_retiring(arena: &Arena, block: BlockId, from: Owner) {
    let Owner::Retiring { inc, .. } = from else {
        return;
    };
    let mine = Owner::Retiring {
        by: arena.me(),
        inc,
    };
    arena.note(block);
    // First of all: nobody else may be at it, and it must not have been used again.
    if !arena
        .cell(block)
        .is_ok_and(|cell| cell.owner.pass(from, mine))
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
            at.move_off(&strip);
        }
        free_messages(arena, &strip);
        strip.wipe();
        strip.end_life();
    }
    free(arena, block, mine);
}

/// Keeps a strip whose maker died if it was linked, and frees it if not.
pub(crate) fn finish_linking(arena: &Arena, block: BlockId, from: Owner) {
    let Owner::Making { inc, .. } = from else {
        return;
    };
    let (Ok(strip), Ok(cell)) = (Strip::at(arena, block), arena.cell(block)) else {
        return;
    };
    let prev = Link::from_word(strip.header.prev.load(Ordering::SeqCst));
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
            in_chain && before.is_some_and(|before| before.next() == strip.link)
        }
        None => chain_of(arena, &strip)
            .is_some_and(|at| at.chain.head.load(Ordering::SeqCst) == strip.link.word()),
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
    arena.note(block);
    if arena
        .cell(block)
        .is_ok_and(|cell| cell.owner.pass(from, mine))
    {
        free(arena, block, mine);
    }
}
