//! Returns idle memory to the system.
//!
//! A freed block keeps its pages for the next process that takes it. Memory that nobody took for a while is idle:
//!
//! ```text
//! a scan of all free blocks:   not marked  -->  marked as idle        (taking a block clears the mark)
//!                              marked      -->  the pages of whole runs of such blocks are returned
//! ```
//!
//! Taking and freeing a block counts nothing except the bytes that a process freed. The process adds those to a counter
//! of all processes every [`REPORT_EVERY`]. When the counter reaches a [`SCAN_PART`] of the file's memory, and that
//! memory is more than [`FLOOR`], a thread scans every [`INTERVAL`] until there is not much more memory than is in use,
//! and then ends. It scans at once when the machine, or the container, is short of memory. It also ends before every
//! fork (and is started again when more is freed), so that no fork runs beside it.
//!
//! What stays is at most [`FLOOR`], or a quarter more than is in use: an eighth that a scan leaves, and a [`SCAN_PART`]
//! that may be freed before the next scan.
//!
//! A block is taken like any other while its pages are returned, so nobody else takes it. A chunk begins a new
//! generation when it is used again ([`empty_chunk`](crate::arena::upcalls::Upcalls)), because returning its pages
//! erases the number of its last one.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::arena::Arena;
use crate::arena::cell::{BlockId, Cell};
use crate::arena::kind::Kind;
use crate::arena::owner::Owner;
use crate::arena::segment::Segment;
use crate::arena::size_class::{OWNERSHIP_LOG, SizeClass};
use crate::arena::upcalls::upcalls;
use crate::deadline::monotonic_ns;
use crate::failpoint;
use crate::memory::memory_limit;
use crate::memory::trimmer;
use crate::memory::trimmer::Request;
use crate::sys::memfd;

/// What a process tree may keep while it has a queue or a pipe, used or not.
const FLOOR: u64 = 16 << 20;
/// As [`FLOOR`], when there is neither a queue nor a pipe.
const FLOOR_WITHOUT_CHANNELS: u64 = 2 << 20;
/// How long memory must be free, at least, before it is idle.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);
/// The minimum time between two checks whether memory is short, in nanoseconds.
const CHECK_INTERVAL_NS: u64 = 50_000_000;
/// How many bytes a process frees before it tells the others.
const REPORT_EVERY: u64 = 1 << 20;
/// A counter value at which a scan is due, however much memory there is.
const SCAN_DUE: u64 = 1 << 62;
/// A scan is due when one part in this many of the memory was freed.
const SCAN_PART: u64 = 16;
/// The most that is taken at a time, so that other processes still find free blocks.
const RUN_BYTES: u64 = 8 << 20;
const RUN_BLOCKS: usize = 1024;

/// Bytes that this process freed since it last reported. Racing threads may lose some of each other's updates.
static FREED: AtomicU64 = AtomicU64::new(0);
/// What was still resident after this process had returned all free memory.
static RESIDENT_AFTER_RELEASE: AtomicU64 = AtomicU64::new(0);
/// When this process last checked whether memory is short.
static LAST_CHECK: AtomicU64 = AtomicU64::new(0);
/// The kernel, or a sandbox, refuses to take pages back.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Which free blocks lose their pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that were already free at the last scan.
    Idle,
    /// All, on the trimmer thread, because memory is short.
    Free,
    /// All, on the calling thread.
    All,
}

impl Arena {
    /// Counts the bytes of a block that this process freed.
    #[inline]
    pub(crate) fn count_freed(&self, bytes: u64) {
        let freed = FREED.load(Ordering::Relaxed) + bytes;
        FREED.store(freed, Ordering::Relaxed);
        if freed >= REPORT_EVERY {
            self.start_trimmer_if_due();
        }
    }

