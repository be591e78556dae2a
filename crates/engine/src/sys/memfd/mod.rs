//! The memory file without a name: shared memory that is gone when its last process is.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::{self, FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, MremapFlags, ProtFlags};

use crate::error::{Error, Result};

/// The initial length of the file. The length costs nothing: only what is written takes memory. Growing needs a
/// descriptor, so only a program with a limit on file sizes ever has to grow the file.
const LENGTH: u64 = 1 << 44;

/// Creates a memory file of at least `least` zero bytes that can grow but never shrink; returns its length, too.
pub(crate) fn create(least: u64) -> Result<(OwnedFd, u64)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let refused = |call, what| {
        move |errno: Errno| match errno {
            Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::INVAL => Error::MissingCall {
                call,
                errno: errno.raw_os_error(),
            },
            other => Error::os(what, other),
        }
    };
    let fd = fs::memfd_create("procession", flags)
        .map_err(refused("memfd_create", "create the shared memory file"))?;
    fs::fcntl_add_seals(&fd, SealFlags::SHRINK)
        .map_err(refused("F_ADD_SEALS", "seal the shared memory file"))?;
    let most = file_limit().map_or(LENGTH, |limit| {
        limit.min(LENGTH) / LARGEST_PAGE * LARGEST_PAGE
    });
    let length = most.max(least);
    // If no file may be that long, it grows when needed.
    match ensure_length(&fd, length) {
        Ok(()) => Ok((fd, length)),
        Err(_) => ensure_length(&fd, least).map(|()| (fd, least)),
    }
}

/// The limit on file sizes. Beyond it `ftruncate` does not fail: it kills the process with SIGXFSZ.
fn file_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

/// Makes the file at least `length` bytes long; a second caller finds it done.
pub(crate) fn ensure_length(fd: impl AsFd, length: u64) -> Result<()> {
    let fd = fd.as_fd();
    let current = |what| fs::fstat(fd).map_err(|errno| Error::os(what, errno));
    if current("look at the shared memory file")?.st_size as u64 >= length {
        return Ok(());
    }
    if let Some(limit) = file_limit().filter(|&limit| length > limit) {
        return Err(Error::OutOfMemory {
            asked: length,
            left: limit,
            limit: "RLIMIT_FSIZE (ulimit -f); raise it: shared memory counts as a file".into(),
        });
    }
    match fs::ftruncate(fd, length) {
        Ok(()) => Ok(()),
        // Another process made it longer meanwhile, and the seal kept this call from shrinking it.
        Err(Errno::PERM) if current("look again")?.st_size as u64 >= length => Ok(()),
        Err(errno) => Err(Error::os("grow the shared memory file", errno)),
    }
}

/// Maps `length` bytes from `offset`, shared, for the life of the process.
pub(crate) fn map(fd: impl AsFd, offset: u64, length: usize) -> Result<NonNull<u8>> {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choosing touches no memory of ours.
    let address = unsafe {
        mm::mmap(
            std::ptr::null_mut(),
            length,
            prot,
            MapFlags::SHARED,
            fd,
            offset,
        )
    };
    let address = address.map_err(|errno| not_mapped(errno, length))?;
    // Core files would otherwise contain all of it. A kernel that does not know the advice ignores it.
    // SAFETY: the range is the mapping just made.
    let _ = unsafe { mm::madvise(address, length, Advice::LinuxDontDump) };
    Ok(NonNull::new(address.cast()).expect("mmap never returns null"))
}

fn not_mapped(errno: Errno, length: usize) -> Error {
    match errno {
        Errno::NOMEM => Error::OutOfMemory {
            asked: length as u64,
            left: 0,
            limit: "the address space (RLIMIT_AS, ulimit -v, or vm.max_map_count)".into(),
        },
        other => Error::os("map shared memory", other),
    }
}

/// The largest page size of any kernel. What starts on such a boundary can be mapped by itself everywhere.
pub(crate) const LARGEST_PAGE: u64 = 64 << 10;

/// The page size of this system: the unit of what can be returned, or mapped privately.
#[inline]
pub(crate) fn page() -> u64 {
    rustix::param::page_size() as u64
}

