//! Chunks: the pieces of a queue.
//!
//! A chunk is a block of a size class of its own: a header and a number of slots. It is used many
//! times; each use is a *generation*. The chunks of one queue are linked in one direction, oldest
//! first (`link.rs`).

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::size_class;
use crate::arena::size_class::{
    CHUNK_HEADER, LONG_CHUNK, NARROW_SLOT, SHORT_CHUNK, SizeClass, WIDE_CHUNK, WIDE_SLOT,
};
use crate::channel::chunk_list::done_marks::DoneMarks;
use crate::channel::chunk_list::link::{Link, LinkWord};
use crate::channel::chunk_list::slot::{INC_MASK, SlotWord};
use crate::error::{Error, Result};
use crate::sys::cpu;

/// The longest message that lies in its slot: in every chunk, and in a wide one.
pub(crate) const BODY: usize = NARROW_SLOT as usize - SLOT_HEAD;
pub(crate) const WIDE_BODY: usize = WIDE_SLOT as usize - SLOT_HEAD;

impl Link {
    pub(crate) fn block(self) -> Option<BlockId> {
        BlockId::new(self.number())
    }
}

/// The start of every chunk. Three cache lines: written once per generation, by producers, by
/// consumers.
#[repr(C, align(64))]
pub(crate) struct ChunkHeader {
    /// The chunk's generation.
    pub(crate) inc: AtomicU32,
    /// The object that the queue is in, the object's generation, and which of its queues it is.
    pub(crate) queue: AtomicU32,
    pub(crate) generation: AtomicU32,
    pub(crate) which: AtomicU32,
    /// The position of the first slot in the queue.
    pub(crate) base: AtomicU64,
    /// The chunk that this one was to be linked behind.
    pub(crate) prev: LinkWord,
    /// The chunk behind this one, or [`Link::end_of`] this generation.
    pub(crate) next: LinkWord,
    _pad: [AtomicU64; 3],
    /// All slots before this one were claimed.
    pub(crate) claimed: CursorHint,
    /// The approximate number of bytes in blocks of the messages put here: see [`LargeBytes`].
    pub(crate) large: LargeBytes,
    _pad2: [AtomicU64; 6],
    /// All slots before this one are finished. It is about this generation once a process looked
    /// for messages here.
    pub(crate) received: CursorHint,
    /// Which slots behind it are finished as well.
    pub(crate) done_marks: DoneMarks,
    _pad3: [AtomicU64; 6],
}

/// A slot index that is valid for one generation of the chunk (high half). It may be too low. What
/// a process that stalled in an earlier generation still writes reads as zero.
#[repr(transparent)]
pub(crate) struct CursorHint(AtomicU64);

impl CursorHint {
    #[inline]
    pub(crate) fn get(&self, chunk: &Chunk<'_>) -> u32 {
        self.of_this_generation(chunk).unwrap_or(0)
    }

    #[inline]
    fn of_this_generation(&self, chunk: &Chunk<'_>) -> Option<u32> {
        let word = self.0.load(Ordering::Relaxed);
        let holds = (word >> 32) as u32 == chunk.inc();
        holds.then(|| (word as u32).min(chunk.count))
    }

    /// Like [`CursorHint::get`], and makes the hint one of this generation.
    #[inline]
    pub(crate) fn begin(&self, chunk: &Chunk<'_>) -> u32 {
        self.of_this_generation(chunk).unwrap_or_else(|| {
            self.set(chunk, 0);
            0
        })
    }

    #[inline]
    pub(crate) fn set(&self, chunk: &Chunk<'_>, index: u32) {
        let word = u64::from(chunk.inc()) << 32 | u64::from(index);
        self.0.store(word, Ordering::Relaxed);
    }
}

/// How many bytes lie in blocks, in units of [`UNIT`] (low half), in one generation of the chunk
/// (high half).
///
/// A process that is killed between claiming its slot and adding its message's bytes is not
/// counted.
#[repr(transparent)]
pub(crate) struct LargeBytes(AtomicU64);