    /// Makes sure that a thread returns what becomes idle, if that is much.
    #[cold]
    pub(crate) fn start_trimmer_if_due(&self) {
        let freed = self.report_freed();
        // Miri wants all threads joined.
        if cfg!(miri) || REFUSED.load(Ordering::Relaxed) {
            return;
        }
        let waiting = trimmer::is_waiting();
        if waiting && trimmer::runs_in(self) {
            trimmer::ask_for(Request::Scan);
        }
        let resident = self.resident();
        if !waiting
            && (resident <= FLOOR_WITHOUT_CHANNELS || resident <= FLOOR && resident <= self.floor())
        {
            return;
        }
        // A scan visits all memory in use, so enough must be freed to make its cost small beside that.
        if !trimmer::runs_in(self) && (waiting || freed >= resident / SCAN_PART) {
            // If no thread can be started, the next process that frees as much tries again.
            if trimmer::start(self) {
                self.root().freed.store(0, Ordering::Relaxed);
            }
        }
        if trimmer::runs_in(self) && self.memory_is_short() {
            trimmer::ask_for(Request::ScanAll);
        }
    }

    /// Adds what this process freed to the counter of all processes since the last scan began; returns the sum.
    pub(crate) fn report_freed(&self) -> u64 {
        let freed = FREED.swap(0, Ordering::Relaxed);
        self.root().freed.fetch_add(freed, Ordering::Relaxed) + freed
    }

    /// Makes the next process that frees anything scan: the process that was scanning is gone.
    pub(crate) fn make_scan_due(&self) {
        self.root().freed.fetch_max(SCAN_DUE, Ordering::Relaxed);
    }

    /// Whether other programs may need the arena's memory at once, because the limit of a container is near, for
    /// example.
    fn memory_is_short(&self) -> bool {
        let now = monotonic_ns();
        if now.saturating_sub(LAST_CHECK.load(Ordering::Relaxed)) < CHECK_INTERVAL_NS {
            return false;
        }
        LAST_CHECK.store(now, Ordering::Relaxed);
        memory_limit::available_without_pressure().is_some_and(|left| self.resident() > left / 2)
    }

    fn floor(&self) -> u64 {
        match self.has_channels(1) {
            false => FLOOR_WITHOUT_CHANNELS,
            true => FLOOR,
        }
    }

    /// A queue or pipe was made.
    pub(crate) fn channel_made(&self, block: BlockId) {
        let known = &self.root().channels;
        if let Some(gone) = known.iter().find(|known| !self.is_channel(known)) {
            gone.store(block.0, Ordering::Relaxed);
        }
    }

    fn is_channel(&self, block: &AtomicU32) -> bool {
        let cell = BlockId::new(block.load(Ordering::Relaxed)).map(|block| self.cell(block));
        cell.is_some_and(|cell| cell.is_ok_and(is_channel))
    }

    /// Whether there are at least `count` queues and pipes, two at most. Checks those that were found last, then all
    /// objects.
    fn has_channels(&self, count: usize) -> bool {
        let known = &self.root().channels;
        let mut there: Vec<u32> = known
            .iter()
            .filter(|known| self.is_channel(known))
            .map(|known| known.load(Ordering::Relaxed))
            .collect();
        there.dedup();
        if there.len() >= count {
            return true;
        }
        let of_objects = self
            .segments()
            .filter(|(_, segment)| segment.class.is_of_objects());
        let found = of_objects
            .flat_map(|(number, _)| self.blocks_of(number))
            .filter(|(_, cell)| is_channel(cell))
            .map(|(block, _)| block.0)
            .take(known.len());
        let mut number = 0;
        for (place, block) in known.iter().zip(found) {
            place.store(block, Ordering::Relaxed);
            number += 1;
        }
        number >= count
    }

    /// A queue or pipe is gone. After the last one, all free memory is returned.
    pub(crate) fn channel_gone(&self) {
        if self.has_grown() && !self.has_channels(1) {
            self.release_free_pages();
        }
    }

    /// As after the last queue or pipe, when somebody keeps one but does not use it any more.
    pub(crate) fn trim_for_last_channel(&self) {
        if self.has_grown() && !self.has_channels(2) {
            self.release_free_pages();
        }
    }