/// As [`map`], without a descriptor: maps from an existing mapping of the same file that starts `skip` bytes before, on
/// a page.
///
/// # Safety
/// A page of the file must be mapped, shared, at `anchor`.
pub(crate) unsafe fn map_from(
    anchor: NonNull<u8>,
    skip: usize,
    length: usize,
) -> Result<NonNull<u8>> {
    let whole = skip + length;
    // SAFETY: the old mapping stays as it is: the kernel maps the file a second time, at an address of its choosing,
    // from there on.
    let start = unsafe { mm::mremap(anchor.as_ptr().cast(), 0, whole, MremapFlags::MAYMOVE) };
    let start = start
        .map_err(|errno| not_mapped(errno, whole))?
        .cast::<u8>();
    if skip > 0 {
        // SAFETY: the first part of the mapping just made, which nothing refers to. If it cannot be unmapped, it costs
        // address space.
        let _ = unsafe { mm::munmap(start.cast(), skip) };
    }
    // SAFETY: within the mapping just made.
    let start = unsafe { start.add(skip) };
    // SAFETY: as in `map`.
    let _ = unsafe { mm::madvise(start.cast(), length, Advice::LinuxDontDump) };
    Ok(NonNull::new(start).expect("mremap never returns null"))
}

/// Who sees writes to a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Every process that maps the file.
    Shared,
    /// This process; its children see a copy as of their fork.
    Private,
}

/// Maps a part of the file over the current mapping. If that fails, something is still mapped there.
///
/// # Safety
/// The range must be mapped already, and nobody may rely on bytes there that are not in the file.
pub(crate) unsafe fn map_over(
    start: NonNull<u8>,
    fd: impl AsFd,
    offset: u64,
    length: usize,
    sharing: Sharing,
) -> Result<()> {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    let fd = fd.as_fd();
    let place = start.as_ptr().cast();
    let flags = match sharing {
        Sharing::Shared => MapFlags::SHARED,
        Sharing::Private => MapFlags::PRIVATE,
    };
    // SAFETY: the caller's promise; the second call replaces nothing.
    let mapped = unsafe {
        mm::mmap(place, length, prot, flags | MapFlags::FIXED, fd, offset).inspect_err(|_| {
            // Kernels before 6.12 have removed the old mapping by then. A private mapping is refused because of its
            // pages; a shared one needs none of its own, so it can be put back.
            let whole = MapFlags::SHARED | MapFlags::FIXED_NOREPLACE;
            let _ = mm::mmap(place, length, prot, whole, fd, offset);
        })
    };
    mapped.map_err(|errno| Error::os("map shared memory anew", errno))?;
    // SAFETY: the range is the mapping just made.
    let _ = unsafe { mm::madvise(place, length, Advice::LinuxDontDump) };
    Ok(())
}

/// As [`map_over`], without a descriptor: moves there what [`map_from`] has mapped elsewhere.
///
/// # Safety
/// As [`map_over`]; `from` is a mapping of that length that nobody uses.
pub(crate) unsafe fn move_over(start: NonNull<u8>, from: NonNull<u8>, length: usize) -> Result<()> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // Not through rustix: its call through the C library passes another flag (MAP_FIXED).
    // SAFETY: the caller's promise.
    let moved = unsafe {
        let (from, to) = (from.as_ptr().cast(), start.as_ptr());
        libc::mremap(from, length, length, flags, to)
    };
    if moved != libc::MAP_FAILED {
        return Ok(());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOMEM);
    unmap(from.as_ptr(), length);
    Err(Error::os("map shared memory anew", errno))
}

fn unmap(start: *mut u8, length: usize) {
    // SAFETY: the callers made the mapping, and nothing else refers to it.
    let _ = unsafe { mm::munmap(start.cast(), length) };
}

/// Makes a range private to this process without a descriptor: moves a copy of its content over it.
///
/// # Safety
/// As [`map_over`]; nobody writes to the range meanwhile.
pub(crate) unsafe fn copy_over(start: NonNull<u8>, length: usize) -> Result<()> {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choosing.
    let copy = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), length, prot, MapFlags::PRIVATE) }
        .map_err(|errno| not_mapped(errno, length))?;
    // SAFETY: both ranges are mapped, and one of them is new.
    unsafe { std::ptr::copy_nonoverlapping(start.as_ptr(), copy.cast(), length) };
    let copy = NonNull::new(copy.cast()).expect("mmap never returns null");
    // SAFETY: the caller's promise.
    unsafe { move_over(start, copy, length) }
}

