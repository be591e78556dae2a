//! Replaces the memory file under Miri, which has none, by zeroed memory of this process.
//!
//! There is one file. Each part of it is mapped permanently at one place, and private mappings are shared.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

use crate::error::{Error, Result};

pub(crate) const LARGEST_PAGE: u64 = 64 << 10;

pub(crate) fn page() -> u64 {
    4096
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Shared,
    Private,
}

struct Part {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: memory that belongs to no thread and is never freed.
unsafe impl Send for Part {}

/// The parts that were mapped, by their start in the file.
static PARTS: Mutex<BTreeMap<u64, Part>> = Mutex::new(BTreeMap::new());

fn parts() -> MutexGuard<'static, BTreeMap<u64, Part>> {
    PARTS.lock().unwrap_or_else(|e| e.into_inner())
}

fn zeroed(length: usize) -> NonNull<u8> {
    let layout =
        Layout::from_size_align(length, LARGEST_PAGE as usize).expect("what can be mapped");
    // SAFETY: the length is never zero: nobody maps an empty range.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// The address of a range of the file, if it was ever mapped.
fn place(offset: u64, length: usize) -> Option<NonNull<u8>> {
    let parts = parts();
    let (first, part) = parts.range(..=offset).next_back()?;
    let start = (offset - first) as usize;
    let is_within = start + length <= part.length;
    // SAFETY: within the part.
    is_within.then(|| unsafe { part.start.add(start) })
}

pub(crate) fn create(least: u64) -> Result<(OwnedFd, u64)> {
    let nothing = File::open("/dev/null").map_err(|error| {
        let errno = rustix::io::Errno::from_io_error(&error);
        Error::os(
            "open what stands for memory",
            errno.unwrap_or(rustix::io::Errno::IO),
        )
    })?;
    Ok((nothing.into(), least))
}

pub(crate) fn ensure_length(_fd: impl AsFd, _length: u64) -> Result<()> {
    Ok(())
}

pub(crate) fn map(_fd: impl AsFd, offset: u64, length: usize) -> Result<NonNull<u8>> {
    let mut parts = parts();
    let part = parts.entry(offset).or_insert_with(|| Part {
        start: zeroed(length),
        length,
    });
    Ok(part.start)
}

/// # Safety
/// No condition: the mapping stays as it is.
pub(crate) unsafe fn map_over(
    _start: NonNull<u8>,
    _fd: impl AsFd,
    _offset: u64,
    _length: usize,
    _sharing: Sharing,
) -> Result<()> {
    Ok(())
}

/// # Safety
/// No condition: there is always a descriptor.
pub(crate) unsafe fn map_from(
    _anchor: NonNull<u8>,
    _skip: usize,
    _length: usize,
) -> Result<NonNull<u8>> {
    Err(Error::BadHandle)
}

/// # Safety
/// As [`map_from`].
pub(crate) unsafe fn move_over(
    _start: NonNull<u8>,
    _from: NonNull<u8>,
    _length: usize,
) -> Result<()> {
    Err(Error::BadHandle)
}

/// # Safety
/// As [`map_from`].
pub(crate) unsafe fn copy_over(_start: NonNull<u8>, _length: usize) -> Result<()> {
    Err(Error::BadHandle)
}

/// # Safety
/// As [`map_from`].
pub(crate) unsafe fn read_from(
    _anchor: NonNull<u8>,
    _skip: usize,
    _length: usize,
) -> Result<Vec<u8>> {
    Err(Error::BadHandle)
}

pub(crate) fn read(_fd: impl AsFd, offset: u64, length: usize) -> Result<Vec<u8>> {
    let start = place(offset, length).ok_or(Error::BadHandle)?;
    // SAFETY: that many bytes lie there, and they were zeroed at first.
    Ok(unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }.to_vec())
}

pub(crate) fn fork_wiped_page() -> Result<(NonNull<u8>, bool)> {
    Ok((zeroed(page() as usize), true))
}

pub(crate) fn populate(_start: NonNull<u8>, _length: usize) -> Result<()> {
    Ok(())
}

pub(crate) fn remove_pages(start: NonNull<u8>, length: usize) -> bool {
    // SAFETY: that many bytes lie there; the caller is the only one who uses them.
    unsafe { start.write_bytes(0, length) };
    true
}

pub(crate) fn punch(_fd: impl AsFd, _offset: u64, _length: u64) -> bool {
    false
}

/// # Safety
/// No condition.
pub(crate) unsafe fn punch_from(_anchor: NonNull<u8>, _skip: usize, _length: usize) -> bool {
    false
}

pub(crate) fn drop_copies(_start: NonNull<u8>, _length: usize) -> bool {
    false
}

/// # Safety
/// No condition.
pub(crate) unsafe fn copy_pages(_start: NonNull<u8>, _length: usize) {}