const UNIT: u64 = 64;

impl LargeBytes {
    pub(crate) fn get(&self, chunk: &Chunk<'_>) -> u64 {
        let word = self.0.load(Ordering::Relaxed);
        match (word >> 32) as u32 == chunk.inc() {
            true => (word & u64::from(u32::MAX)) * UNIT,
            false => 0,
        }
    }

    pub(crate) fn add(&self, chunk: &Chunk<'_>, bytes: u64) {
        let more = bytes.div_ceil(UNIT);
        let add = |word: u64| {
            let inc = u64::from(chunk.inc());
            let there = if word >> 32 == inc { word as u32 } else { 0 };
            let sum = u64::from(there).saturating_add(more);
            Some(inc << 32 | sum.min(u32::MAX.into()))
        };
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// The start of every slot. The message follows it.
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) word: SlotWord,
    /// The length of the message in bytes.
    pub(crate) length: AtomicU64,
    /// The block with the message; zero if the message lies in the slot.
    pub(crate) block: AtomicU32,
    _pad: AtomicU32,
}

const SLOT_HEAD: usize = size_of::<Slot>();
const _: () = assert!(size_of::<ChunkHeader>() as u64 == CHUNK_HEADER && SLOT_HEAD == 24);

/// A chunk as seen by a process at work in one of its generations.
#[derive(Clone, Copy)]
pub(crate) struct Chunk<'a> {
    pub(crate) header: &'a ChunkHeader,
    slots: NonNull<u8>,
    pub(crate) count: u32,
    /// The distance from one slot to the next, in bytes.
    stride: u32,
    pub(crate) link: Link,
}