/// Reads the bytes that [`map_from`] would map.
///
/// # Safety
/// As [`map_from`].
pub(crate) unsafe fn read_from(anchor: NonNull<u8>, skip: usize, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let before = skip % page() as usize;
    // SAFETY: the caller's promise.
    let start = unsafe { map_from(anchor, skip - before, before + length)? };
    // SAFETY: just mapped, with this length; others may write there, as they may to a file that is read.
    unsafe {
        let wanted = start.add(before).as_ptr();
        std::ptr::copy_nonoverlapping(wanted, bytes.as_mut_ptr(), length);
    }
    unmap(start.as_ptr(), before + length);
    Ok(bytes)
}

/// Reads a part of the file, independently of what this process has written to private mappings.
pub(crate) fn read(fd: impl AsFd, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        match rustix::io::pread(&fd, &mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::os("read shared memory", errno)),
        }
    }
    Ok(bytes)
}

/// A private page, and whether every forked child finds it zeroed, however it was forked. gVisor cannot do that, nor
/// can a sandbox that refuses `madvise`.
pub(crate) fn fork_wiped_page() -> Result<(NonNull<u8>, bool)> {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    let length = page() as usize;
    // SAFETY: a new mapping at an address of the kernel's choosing touches no memory of ours.
    let page = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), length, prot, MapFlags::PRIVATE) }
        .map_err(|errno| Error::os("map a page", errno))?;
    // SAFETY: the range is the mapping just made.
    let wiped = unsafe { mm::madvise(page, length, Advice::LinuxWipeOnFork) }.is_ok();
    let page = NonNull::new(page.cast()).expect("mmap never returns null");
    Ok((page, wiped))
}

/// Populates all pages of a range for writing, so that running out of memory is an error and not a SIGBUS.
pub(crate) fn populate(start: NonNull<u8>, length: usize) -> Result<()> {
    let first = start.as_ptr().addr() & !(page() as usize - 1);
    let length = length + (start.as_ptr().addr() - first);
    let address = start.as_ptr().with_addr(first).cast();
    // SAFETY: populating changes no contents; the range lies within one mapped segment.
    match unsafe { mm::madvise(address, length, Advice::LinuxPopulateWrite) } {
        // Kernels before 5.14 do not know the advice, and a sandbox may refuse it: then the pages are faulted in one by
        // one.
        Ok(())
        | Err(
            Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::INTR | Errno::AGAIN,
        ) => Ok(()),
        Err(_) => Err(Error::OutOfMemory {
            asked: length as u64,
            left: 0,
            limit: "the machine's memory".into(),
        }),
    }
}

/// As [`punch`], without a descriptor.
///
/// # Safety
/// As [`map_from`].
pub(crate) unsafe fn punch_from(anchor: NonNull<u8>, skip: usize, length: usize) -> bool {
    // SAFETY: the caller's promise.
    let Ok(start) = (unsafe { map_from(anchor, skip, length) }) else {
        return false;
    };
    let is_removed = remove_pages(start, length);
    unmap(start.as_ptr(), length);
    is_removed
}

/// Drops this process's own copies of pages of a private mapping, which shows the file's pages again. If that is
/// refused, the copies stay.
pub(crate) fn drop_copies(start: NonNull<u8>, length: usize) -> bool {
    // SAFETY: the dropped bytes belong to the caller, who does not use them any more.
    unsafe { mm::madvise(start.as_ptr().cast(), length, Advice::LinuxDontNeed) }.is_ok()
}

/// Copies every page of a private mapping that is still the file's, while other threads may write there.
///
/// # Safety
/// The range is mapped privately, and consists of whole pages.
pub(crate) unsafe fn copy_pages(start: NonNull<u8>, length: usize) {
    for offset in (0..length).step_by(page() as usize) {
        // SAFETY: within the range (the caller's promise).
        let byte = unsafe { AtomicU8::from_ptr(start.add(offset).as_ptr()) };
        // Writes the value that is there: that makes the page this process's own, and overwrites no other write.
        let seen = byte.load(Ordering::Relaxed);
        let _same = byte.compare_exchange(seen, seen, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Returns the pages of a shared mapping to the system, for every process; they read as zeroes afterwards. The range
/// starts and ends on a page. False if this is refused.
pub(crate) fn remove_pages(start: NonNull<u8>, length: usize) -> bool {
    // SAFETY: the bytes belong to the caller, who does not use them any more.
    unsafe { mm::madvise(start.as_ptr().cast(), length, Advice::LinuxRemove) }.is_ok()
}

/// As [`remove_pages`], through the file.
pub(crate) fn punch(fd: impl AsFd, offset: u64, length: u64) -> bool {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fs::fallocate(fd, flags, offset, length).is_ok()
}
