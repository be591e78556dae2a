//! Strips: the pieces a queue is made of.
//!
//! A strip is a block of a class of its own: a header and so many slots. It has lives, its *incarnations*.
//! Strips of one queue are linked in one direction, oldest first (`link.rs`).

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::link::{Link, LinkWord};
use super::over::Over;
use super::slot::{INC_MASK, SlotWord};
use crate::arena::Arena;
use crate::arena::block::BlockId;
use crate::arena::class::{self, Class, LONG_STRIP, SHORT_STRIP, STRIP_HEADER, WIDE_STRIP};
use crate::error::{Error, Result};
use crate::sys::cpu;

/// The size of the smallest slots.
const NARROW: u64 = 128;

/// The longest message that lies in its slot in every strip, and in a wide one.
pub(crate) const BODY: usize = 128 - SLOT_HEAD;
pub(crate) const WIDE_BODY: usize = 1152 - SLOT_HEAD;

impl Link {
    pub(crate) fn block(self) -> Option<BlockId> {
        BlockId::new(self.number())
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
    pub(crate) prev: LinkWord,
    /// The strip behind this one, or [`Link::end_of`] this life.
    pub(crate) next: LinkWord,
    _pad: [AtomicU64; 3],
    /// All slots before this one were claimed.
    pub(crate) claimed: Hint,
    /// The bytes of the messages in blocks that were put here, about: see [`Bytes`].
    pub(crate) large: Bytes,
    _pad2: [AtomicU64; 6],
    /// All slots before this one are over. Of this life once somebody looked for messages here.
    pub(crate) received: Hint,
    /// Which slots behind it are over as well.
    pub(crate) over: Over,
    _pad3: [AtomicU64; 6],
}

/// A slot number that holds for one life of the strip (high half). Too low is right as well, and so is
/// what a process that stalled over a former life may still write: it reads as zero.
#[repr(transparent)]
pub(crate) struct Hint(AtomicU64);

impl Hint {
    #[inline]
    pub(crate) fn get(&self, strip: &Strip<'_>) -> u32 {
        self.of_life(strip).unwrap_or(0)
    }

    #[inline]
    fn of_life(&self, strip: &Strip<'_>) -> Option<u32> {
        let word = self.0.load(Ordering::Relaxed);
        let holds = (word >> 32) as u32 == strip.inc();
        holds.then(|| (word as u32).min(strip.count))
    }

    /// As [`Hint::get`]; and from now on it is of this life.
    #[inline]
    pub(crate) fn begin(&self, strip: &Strip<'_>) -> u32 {
        self.of_life(strip).unwrap_or_else(|| {
            self.set(strip, 0);
            0
        })
    }

    #[inline]
    pub(crate) fn set(&self, strip: &Strip<'_>, index: u32) {
        let word = u64::from(strip.inc()) << 32 | u64::from(index);
        self.0.store(word, Ordering::Relaxed);
    }
}

/// How many bytes lie in blocks, in units of [`UNIT`], in one life of the strip (high half).
///
/// Who was killed between claiming its slot and adding its message's bytes is left out.
#[repr(transparent)]
pub(crate) struct Bytes(AtomicU64);

const UNIT: u64 = 64;

impl Bytes {
    pub(crate) fn get(&self, strip: &Strip<'_>) -> u64 {
        let word = self.0.load(Ordering::Relaxed);
        match (word >> 32) as u32 == strip.inc() {
            true => (word & u64::from(u32::MAX)) * UNIT,
            false => 0,
        }
    }

    pub(crate) fn add(&self, strip: &Strip<'_>, bytes: u64) {
        let more = bytes.div_ceil(UNIT);
        let add = |word: u64| {
            let life = u64::from(strip.inc());
            let there = if word >> 32 == life { word as u32 } else { 0 };
            let sum = u64::from(there).saturating_add(more);
            Some(life << 32 | sum.min(u32::MAX.into()))
        };
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// What every slot starts with; the message comes behind it.
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) word: SlotWord,
    /// Bytes in the message.
    pub(crate) length: AtomicU64,
    /// The block with the message; zero when it lies in the slot.
    pub(crate) block: AtomicU32,
    _pad: AtomicU32,
}

const SLOT_HEAD: usize = size_of::<Slot>();
const _: () = assert!(size_of::<StripHeader>() as u64 == STRIP_HEADER && SLOT_HEAD == 24);

/// A strip as seen by somebody at work in one of its lives.
#[derive(Clone, Copy)]
pub(crate) struct Strip<'a> {
    pub(crate) header: &'a StripHeader,
    slots: NonNull<u8>,
    pub(crate) count: u32,
    /// From one slot to the next.
    stride: u32,
    pub(crate) link: Link,
}

