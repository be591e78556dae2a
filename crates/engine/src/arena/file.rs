//! The arena's file, and how to get its descriptor back when it is lost.
//!
//! A program may close every descriptor it has, as daemons do, and the next file it opens gets the same number. So
//! nothing here trusts the number: each use compares the file behind it with the one that was recorded at the start. A
//! lost descriptor is recovered from
//!
//! ```text
//! 1  another number of this process
//! 2  the mappings of this process      /proc/self/map_files: for those who may (CAP_CHECKPOINT_RESTORE)
//! 3  another process of the tree       /proc/<pid>/fd: for those who may look at its descriptors
//! ```
//!
//! If it cannot be recovered, everything that does not need it still works: the file is long enough from the start, the
//! kernel maps further parts of it from a part that is mapped ([`memfd::map_from`]), and takes memory back by address.
//! Only a newly started program cannot join the tree then: [`Error::MemoryClosed`].

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use rustix::io::Errno;

use crate::arena::Arena;
use crate::arena::layout::ROOT_BYTES;
use crate::error::{Error, Result};
use crate::sys::known_fd::{FdMatch, FileId, find_in_descriptors_of, move_to_high_number, reopen};
use crate::sys::memfd::{self, Sharing};

/// How `/proc` names the memory file.
const LINK: &str = "/memfd:procession";

/// The file behind an arena.
pub(crate) struct ArenaFile {
    number: AtomicI32,
    id: FileId,
    /// The file is at least this long.
    length: AtomicU64,
    /// The descriptor was searched for everywhere and not found.
    given_up: AtomicBool,
}

impl ArenaFile {
    /// Takes ownership of a descriptor, for the life of the process.
    pub(crate) fn new(fd: OwnedFd, length: u64) -> Result<ArenaFile> {
        let fd = move_to_high_number(fd)?;
        let id = FileId::of(fd.as_raw_fd());
        Ok(ArenaFile {
            id: id.ok_or(Error::os("look at the shared memory file", Errno::BADF))?,
            number: AtomicI32::new(fd.into_raw_fd()),
            length: AtomicU64::new(length),
            given_up: AtomicBool::new(false),
        })
    }

    fn number(&self) -> RawFd {
        self.number.load(Ordering::Acquire)
    }

