//! Strips: the pieces a queue is made of.
//!
//! A strip is a block of a class of its own: a header and so many slots. It has lives, its
//! *incarnations*; a link names a strip in one of them, so that a process that stalled over a former
//! life finds out. Strips of one queue are linked in one direction, oldest first.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::slot::{INC_MASK, SlotWord};
use crate::arena::Arena;
use crate::arena::block::BlockId;
use crate::arena::class::{Class, LONG_SLOTS, LONG_STRIP, SHORT_SLOTS, SHORT_STRIP};
use crate::error::{Error, Result};

/// The longest message that lies in its slot.
pub(crate) const BODY: usize = 104;

/// A strip in one of its lives. Zero: no strip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link(u64);

impl Link {
    pub(crate) const NONE: Link = Link(0);

    pub(crate) fn new(block: BlockId, inc: u32) -> Link {
        Link(u64::from(inc & INC_MASK) << 32 | u64::from(block.0))
    }

    /// What stands in `next` while incarnation `inc` has no successor.
    pub(crate) fn end_of(inc: u32) -> Link {
        Link(u64::from(inc & INC_MASK) << 32)
    }

    pub(crate) fn from_word(word: u64) -> Link {
        Link(word)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    pub(crate) fn block(self) -> Option<BlockId> {
        BlockId::new(self.0 as u32)
    }

    pub(crate) fn inc(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What every strip starts with; three cache lines: written once a life, by producers, by consumers.
#[repr(C, align(64))]
pub(crate) struct StripHeader {
    /// Which life this is.
    pub(crate) inc: AtomicU32,
    /// The object the queue is in, that object's generation, and which of its queues.
    pub(crate) queue: AtomicU32,
    pub(crate) generation: AtomicU32,
    pub(crate) which: AtomicU32,
    /// The position in the queue of the first slot.
    pub(crate) base: AtomicU64,
    /// The strip this one was to be linked behind.
    pub(crate) prev: AtomicU64,
    /// The strip behind this one, or [`Link::end_of`] this life.
    pub(crate) next: AtomicU64,
    _pad: [AtomicU64; 3],
    /// All slots before this one were claimed. A hint: too low is right as well. Written only by who
    /// has a slot of this life claimed, so that it never says anything about another life.
    pub(crate) claimed: AtomicU32,
    _pad2: [AtomicU32; 15],
    /// From all slots before this one nothing will be received any more. A hint, too, written only by
    /// who has a slot taken.
    pub(crate) received: AtomicU32,
    _pad3: AtomicU32,
    /// All slots before this one (low half) are done or pads, in the life in the high half. A hint, too.
    pub(crate) done: AtomicU64,
    _pad4: [AtomicU32; 12],
}

#[repr(C, align(64))]
pub(crate) struct Slot {
    pub(crate) word: SlotWord,
    /// Bytes in the message.
    pub(crate) length: AtomicU64,
    /// The block with the message; zero when it lies in `body`.
    pub(crate) block: AtomicU32,
    _pad: AtomicU32,
    body: std::cell::UnsafeCell<[u8; BODY]>,
}

const _: () = assert!(size_of::<StripHeader>() == 192 && size_of::<Slot>() == 128);

/// A strip as seen by somebody at work in one of its lives.
#[derive(Clone, Copy)]
pub(crate) struct Strip<'a> {
    pub(crate) header: &'a StripHeader,
    slots: NonNull<Slot>,
    pub(crate) count: u32,
    pub(crate) link: Link,
}

impl<'a> Strip<'a> {
    /// The strip in `block`, whatever life it lives.
    pub(crate) fn at(arena: &'a Arena, block: BlockId) -> Result<Strip<'a>> {
        let class = arena
            .segment(block.segment())
            .ok_or(Error::BadHandle)?
            .class;
        let count = match class {
            SHORT_STRIP => SHORT_SLOTS,
            LONG_STRIP => LONG_SLOTS,
            _ => return Err(Error::BadHandle),
        };
        let payload = arena.payload(block)?;
        // SAFETY: a block of a strip class holds a header and `count` slots, is never anything else,
        // is mapped for good, and both are atomics but for the bodies, reached by raw pointer only.
        let (header, slots) = unsafe {
            let header = payload.cast::<StripHeader>();
            (header.as_ref(), header.add(1).cast())
        };
        let inc = header.inc.load(Ordering::SeqCst);
        Ok(Strip {
            header,
            slots,
            count,
            link: Link::new(block, inc),
        })
    }

    /// The strip a link names; `None` when it lives another life now.
    pub(crate) fn of(arena: &'a Arena, link: Link) -> Result<Option<Strip<'a>>> {
        let Some(block) = link.block() else {
            return Ok(None);
        };
        let strip = Strip::at(arena, block)?;
        Ok((strip.link == link).then_some(strip))
    }

    pub(crate) fn inc(&self) -> u32 {
        self.link.inc()
    }

    pub(crate) fn slot(&self, index: u32) -> &'a Slot {
        assert!(index < self.count);
        // SAFETY: within the strip's count; see `at`.
        unsafe { self.slots.add(index as usize).as_ref() }
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = (u32, &'a Slot)> + use<'a> {
        let strip = *self;
        (0..strip.count).map(move |index| (index, strip.slot(index)))
    }

    pub(crate) fn next(&self) -> Link {
        Link::from_word(self.header.next.load(Ordering::SeqCst))
    }

    pub(crate) fn base(&self) -> u64 {
        self.header.base.load(Ordering::SeqCst)
    }

    /// Marks all slots as used up, for a strip that is nobody else's.
    pub(crate) fn wipe(&self) {
        for (_, slot) in self.slots() {
            slot.word.wipe(self.inc());
        }
    }
}

/// The class of the strip behind one of `class`: a queue starts small and goes on large.
pub(crate) fn class_after(first: bool) -> Class {
    if first { SHORT_STRIP } else { LONG_STRIP }
}

impl Slot {
    /// Where the message lies. Only who claimed or took the slot may follow the pointer.
    pub(crate) fn body(&self) -> *mut u8 {
        self.body.get().cast()
    }
}

// SAFETY: `body` is followed only by the one process that the word names; the rest is atomics.
unsafe impl Sync for Slot {}