impl<'a> Strip<'a> {
    /// The strip in `block`, whatever life it lives.
    #[inline(always)]
    pub(crate) fn at(arena: &'a Arena, block: BlockId) -> Result<Strip<'a>> {
        let class = arena.mapped(block.segment())?.class;
        let Some((count, stride)) = class::slots_of(class) else {
            return Err(Error::BadHandle);
        };
        let payload = arena.payload(block)?;
        // SAFETY: a block of a strip class holds a header and `count` slots, is never anything else,
        // is mapped for good, and both are made of atomics.
        let (header, slots) = unsafe {
            let header = payload.cast::<StripHeader>();
            (header.as_ref(), header.add(1).cast())
        };
        let inc = header.inc.load(Ordering::SeqCst);
        Ok(Strip {
            header,
            slots,
            count,
            stride,
            link: Link::new(block.0, inc),
        })
    }

    /// The strip a link names; `None` when it lives another life now.
    #[inline(always)]
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

    /// Whether it still lives this life.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.header.inc.load(Ordering::SeqCst) & INC_MASK == self.inc()
    }

    /// Begins the next life, by the strip's owner alone: every slot says that it was used up in this one,
    /// and from now on whoever comes with a link to this life finds it over. Not a store: who was taken for dead
    /// may come later than the next owner.
    pub(crate) fn end_life(&self) {
        let next = self.inc().wrapping_add(1) & INC_MASK;
        let inc = &self.header.inc;
        let _ = inc.compare_exchange(self.inc(), next, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Which life a strip of this process's own begins with: every slot says that it was used up in the one before.
    ///
    /// A strip that says zero never lived, or its memory was given back. Then it gets a life that it never had:
    /// whoever stalled over one of those finds out.
    pub(crate) fn next_life(&self, arena: &Arena) -> u32 {
        let mut life = self.inc();
        // Nor a first one: a word of memory that was given back says that it was used up in life zero.
        while life < 2 {
            let lives = &arena.root().incarnations;
            life = lives.fetch_add(1, Ordering::SeqCst) as u32 & INC_MASK;
            for (_, slot) in self.slots() {
                slot.word.wipe(life.wrapping_sub(1));
            }
        }
        life
    }

    /// Says of a free strip of this process's that it never lived, and sees to it that it will get none of the
    /// lives it had.
    pub(crate) fn forget(&self, arena: &Arena) {
        let lives = &arena.root().incarnations;
        lives.fetch_max(u64::from(self.inc()), Ordering::SeqCst);
        self.header.inc.store(0, Ordering::SeqCst);
    }

    #[inline]
    fn slot_at(&self, index: u32) -> NonNull<u8> {
        assert!(index < self.count);
        // SAFETY: within the strip's count; see `at`.
        unsafe { self.slots.add(index as usize * self.stride as usize) }
    }

    #[inline]
    pub(crate) fn slot(&self, index: u32) -> &'a Slot {
        // SAFETY: every slot starts with one; see `at`. Strides are multiples of its alignment.
        unsafe { self.slot_at(index).cast().as_ref() }
    }

    /// Asks the processor for the slots behind one from which a message of `length` bytes was read: the
    /// next message, likely as long, was written on another processor.
    #[inline]
    pub(crate) fn expect_read(&self, index: u32, length: usize) {
        if index + 1 < self.count {
            let next = self.slot_at(index + 1);
            for line in 0..(SLOT_HEAD + length).div_ceil(64) {
                // SAFETY: the slot holds `length` bytes behind its head.
                cpu::expect_read(unsafe { next.add(line * 64) });
            }
        }
    }

    /// The longest message that lies in a slot here.
    #[inline]
    pub(crate) fn body_size(&self) -> usize {
        self.stride as usize - SLOT_HEAD
    }

    /// Where a message lies. It is read while others may take it away and put another there: whoever
    /// reads finds out by the slot's word. So it is atomics, too.
    #[inline]
    fn body(&self, index: u32) -> &'a [AtomicU64] {
        // SAFETY: the rest of the slot, 8-aligned.
        unsafe {
            let start = self.slot_at(index).add(SLOT_HEAD).cast();
            std::slice::from_raw_parts(start.as_ptr(), self.body_size() / 8)
        }
    }

    /// Writes a message of at most [`Strip::body_size`] bytes, by who claimed the slot.
    #[inline]
    pub(crate) fn write(&self, index: u32, parts: &[&[u8]]) {
        let body = self.body(index);
        if let [part] = parts {
            return write_words(body, part);
        }
        let bytes = parts.concat();
        write_words(body, &bytes);
    }

