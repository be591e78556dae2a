//! The first segment: everything that has a fixed place.
//!
//! All fields are atomics, all-zero bytes are the valid beginning of each, and every process maps this
//! at an address of its own. Changing anything here changes [`VERSION`].

use std::sync::atomic::{AtomicU32, AtomicU64};

use super::class::CLASSES;
use super::deaths::LongSleep;
use super::seat::SeatEntry;

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"procesn1");
pub(crate) const VERSION: u32 = 4;

/// Processes in one tree at a time (seat 0 is never taken).
pub(crate) const SEATS: usize = 4096;
/// Segments of one arena (segment 0 is the root).
pub(crate) const SEGMENTS: usize = 4096;
/// Bytes of the file in which every version of the engine says which one it is.
pub(crate) const FIRST_PAGE: u64 = 4096;
/// Bytes of the file that the root takes.
pub(crate) const ROOT_BYTES: u64 = 2 << 20;

#[repr(C)]
pub(crate) struct Root {
    /// [`MAGIC`], stored last when the arena is made.
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU32,
    _pad: AtomicU32,
    /// 128 random bits that tell this arena from every other.
    pub(crate) id: [AtomicU64; 2],
    /// The highest incarnation that a strip had when its memory was given back, or began with.
    pub(crate) incarnations: AtomicU64,
    /// Two of the queues and pipes, if they are there still: where to look first.
    pub(crate) channels: [AtomicU32; 2],
    /// Where the search for a free seat starts.
    pub(crate) seat_hint: AtomicU32,
    /// Where the next few seats are looked at, and how many were ever taken.
    pub(crate) seat_turn: AtomicU32,
    pub(crate) seats_used: AtomicU32,
    /// The highest generation of a block whose cell was given back: see `tables.rs`.
    pub(crate) generations: AtomicU32,
    /// Bytes freed since somebody began to look for idle memory, about: see `trim.rs`.
    pub(crate) freed: AtomicU64,
    /// Bytes of memory that the file may take, zero for no limit: see `budget.rs`.
    pub(crate) memory_limit: AtomicU64,
    /// How many envelopes were ever sealed: each has a number of its own.
    pub(crate) stamps: AtomicU32,
    /// See `deaths.rs`.
    pub(super) long_sleep: LongSleep,
    _pad3: [AtomicU32; 7],
    pub(crate) classes: [ClassHead; CLASSES],
    /// What each segment is, in one word: see `segment.rs`.
    pub(crate) segments: [AtomicU64; SEGMENTS],
    /// How many blocks of each segment were ever taken, since its cells were given back.
    pub(crate) fresh: [AtomicU32; SEGMENTS],
    /// Who has a segment shut: see `tables.rs`.
    pub(crate) shut: [AtomicU64; SEGMENTS],
    /// Where the process on each seat noted what it may own: see `notes.rs`.
    pub(crate) notes: [AtomicU64; SEATS],
    pub(crate) seats: [SeatEntry; SEATS],
}

const _: () = assert!(size_of::<Root>() as u64 <= ROOT_BYTES);

/// Where a class's free blocks are looked for. All of it is hints: whether a block is free is said by
/// its owner cell alone.
#[repr(C, align(64))]
pub(crate) struct ClassHead {
    /// Top of the stack of freed blocks: a counter against reuse (bits 40-63), the life of the stack (bits 32-39) and a
    /// block.
    pub(crate) free: AtomicU64,
    /// The segment that fresh blocks are taken from.
    pub(crate) open: AtomicU32,
}