impl<'a> Chunk<'a> {
    /// The chunk in `block`, in whatever generation it is.
    #[inline(always)]
    pub(crate) fn at(arena: &'a Arena, block: BlockId) -> Result<Chunk<'a>> {
        let class = arena.mapped(block.segment())?.class;
        let Some((count, stride)) = size_class::slots_of(class) else {
            return Err(Error::BadHandle);
        };
        let payload = arena.payload(block)?;
        // SAFETY: a block of a chunk class holds a header and `count` slots, is never anything
        // else, and is never unmapped. Both are made of atomics.
        let (header, slots) = unsafe {
            let header = payload.cast::<ChunkHeader>();
            (header.as_ref(), header.add(1).cast())
        };
        let inc = header.inc.load(Ordering::SeqCst);
        Ok(Chunk {
            header,
            slots,
            count,
            stride,
            link: Link::new(block.0, inc),
        })
    }

    /// The chunk that a link names; `None` if it is in another generation now.
    #[inline(always)]
    pub(crate) fn of(arena: &'a Arena, link: Link) -> Result<Option<Chunk<'a>>> {
        let Some(block) = link.block() else {
            return Ok(None);
        };
        let chunk = Chunk::at(arena, block)?;
        Ok((chunk.link == link).then_some(chunk))
    }

    pub(crate) fn inc(&self) -> u32 {
        self.link.inc()
    }

    /// Whether it is still in this generation.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.header.inc.load(Ordering::SeqCst) & INC_MASK == self.inc()
    }

    /// Begins the next generation. Only the chunk's owner may call it, when every slot says that it
    /// was used up in this one. A process that comes with a link to this generation now finds it
    /// ended. It is not a plain store: a process that others took for dead may come later than the
    /// next owner.
    pub(crate) fn end_generation(&self) {
        let next = self.inc().wrapping_add(1) & INC_MASK;
        let inc = &self.header.inc;
        let _ = inc.compare_exchange(self.inc(), next, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The generation that a chunk owned by this process begins with. Every slot says that it was
    /// used up in the one before.
    ///
    /// A chunk that says zero was never used, or its memory was given back to the kernel. It then
    /// gets a generation that it never had, so that a process that stalled in an earlier one
    /// notices.
    pub(crate) fn next_generation(&self, arena: &Arena) -> u32 {
        let mut generation = self.inc();
        // Not the first one either: a word of memory that was given back says "used up in
        // generation zero".
        while generation < 2 {
            let begun = &arena.root().chunk_generations;
            generation = begun.fetch_add(1, Ordering::SeqCst) as u32 & INC_MASK;
            for (_, slot) in self.slots() {
                slot.word.mark_used_up(generation.wrapping_sub(1));
            }
        }
        generation
    }

    /// Marks a free chunk of this process as never used, and makes sure that it never gets a
    /// generation again that it had.
    pub(crate) fn forget(&self, arena: &Arena) {
        let begun = &arena.root().chunk_generations;
        begun.fetch_max(u64::from(self.inc()), Ordering::SeqCst);
        self.header.inc.store(0, Ordering::SeqCst);
    }

    #[inline]
    fn slot_at(&self, index: u32) -> NonNull<u8> {
        assert!(index < self.count);
        // SAFETY: within the chunk's count; see `at`.
        unsafe { self.slots.add(index as usize * self.stride as usize) }
    }

    #[inline]
    pub(crate) fn slot(&self, index: u32) -> &'a Slot {
        // SAFETY: every slot starts with a `Slot`; see `at`. Strides are multiples of its
        // alignment.
        unsafe { self.slot_at(index).cast().as_ref() }
    }

    /// Prefetches the slot behind one from which a message of `length` bytes was read. The next
    /// message is probably as long, and was written on another processor.
    #[inline]
    pub(crate) fn prefetch_after(&self, index: u32, length: usize) {
        if index + 1 < self.count {
            let next = self.slot_at(index + 1);
            for line in 0..(SLOT_HEAD + length).div_ceil(64) {
                // SAFETY: the slot holds `length` bytes behind its header.
                cpu::prefetch(unsafe { next.add(line * 64) });
            }
        }
    }

    /// The longest message that lies in a slot here.
    #[inline]
    pub(crate) fn body_size(&self) -> usize {
        self.stride as usize - SLOT_HEAD
    }

    /// The body of a slot. It is read while others may take the message away and put another one
    /// there. The reader finds that out from the slot's word. So the body consists of atomics, too.
    #[inline]
    fn body(&self, index: u32) -> &'a [AtomicU64] {
        // SAFETY: the rest of the slot, 8-aligned.
        unsafe {
            let start = self.slot_at(index).add(SLOT_HEAD).cast();
            std::slice::from_raw_parts(start.as_ptr(), self.body_size() / 8)
        }
    }

    /// Writes a message of at most [`Chunk::body_size`] bytes. The caller must have claimed the
    /// slot.
    #[inline]
    pub(crate) fn write(&self, index: u32, parts: &[&[u8]]) {
        let body = self.body(index);
        if let [part] = parts {
            return write_words(body, part);
        }
        let bytes = parts.concat();
        write_words(body, &bytes);
    }

    /// Reads the first `to.len()` bytes of a slot's body.
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
        let chunk = *self;
        (0..chunk.count).map(move |index| (index, chunk.slot(index)))
    }

    /// The chunk behind this one. The link is frozen once this chunk is being taken out.
    pub(crate) fn next(&self) -> Link {
        self.header.next.get()
    }

    /// The number of slots that one mark of [`DoneMarks`] stands for.
    pub(crate) fn group(&self) -> u32 {
        (self.count / DoneMarks::GROUPS).max(1)
    }

    /// The first slot, from `index` on, that is not known to be finished.
    pub(crate) fn skip(&self, mut index: u32) -> u32 {
        let size = self.group();
        let is_finished = |index| self.header.done_marks.has(self.inc(), index / size);
        while index < self.count && index.is_multiple_of(size) && is_finished(index) {
            index += size;
        }
        index
    }