    fn checked(&self) -> Option<BorrowedFd<'_>> {
        self.id.behind(self.number())
    }

    /// The bytes of memory that the file takes, unless the descriptor is lost.
    fn resident(&self) -> Option<u64> {
        let (id, bytes) = FileId::with_memory(self.number())?;
        (id == self.id).then_some(bytes)
    }

    /// Replaces a lost number by one on which the file was opened anew.
    fn replace(&self, lost: RawFd, found: OwnedFd) {
        let Ok(found) = move_to_high_number(found) else {
            return;
        };
        let replaced = self.number.compare_exchange(
            lost,
            found.as_raw_fd(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        // If another thread was not faster.
        if replaced.is_ok() {
            let _kept_for_good = found.into_raw_fd();
        }
    }
}

impl FdMatch for ArenaFile {
    fn is_named(&self, link: &str) -> bool {
        link.starts_with(LINK)
    }

    fn is(&self, file: BorrowedFd<'_>) -> bool {
        FileId::of(file.as_raw_fd()) == Some(self.id)
    }
}

impl Arena {
    /// The descriptor, recovered if it was lost.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let file = &self.file;
        file.checked().or_else(|| {
            if !file.given_up.load(Ordering::Relaxed) {
                self.recover_descriptor();
            }
            file.checked()
        })
    }

    /// The number of the descriptor, to pass to a program that is about to start.
    pub(crate) fn descriptor_to_pass(&self) -> Result<RawFd> {
        if self.file.checked().is_none() {
            // A process that has it may exist by now.
            self.recover_descriptor();
        }
        let number = self.file.number();
        match self.file.checked() {
            Some(fd) => Ok(fd.as_raw_fd()),
            None => Err(Error::MemoryClosed { number }),
        }
    }

    #[cold]
    fn recover_descriptor(&self) {
        let lost = self.file.number();
        let of = |process: &str| find_in_descriptors_of(process, &self.file).ok()?;
        let found = of("self").or_else(|| self.reopen_by_mapping()).or_else(|| {
            let others = self
                .occupied()
                .filter_map(|owner| self.number_of(owner)?.here());
            others
                .filter(|&pid| pid != std::process::id())
                .find_map(|pid| of(&pid.to_string()))
        });
        let given_up = found.is_none();
        if let Some(found) = found {
            self.file.replace(lost, found);
        }
        self.file.given_up.store(given_up, Ordering::Relaxed);
    }

    /// Opens the file through the mapping of its first segment.
    fn reopen_by_mapping(&self) -> Option<OwnedFd> {
        let root = self.root.as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let range = maps
            .lines()
            .filter_map(|line| line.split(' ').next())
            .find(|range| {
                let ends = range.split_once('-').and_then(|(first, end)| {
                    let number = |text| usize::from_str_radix(text, 16).ok();
                    Some(number(first)?..number(end)?)
                });
                ends.is_some_and(|ends| ends.contains(&root))
            })?;
        reopen(&format!("/proc/self/map_files/{range}"), &self.file).ok()?
    }

    /// Makes the file at least `length` bytes long.
    pub(crate) fn ensure_length(&self, length: u64) -> Result<()> {
        let known = &self.file.length;
        if length <= known.load(Ordering::Relaxed) {
            return Ok(());
        }
        let fd = self.descriptor().ok_or(Error::MemoryClosed {
            number: self.file.number(),
        })?;
        memfd::ensure_length(fd, length)?;
        known.fetch_max(length, Ordering::Relaxed);
        Ok(())
    }

    /// Maps a part of the file permanently. `offset` is on a page boundary.
    pub(crate) fn map_file(&self, offset: u64, length: usize) -> Result<NonNull<u8>> {
        match self.descriptor() {
            Some(fd) => memfd::map(fd, offset, length),
            None => self.map_from_anchor(offset, length),
        }
    }

    fn map_from_anchor(&self, offset: u64, length: usize) -> Result<NonNull<u8>> {
        let (anchor, start) = self.anchor(offset);
        // SAFETY: segments are mapped for good, and their first page is never mapped privately.
        unsafe { memfd::map_from(anchor, (offset - start) as usize, length) }
    }

    /// Maps a part of the file over what is mapped there now.
    ///
    /// # Safety
    /// As [`memfd::map_over`].
    pub(crate) unsafe fn map_file_over(
        &self,
        start: NonNull<u8>,
        offset: u64,
        length: usize,
        sharing: Sharing,
    ) -> Result<()> {
        // SAFETY: the caller's promise. Nobody writes to a block while it becomes private.
        unsafe {
            match (self.descriptor(), sharing) {
                (Some(fd), _) => memfd::map_over(start, fd, offset, length, sharing),
                (None, Sharing::Private) => memfd::copy_over(start, length),
                (None, Sharing::Shared) => {
                    memfd::move_over(start, self.map_from_anchor(offset, length)?, length)
                }
            }
        }
    }

    /// Returns the pages of a part of the file to the system, for every process; they read as zeroes afterwards. False
    /// if the kernel refuses: then nothing changed. Start and end are on page boundaries.
    pub(crate) fn release_file_pages(
        &self,
        start: NonNull<u8>,
        offset: u64,
        length: usize,
    ) -> bool {
        // A sandbox may refuse one call and allow the other.
        memfd::remove_pages(start, length) || self.punch_file(offset, length)
    }

    /// Whether the descriptor is available, so that a part of the file can be mapped privately without a copy.
    pub(crate) fn has_descriptor(&self) -> bool {
        self.descriptor().is_some()
    }

    /// Returns the pages of a part of the file to the system, for every process; false if that was not possible.
    pub(crate) fn punch_file(&self, offset: u64, length: usize) -> bool {
        match self.descriptor() {
            Some(fd) => memfd::punch(fd, offset, length as u64),
            None => {
                let (anchor, start) = self.anchor(offset);
                // SAFETY: as in `map_from_anchor`.
                unsafe { memfd::punch_from(anchor, (offset - start) as usize, length) }
            }
        }
    }

    /// Reads a part of the file, independently of what is mapped at its addresses.
    pub(crate) fn read_from_file(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        match self.descriptor() {
            Some(fd) => memfd::read(fd, offset, length),
            None => {
                let (anchor, start) = self.anchor(offset);
                // SAFETY: as in `map_from_anchor`.
                unsafe { memfd::read_from(anchor, (offset - start) as usize, length) }
            }
        }
    }

    /// The bytes of memory that the file takes; an estimate if its descriptor is lost.
    pub(crate) fn resident(&self) -> u64 {
        let known = self.file.resident().or_else(|| {
            self.descriptor()?;
            self.file.resident()
        });
        match known {
            Some(bytes) => bytes,
            None => {
                let tables: u64 = self.segments().map(|(_, s)| s.payload_offset()).sum();
                let blocks: u64 = self.blocks().map(|(_, cell)| cell.committed()).sum();
                ROOT_BYTES + tables + blocks
            }
        }
    }
}
