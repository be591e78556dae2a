//! Segments: how one is described, and where it is mapped in this process.
//!
//! A segment is described by ONE word, set by one compare-and-swap from zero:
//!
//! ```text
//! bit 63     set
//! bits 48-55 size class
//! bits 40-47 the segment holds 2^n blocks
//! bits 0-39  where it starts in the file, in units of 4 KiB
//! ```
//!
//! A segment is never half made: everything else can be computed from the word, and a process that maps a segment first
//! makes the file long enough. So a process that is killed or stopped while it grows the arena makes nobody wait.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::Arena;
use crate::arena::cell::{BLOCKS_PER_SEGMENT, BlockId, Cell};
use crate::arena::layout::SEGMENTS;
use crate::arena::size_class::{CLASSES, SizeClass};
use crate::error::{Error, Result};
use crate::sys::memfd;

/// The unit of a segment's position in the file.
const UNIT: u64 = 4096;
const VALID: u64 = 1 << 63;

/// How many blocks of a segment share a record in the ownership log: see `memory/ownership_log.rs`.
pub(crate) const GROUP: u32 = 64;

/// What a segment's word says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) class: SizeClass,
    pub(crate) count: u32,
    /// Where it starts in the file.
    pub(crate) start: u64,
}

/// A segment as it is mapped in this process, with values computed from its word.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) class: SizeClass,
    count: u32,
    /// The process that last logged each group of blocks: see `memory/ownership_log.rs`.
    logged_by: &'static [AtomicU32],
    /// The size of a block.
    pub(crate) size: u64,
    cells: NonNull<Cell>,
    pub(crate) payload: NonNull<u8>,
    /// Where the payload starts in the file.
    pub(crate) file_offset: u64,
    /// Where the segment starts in the file. Its cells are never mapped privately.
    start: u64,
}

impl Mapped {
    /// # Safety
    /// `base` must be where the whole segment is mapped, for good.
    unsafe fn new(segment: Segment, base: NonNull<u8>) -> Mapped {
        Mapped {
            class: segment.class,
            count: segment.count,
            logged_by: Box::leak(
                (0..segment.count.div_ceil(GROUP))
                    .map(|_| AtomicU32::new(0))
                    .collect::<Box<[AtomicU32]>>(),
            ),
            size: segment.class.size(),
            cells: base.cast(),
            // SAFETY: the payload lies within the segment.
            payload: unsafe { base.add(segment.payload_offset() as usize) },
            file_offset: segment.start + segment.payload_offset(),
            start: segment.start,
        }
    }

    /// The same segment with its payload at another address.
    ///
    /// # Safety
    /// `payload` must be where the segment's payload is mapped, shared and for good.
    unsafe fn with_payload_at(&self, payload: NonNull<u8>) -> Mapped {
        Mapped { payload, ..*self }
    }

    /// The bytes of all payloads. They start on a boundary of the largest page size.
    pub(crate) fn payload_length(&self) -> usize {
        (u64::from(self.count) * self.size).next_multiple_of(memfd::LARGEST_PAGE) as usize
    }

    /// The cell of the block with that number, if it exists.
    #[inline]
    pub(crate) fn cell(&self, index: u32) -> Option<&Cell> {
        // SAFETY: the cells lie at the start of the segment, this one within its count; segments are
        // never unmapped, and all fields are atomics for which any bytes are valid.
        (index < self.count).then(|| unsafe { self.cells.add(index as usize).as_ref() })
    }

    /// Where the cells from `index` on start: the address in this process, and the position in the file.
    pub(crate) fn cells_from(&self, index: u32) -> (NonNull<u8>, u64) {
        let skipped = index.min(self.count) as usize * size_of::<Cell>();
        // SAFETY: within the segment, or just behind its cells.
        let start = unsafe { self.cells.cast::<u8>().add(skipped) };
        (start, self.start + skipped as u64)
    }

    /// The process that last logged a group of blocks. Each process knows only about itself.
    #[inline]
    pub(crate) fn logged(&self, group: u32) -> Option<&AtomicU32> {
        self.logged_by.get(group as usize)
    }

    /// The address of the payload of the block with that number, if it exists.
    #[inline]
    pub(crate) fn payload(&self, index: u32) -> Option<NonNull<u8>> {
        let offset = u64::from(index) * self.size;
        // SAFETY: within the segment, which is mapped as a whole.
        (index < self.count).then(|| unsafe { self.payload.add(offset as usize) })
    }
}

impl Segment {
    pub(crate) fn from_word(word: u64) -> Option<Segment> {
        let class = (word >> 48) as usize & 0xff;
        let order = (word >> 40) as u32 & 0xff;
        // Reject impossible values: the word may have been overwritten.
        let is_one =
            word & VALID != 0 && class < CLASSES && 1 << order.min(31) <= BLOCKS_PER_SEGMENT;
        is_one.then(|| Segment {
            class: SizeClass::from_index(class),
            count: 1 << order,
            start: (word & 0xff_ffff_ffff) * UNIT,
        })
    }

