//! The first segment: everything that has a fixed place.
//!
//! All fields are atomics, all-zero bytes are a valid initial value of each, and every process maps this at an address
//! of its own. Any change here requires a new [`VERSION`].

use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::arena::process_entry::ProcessEntry;
use crate::arena::size_class::CLASSES;
use crate::eventcount::EventCount;

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"procesn1");
pub(crate) const VERSION: u32 = 4;

/// Processes in one tree at a time (entry 0 is never used).
pub(crate) const MAX_PROCESSES: usize = 4096;
/// Segments of one arena (segment 0 is the root).
pub(crate) const SEGMENTS: usize = 4096;
/// Bytes at the start of the file in which every version of the engine stores its layout version.
pub(crate) const FIRST_PAGE: u64 = 4096;
/// Bytes of the file that the root takes.
pub(crate) const ROOT_BYTES: u64 = 2 << 20;

#[repr(C)]
pub(crate) struct Root {
    /// [`MAGIC`], stored last when the arena is created.
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU32,
    _pad: AtomicU32,
    /// 128 random bits that distinguish this arena from every other.
    pub(crate) id: [AtomicU64; 2],
    /// The highest generation that a chunk had when its memory was returned, or that one began with.
    pub(crate) chunk_generations: AtomicU64,
    /// Two of the existing queues and pipes, if any: where to look first.
    pub(crate) channels: [AtomicU32; 2],
    /// Where the search for a free entry starts.
    pub(crate) process_hint: AtomicU32,
    /// Where the next few entries are checked, and how many were ever used.
    pub(crate) reap_cursor: AtomicU32,
    pub(crate) processes_used: AtomicU32,
    /// The highest generation of a block whose cell was released: see `memory/cell_release.rs`.
    pub(crate) object_generations: AtomicU32,
    /// About how many bytes were freed since the last scan for idle memory began: see `memory/trim.rs`.
    pub(crate) freed: AtomicU64,
    /// Bytes of memory that the file may take; zero for no limit: see `memory/memory_limit.rs`.
    pub(crate) memory_limit: AtomicU64,
    /// How many attachment lists were ever completed: each has a number of its own.
    pub(crate) stamps: AtomicU32,
    /// See `process_table/death_watch.rs`.
    pub(crate) long_sleep: LongSleep,
    _pad3: [AtomicU32; 7],
    pub(crate) classes: [ClassHead; CLASSES],
    /// What each segment is, in one word: see `segment.rs`.
    pub(crate) segments: [AtomicU64; SEGMENTS],
    /// How many blocks of each segment were ever taken, since its cells were last released.
    pub(crate) bump: [AtomicU32; SEGMENTS],
    /// Which process has closed a segment: see `memory/cell_release.rs`.
    pub(crate) closed: [AtomicU64; SEGMENTS],
    /// Where the process of each entry logs what it may own: see `memory/ownership_log.rs`.
    pub(crate) ownership_logs: [AtomicU64; MAX_PROCESSES],
    pub(crate) processes: [ProcessEntry; MAX_PROCESSES],
}

const _: () = assert!(size_of::<Root>() as u64 <= ROOT_BYTES);

/// Where to look for a class's free blocks. All of it is hints: only a block's owner cell says whether it is free.
#[repr(C, align(64))]
pub(crate) struct ClassHead {
    /// Top of the stack of freed blocks: a counter against ABA (bits 40-63), the generation of the stack (bits 32-39)
    /// and a block.
    pub(crate) free: AtomicU64,
    /// The segment that new blocks are taken from.
    pub(crate) open: AtomicU32,
}

/// The words for long sleeps, see `process_table/death_watch.rs`.
#[repr(C)]
pub(crate) struct LongSleep {
    pub(crate) deaths: EventCount,
    pub(crate) changes: EventCount,
    pub(crate) sleeper_death: AtomicU32,
    _pad: AtomicU32,
}