    /// Whether more memory may be free than was left the last time. A program that makes and drops small queues, one
    /// after the other, has nothing to return.
    fn has_grown(&self) -> bool {
        let resident = self.resident();
        let some = FLOOR_WITHOUT_CHANNELS / 2;
        resident > FLOOR_WITHOUT_CHANNELS
            && (resident > RESIDENT_AFTER_RELEASE.load(Ordering::Relaxed) + some
                || trimmer::runs_in(self)
                || self.report_freed() >= some)
    }

    /// Returns the pages of all free blocks.
    pub(crate) fn release_free_pages(&self) {
        FREED.store(0, Ordering::Relaxed);
        self.root().freed.store(0, Ordering::Relaxed);
        self.release_free(Which::All, u64::MAX);
        self.release_cells();
        RESIDENT_AFTER_RELEASE.store(self.resident(), Ordering::Relaxed);
    }

    /// One scan: returns idle memory that is too much, and marks what may be idle at the next scan. False when no
    /// further scan is useful.
    pub(crate) fn scan(&self, which: Which) -> bool {
        let resident = self.resident();
        let floor = self.floor();
        if resident <= floor || REFUSED.load(Ordering::Relaxed) {
            return false;
        }
        // Counts the cell as well, which cannot be released before the block.
        let in_use: u64 = self
            .used()
            .map(|cell| cell.committed() + size_of::<Cell>() as u64)
            .sum();
        let Some(excess) = resident.checked_sub(floor.max(in_use + in_use / 8)) else {
            return false;
        };
        let given = self.release_free(which, excess);
        if !trimmer::must_stop() {
            self.release_cells();
        }
        let marked = self.mark_free();
        given > 0 || marked
    }

    /// Marks all free blocks that have memory; returns whether one of them had no mark.
    fn mark_free(&self) -> bool {
        let mut marked = false;
        for (number, (_, cell)) in self.blocks().enumerate() {
            if cell.owner.is(Owner::Free) {
                marked |= cell.mark_idle();
            }
            if number % RUN_BLOCKS == 0 && trimmer::must_stop() {
                break;
            }
        }
        marked
    }

    /// Returns the pages of free blocks, the largest blocks first, until `enough` bytes are returned; returns how many
    /// bytes it was.
    fn release_free(&self, which: Which, enough: u64) -> u64 {
        let mut segments: Vec<_> = self.segments().collect();
        segments.sort_by_key(|(_, segment)| std::cmp::Reverse(segment.class.size()));
        let mut given = 0;
        for (number, segment) in segments {
            let bump = self.root().bump[number as usize].load(Ordering::Acquire);
            let end = bump.min(segment.count);
            let mut index = 0;
            while index < end {
                if given >= enough
                    || REFUSED.load(Ordering::Relaxed)
                    || which != Which::All && trimmer::must_stop()
                {
                    return given;
                }
                let (after, bytes) = self.release_run(number, segment, index..end, which);
                index = after;
                given += bytes;
            }
        }
        given
    }

    /// Returns the pages of the first run of free blocks in a part of a segment. Returns where to continue, and how
    /// many bytes it was.
    fn release_run(
        &self,
        number: u32,
        segment: Segment,
        part: std::ops::Range<u32>,
        which: Which,
    ) -> (u32, u64) {
        let end = part.end;
        let size = segment.class.size();
        // Blocks that share pages with others are returned in whole runs, including blocks without memory.
        let shares_pages = !size.is_multiple_of(memfd::page());
        let is_due = |cell: &Cell| {
            cell.owner.is(Owner::Free)
                && match cell.committed() {
                    0 => shares_pages,
                    _ => which != Which::Idle || cell.is_idle(),
                }
        };
        let cell = |index: u32| self.cell(BlockId::at(number, index)).ok();
        let Some(first) = part.into_iter().find(|&at| cell(at).is_some_and(is_due)) else {
            return (end, 0);
        };
        let most = (RUN_BYTES / size).clamp(1, RUN_BLOCKS as u64) as u32;
        let mut after = first;
        let mut with_memory = 0;
        while after < end && after - first < most && cell(after).is_some_and(is_due) {
            with_memory += cell(after).map_or(0, Cell::committed);
            after += 1;
        }
        if with_memory == 0
            || self
                .whole_pages(number, first, u64::from(after - first) * size)
                .is_none()
        {
            return (after, 0);
        }
        (
            after,
            self.take_and_release(number, segment.class, first..after),
        )
    }