    pub(crate) fn word(class: SizeClass, order: u32, start: u64) -> u64 {
        VALID | (class.index() as u64) << 48 | u64::from(order) << 40 | (start / UNIT)
    }

    /// The cells come first. Cells and payload both start on a page boundary, whatever the page size of the system is.
    pub(crate) fn payload_offset(&self) -> u64 {
        (u64::from(self.count) * size_of::<Cell>() as u64).next_multiple_of(memfd::LARGEST_PAGE)
    }

    pub(crate) fn length(&self) -> u64 {
        let payload = u64::from(self.count) * self.class.size();
        self.payload_offset() + payload.next_multiple_of(memfd::LARGEST_PAGE)
    }
}

impl Arena {
    pub(crate) fn segment(&self, number: u32) -> Option<Segment> {
        Segment::from_word(
            self.root()
                .segments
                .get(number as usize)?
                .load(Ordering::Acquire),
        )
    }

    /// All segments with their numbers.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u32, Segment)> + '_ {
        (1..SEGMENTS as u32).map_while(|number| Some((number, self.segment(number)?)))
    }

    /// Whether this process can map every segment. It may not if its address space is limited.
    pub(crate) fn can_map_all(&self) -> bool {
        self.segments()
            .all(|(number, _)| self.mapped(number).is_ok())
    }

    /// A segment as this process sees it; maps it at the first use.
    #[inline]
    pub(crate) fn mapped(&self, number: u32) -> Result<&Mapped> {
        let place = self.mapped.get(number as usize);
        match place.and_then(|place| NonNull::new(place.load(Ordering::Acquire))) {
            // SAFETY: a leaked box.
            Some(mapped) => Ok(unsafe { mapped.as_ref() }),
            None => self.map_segment(number),
        }
    }

    #[cold]
    fn map_segment(&self, number: u32) -> Result<&Mapped> {
        let _one_at_a_time = crate::sys::thread::lock(&self.mapping);
        let segment = self.segment(number).ok_or(Error::BadHandle)?;
        let place = &self.mapped[number as usize];
        if let Some(mapped) = NonNull::new(place.load(Ordering::Acquire)) {
            // SAFETY: a leaked box.
            return Ok(unsafe { mapped.as_ref() });
        }
        self.ensure_length(segment.start + segment.length())?;
        let base = self.map_file(segment.start, segment.length() as usize)?;
        // SAFETY: just mapped, and never unmapped.
        let mapped = Box::leak(Box::new(unsafe { Mapped::new(segment, base) }));
        place.store(mapped, Ordering::Release);
        Ok(mapped)
    }

    /// From now on this process uses the payload of a segment at another address. The old address stays mapped.
    ///
    /// # Safety
    /// `payload` must be where the segment's payload is mapped, shared and for good.
    pub(crate) unsafe fn set_payload_address(
        &self,
        number: u32,
        payload: NonNull<u8>,
    ) -> Result<()> {
        let mapped = self.mapped(number)?;
        let _one_at_a_time = crate::sys::thread::lock(&self.mapping);
        // SAFETY: the caller's promise.
        let mapped = Box::leak(Box::new(unsafe { mapped.with_payload_at(payload) }));
        // SYNC: see `objects/views.rs`.
        self.mapped[number as usize].store(mapped, Ordering::SeqCst);
        Ok(())
    }

    /// The permanently shared mapping with the highest start at or below a position in the file, and where it starts.
    pub(crate) fn anchor(&self, offset: u64) -> (NonNull<u8>, u64) {
        let root = (self.root.cast(), 0);
        let places = self.mapped.iter().skip(1);
        // SAFETY: leaked boxes, if anything.
        let mapped = places.filter_map(|place| unsafe { place.load(Ordering::Acquire).as_ref() });
        mapped
            .map(|mapped| (mapped.cells.cast(), mapped.start))
            .chain([root])
            .filter(|(_, start)| *start <= offset)
            .max_by_key(|(_, start)| *start)
            .unwrap_or(root)
    }

    /// The block whose payload contains an address of this process.
    pub(crate) fn block_at(&self, address: usize) -> Option<BlockId> {
        for (number, place) in self.mapped.iter().enumerate().skip(1) {
            self.segment(number as u32)?;
            // SAFETY: a leaked box, if anything.
            let Some(mapped) = (unsafe { place.load(Ordering::Acquire).as_ref() }) else {
                continue;
            };
            if let Some(offset) = address.checked_sub(mapped.payload.as_ptr().addr()) {
                let index = offset as u64 / mapped.size;
                if index < u64::from(mapped.count) {
                    return Some(BlockId::at(number as u32, index as u32));
                }
            }
        }
        None
    }

    /// The file range of a block's payload.
    pub(crate) fn file_range(&self, block: BlockId) -> Option<(u64, u64)> {
        // Uses the segment as it was mapped, and not the shared word, which may have been overwritten since: a mapping
        // is laid over what is there.
        let mapped = self.mapped(block.segment()).ok()?;
        let start = mapped.file_offset + u64::from(block.index()) * mapped.size;
        (block.index() < mapped.count).then_some((start, mapped.size))
    }
}