    /// Reads the first bytes of a slot, as many as `to` has.
    #[inline]
    pub(crate) fn read(&self, index: u32, to: &mut [u8]) {
        let body = self.body(index);
        let (words, rest) = to.as_chunks_mut::<8>();
        for (word, place) in words.iter_mut().zip(body) {
            *word = place.load(Ordering::Relaxed).to_ne_bytes();
        }
        if let Some(place) = body.get(words.len()) {
            let last = place.load(Ordering::Relaxed).to_ne_bytes();
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = (u32, &'a Slot)> + use<'a> {
        let strip = *self;
        (0..strip.count).map(move |index| (index, strip.slot(index)))
    }

    /// The strip behind this one; frozen once this one is being taken out.
    pub(crate) fn next(&self) -> Link {
        self.header.next.get()
    }

    /// The slots of this strip that one mark of [`Over`] stands for.
    pub(crate) fn group(&self) -> u32 {
        (self.count / Over::GROUPS).max(1)
    }

    /// From a slot on, the first one that is not known to be over.
    pub(crate) fn skip(&self, mut index: u32) -> u32 {
        let size = self.group();
        let is_over = |index| self.header.over.has(self.inc(), index / size);
        while index < self.count && index.is_multiple_of(size) && is_over(index) {
            index += size;
        }
        index
    }

    /// Steps from a slot to the next one, behind one that is not over. `run` says how many slots up to here were
    /// over, one behind the other.
    #[cold]
    pub(crate) fn step_behind(&self, index: u32, is_over: bool, run: &mut u32) -> u32 {
        *run = if is_over { *run + 1 } else { 0 };
        let next = index + 1;
        let size = self.group();
        if next.is_multiple_of(size) && *run >= size {
            self.header.over.set(self.inc(), next / size - 1);
        }
        self.skip(next)
    }

    /// Whether somebody may have received a message here, or looked for one.
    pub(crate) fn is_touched(&self) -> bool {
        self.header.received.of_life(self).is_some() || self.header.over.is_of(self.inc())
    }

    /// What one slot takes of a limit that is given in slots of the smallest kind.
    #[inline]
    pub(crate) fn weight(&self) -> u64 {
        u64::from(self.stride) / NARROW
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

/// The class of the next strip of a queue: it starts small and goes on large.
pub(crate) fn next_class(first: bool, wide: bool) -> Class {
    match (first, wide) {
        (true, _) => SHORT_STRIP,
        (_, true) => WIDE_STRIP,
        _ => LONG_STRIP,
    }
}

#[inline]
fn write_words(body: &[AtomicU64], bytes: &[u8]) {
    let (words, rest) = bytes.as_chunks::<8>();
    for (place, word) in body.iter().zip(words) {
        place.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
    }
    if let (false, Some(place)) = (rest.is_empty(), body.get(words.len())) {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        place.store(u64::from_ne_bytes(last), Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::channel::slot::View;

    /// A strip of this process's own.
    fn a_strip(arena: &Arena) -> Strip<'_> {
        let class = next_class(true, false);
        let block = arena.alloc_class(class, class.size()).expect("memory");
        Strip::at(arena, block).expect("a strip")
    }

    fn begin(arena: &Arena, block: BlockId) -> Strip<'_> {
        let strip = Strip::at(arena, block).expect("a strip");
        strip
            .header
            .inc
            .store(strip.next_life(arena), Ordering::SeqCst);
        let strip = Strip::at(arena, block).expect("a strip");
        for (_, slot) in strip.slots() {
            assert_eq!(slot.word.look().view(strip.inc()), View::Empty);
        }
        strip
    }

    #[test]
    fn after_the_last_number_a_strip_lives_on() {
        let arena = crate::arena::home().expect("an arena");
        let strip = a_strip(arena);
        let block = strip.link.block().expect("a block");
        strip.header.inc.store(INC_MASK, Ordering::SeqCst);
        let strip = Strip::at(arena, block).expect("a strip");
        strip.wipe();
        strip.end_life();
        assert!(!strip.is_current());
        assert_ne!(begin(arena, block).inc(), 0);
        arena.free(block, arena.mine());
    }

    #[test]
    fn a_strip_whose_memory_was_given_back_gets_a_life_it_never_had() {
        let arena = crate::arena::home().expect("an arena");
        let block = a_strip(arena).link.block().expect("a block");
        let mut lives = Vec::new();
        for round in 0..6 {
            let strip = begin(arena, block);
            assert!(!lives.contains(&strip.inc()));
            lives.push(strip.inc());
            strip.wipe();
            strip.end_life();
            if round % 2 == 0 {
                Strip::at(arena, block).expect("a strip").forget(arena);
                for (_, slot) in strip.slots() {
                    // As the kernel leaves it.
                    slot.word.zero();
                    let stalled = lives.iter().map(|life| slot.word.look().view(*life));
                    assert!(stalled.into_iter().all(|view| view == View::Stale));
                }
            }
        }
        arena.free(block, arena.mine());
    }
}