    /// The whole pages within `length` bytes from a block on: their address in this process, and how many bytes.
    fn whole_pages(&self, number: u32, first: u32, length: u64) -> Option<(NonNull<u8>, usize)> {
        let page = memfd::page() as usize;
        let start = self.payload(BlockId::at(number, first)).ok()?;
        let address = start.as_ptr().addr();
        let from = address.next_multiple_of(page);
        let to = (address + length as usize) / page * page;
        // SAFETY: within the segment.
        (from < to).then(|| (unsafe { start.add(from - address) }, to - from))
    }

    /// Takes the blocks of a run as long as they are free, returns their pages, and frees them; returns how many bytes
    /// it was.
    fn take_and_release(&self, number: u32, class: SizeClass, run: std::ops::Range<u32>) -> u64 {
        let Some(open) = self.open_word(number) else {
            return 0;
        };
        let block = |index: u32| BlockId::at(number, index);
        let take = |index: &u32| {
            let cell = self.cell(block(*index));
            cell.is_ok_and(|cell| self.take(block(*index), cell, open))
        };
        let taken: Vec<u32> = run.take_while(take).collect();
        let Some(&first) = taken.first() else {
            return 0;
        };
        failpoint::hit("arena.releasing");
        let given = self.release_taken(number, class, first, taken.len() as u32);
        // Otherwise this thread is about to end, and another process frees the blocks.
        if given.is_some() {
            for index in taken {
                self.free(block(index), self.mine());
            }
        }
        given.unwrap_or(0)
    }

    /// Returns the pages of consecutive blocks of this process; returns how many bytes it was. `None` when other
    /// processes count this one as dead.
    fn release_taken(&self, number: u32, class: SizeClass, first: u32, count: u32) -> Option<u64> {
        let bytes = u64::from(count) * class.size();
        let Some((start, length)) = self.whole_pages(number, first, bytes) else {
            return Some(0);
        };
        let blocks = (first..first + count).map(|index| BlockId::at(number, index));
        let mut had = Vec::with_capacity(count as usize);
        for block in blocks.clone() {
            if class.is_of_chunks() {
                (upcalls().empty_chunk)(self, block);
            }
            had.push(self.cell(block).map_or(0, Cell::take_committed));
        }
        failpoint::hit("arena.emptied");
        let release = self.begin_page_release()?;
        let (place, _) = self.file_range(BlockId::at(number, first))?;
        let skipped = start.as_ptr().addr()
            - self
                .payload(BlockId::at(number, first))
                .ok()?
                .as_ptr()
                .addr();
        let is_released = self.release_file_pages(start, place + skipped as u64, length);
        drop(release);
        if is_released {
            return Some(had.iter().sum::<u64>().min(length as u64));
        }
        for (block, bytes) in blocks.zip(had) {
            if let Ok(cell) = self.cell(block) {
                cell.set_committed(bytes);
            }
        }
        REFUSED.store(true, Ordering::Relaxed);
        Some(0)
    }

    /// The bytes of memory behind the blocks in use.
    pub(crate) fn in_use(&self) -> u64 {
        self.used().map(Cell::committed).sum()
    }

    /// The blocks in use, except the pages of the ownership log.
    pub(crate) fn used(&self) -> impl Iterator<Item = &Cell> {
        let segments = self
            .segments()
            .filter(|(_, segment)| segment.class != OWNERSHIP_LOG);
        let cells = segments
            .flat_map(|(number, _)| self.blocks_of(number))
            .map(|(_, cell)| cell);
        cells.filter(|cell| !cell.owner.is(Owner::Free))
    }
}

/// Makes the next free check whether the thread, which has ended, is needed again.
pub(crate) fn check_at_next_free() {
    FREED.fetch_add(REPORT_EVERY, Ordering::Relaxed);
}

fn is_channel(cell: &Cell) -> bool {
    cell.owner.is(Owner::Shared) && Kind::from_u32(cell.kind.load(Ordering::Acquire)).is_channel()
}
