//! How chunks name each other, and how a chunk leaves the middle of its list.
//!
//! A link names a chunk in one of its generations, so a process that stalled in an earlier
//! generation notices. The `next` word of a chunk is frozen before the chunk is taken out. From
//! then on nothing can be linked, or taken out, behind it, and any process that meets a frozen word
//! takes the chunk out in its owner's place.
//!
//! ```text
//! take S out:   S.next: N --> N frozen     before S: S --> N
//! ```
//!
//! Each arrow is one compare-and-swap. If two neighbours leave at the same time, the later one
//! waits for the earlier one's second arrow, or takes it itself (T. Harris, "A pragmatic
//! implementation of non-blocking linked lists", 2001).

use crate::sys::atomic::{AtomicU64, Ordering};

use crate::channel::chunk_list::slot::INC_MASK;

/// A chunk in one of its generations, as a word that leads to it holds it. Zero: no chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link(u64);

const FROZEN: u64 = 1 << 63;

impl Link {
    pub(crate) const NONE: Link = Link(0);

    pub(crate) fn new(block: u32, inc: u32) -> Link {
        Link(u64::from(inc & INC_MASK) << 32 | u64::from(block))
    }

    /// The value of `next` while generation `inc` has no successor.
    pub(crate) fn end_of(inc: u32) -> Link {
        Link::new(0, inc)
    }

    /// The number of the block; zero for none.
    #[inline]
    pub(crate) fn number(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) fn inc(self) -> u32 {
        (self.0 >> 32) as u32 & INC_MASK
    }

    /// Whether the chunk whose word holds this link is being taken out.
    pub(crate) fn is_frozen(self) -> bool {
        self.0 & FROZEN != 0
    }

    pub(crate) fn frozen(self) -> Link {
        Link(self.0 | FROZEN)
    }

    pub(crate) fn thawed(self) -> Link {
        Link(self.0 & !FROZEN)
    }
}

/// A word that leads to a chunk.
#[repr(transparent)]
pub(crate) struct LinkWord(AtomicU64);

impl LinkWord {
    #[cfg(loom)]
    pub(crate) fn new(link: Link) -> LinkWord {
        LinkWord(AtomicU64::new(link.0))
    }

    #[inline]
    pub(crate) fn get(&self) -> Link {
        Link(self.0.load(Ordering::SeqCst))
    }

    /// For the maker of a chunk, before others see it, and for a list that nobody uses any more.
    pub(crate) fn set(&self, link: Link) {
        self.0.store(link.0, Ordering::SeqCst);
    }

    pub(crate) fn swing(&self, from: Link, to: Link) -> bool {
        self.0
            .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}