    /// Steps from a slot to the next one, behind a slot that is not finished. `run` is the number
    /// of consecutive finished slots up to here.
    #[cold]
    pub(crate) fn step_behind(&self, index: u32, is_finished: bool, run: &mut u32) -> u32 {
        *run = if is_finished { *run + 1 } else { 0 };
        let next = index + 1;
        let size = self.group();
        if next.is_multiple_of(size) && *run >= size {
            self.header.done_marks.set(self.inc(), next / size - 1);
        }
        self.skip(next)
    }

    /// Whether a process may have received a message here, or looked for one.
    pub(crate) fn is_touched(&self) -> bool {
        self.header.received.of_this_generation(self).is_some()
            || self.header.done_marks.is_of(self.inc())
    }

    /// What one slot takes of a limit, in units of the smallest slot.
    #[inline]
    pub(crate) fn weight(&self) -> u64 {
        u64::from(self.stride) / u64::from(NARROW_SLOT)
    }

    pub(crate) fn base(&self) -> u64 {
        self.header.base.load(Ordering::SeqCst)
    }

    /// Marks all slots as used up. The caller must own the chunk.
    pub(crate) fn mark_used_up(&self) {
        for (_, slot) in self.slots() {
            slot.word.mark_used_up(self.inc());
        }
    }
}

/// The size class of a queue's next chunk: the first one is short, the others are long or wide.
pub(crate) fn next_class(first: bool, wide: bool) -> SizeClass {
    match (first, wide) {
        (true, _) => SHORT_CHUNK,
        (_, true) => WIDE_CHUNK,
        _ => LONG_CHUNK,
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
    use crate::channel::chunk_list::slot::View;

    /// A chunk owned by this process.
    fn a_chunk(arena: &Arena) -> Chunk<'_> {
        let class = next_class(true, false);
        let block = arena.alloc_class(class, class.size()).expect("memory");
        Chunk::at(arena, block).expect("a chunk")
    }

    fn begin(arena: &Arena, block: BlockId) -> Chunk<'_> {
        let chunk = Chunk::at(arena, block).expect("a chunk");
        chunk
            .header
            .inc
            .store(chunk.next_generation(arena), Ordering::SeqCst);
        let chunk = Chunk::at(arena, block).expect("a chunk");
        for (_, slot) in chunk.slots() {
            assert_eq!(slot.word.look().view(chunk.inc()), View::Empty);
        }
        chunk
    }

    #[test]
    fn after_the_last_number_a_chunk_lives_on() {
        let arena = crate::process_table::home().expect("an arena");
        let chunk = a_chunk(arena);
        let block = chunk.link.block().expect("a block");
        chunk.header.inc.store(INC_MASK, Ordering::SeqCst);
        let chunk = Chunk::at(arena, block).expect("a chunk");
        chunk.mark_used_up();
        chunk.end_generation();
        assert!(!chunk.is_current());
        assert_ne!(begin(arena, block).inc(), 0);
        arena.free(block, arena.mine());
    }

    #[test]
    fn a_chunk_whose_memory_was_returned_gets_a_generation_it_never_had() {
        let arena = crate::process_table::home().expect("an arena");
        let block = a_chunk(arena).link.block().expect("a block");
        let mut generations = Vec::new();
        for round in 0..6 {
            let chunk = begin(arena, block);
            assert!(!generations.contains(&chunk.inc()));
            generations.push(chunk.inc());
            chunk.mark_used_up();
            chunk.end_generation();
            if round % 2 == 0 {
                Chunk::at(arena, block).expect("a chunk").forget(arena);
                for (_, slot) in chunk.slots() {
                    // As the kernel leaves it.
                    slot.word.zero();
                    let stalled = generations
                        .iter()
                        .map(|generation| slot.word.look().view(*generation));
                    assert!(stalled.into_iter().all(|view| view == View::Stale));
                }
            }
        }
        arena.free(block, arena.mine());
    }
}
