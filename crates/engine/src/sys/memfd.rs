//! The file that has no name: shared memory that is gone when its last process is.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{self, FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

use crate::error::{Error, Result};

/// Makes an empty memory file that can grow but never shrink.
pub(crate) fn create() -> Result<OwnedFd> {
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
    Ok(fd)
}

/// Makes the file at least `length` bytes long; whoever comes second finds it done.
pub(crate) fn ensure_length(fd: impl AsFd, length: u64) -> Result<()> {
    let fd = fd.as_fd();
    let current = |what| fs::fstat(fd).map_err(|errno| Error::os(what, errno));
    if current("look at the shared memory file")?.st_size as u64 >= length {
        return Ok(());
    }
    // Past this limit ftruncate does not fail, it kills the process with SIGXFSZ.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    if limit.is_some_and(|limit| length > limit) {
        return Err(Error::OutOfMemory {
            asked: length,
            left: limit.unwrap_or(0),
            limit: "RLIMIT_FSIZE (ulimit -f); raise it: shared memory counts as a file".into(),
        });
    }
    match fs::ftruncate(fd, length) {
        Ok(()) => Ok(()),
        // Another process made it longer meanwhile, and the seal kept us from cutting it.
        Err(Errno::PERM) if current("look again")?.st_size as u64 >= length => Ok(()),
        Err(errno) => Err(Error::os("grow the shared memory file", errno)),
    }
}

/// The bytes of memory the file really takes.
pub(crate) fn resident(fd: impl AsFd) -> u64 {
    fs::fstat(fd).map_or(0, |stat| stat.st_blocks as u64 * 512)
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
    let address = address.map_err(|errno| match errno {
        Errno::NOMEM => Error::OutOfMemory {
            asked: length as u64,
            left: 0,
            limit: "the address space (RLIMIT_AS, ulimit -v, or vm.max_map_count)".into(),
        },
        other => Error::os("map shared memory", other),
    })?;
    // Core files would otherwise hold all of it. A kernel that does not know the advice goes on.
    // SAFETY: the range is the mapping just made.
    let _ = unsafe { mm::madvise(address, length, Advice::LinuxDontDump) };
    Ok(NonNull::new(address.cast()).expect("mmap never returns null"))
}

/// The size of a page.
pub(crate) const PAGE: u64 = 4096;

/// Who sees what is written to a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Everybody who maps the file.
    Shared,
    /// This process, and its children as they were forked.
    Private,
}

/// Maps a part of the file over what is mapped there now. If that fails, something is mapped there still.
///
/// # Safety
/// The range must be mapped already, and nobody may rely on what is there and not in the file.
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
            // Kernels before 6.12 have taken away the old mapping by then. What is private was refused for
            // its pages' sake, which what is shared needs none of.
            let whole = MapFlags::SHARED | MapFlags::FIXED_NOREPLACE;
            let _ = mm::mmap(place, length, prot, whole, fd, offset);
        })
    };
    mapped.map_err(|errno| Error::os("map shared memory anew", errno))?;
    // SAFETY: the range is the mapping just made.
    let _ = unsafe { mm::madvise(place, length, Advice::LinuxDontDump) };
    Ok(())
}

/// Reads a part of the file, whatever this process has written to mappings of its own.
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

/// A private page, and whether a forked child, however it was made, finds it zeroed. gVisor cannot do that, nor can
/// a sandbox that refuses `madvise`.
pub(crate) fn fork_wiped_page() -> Result<(NonNull<u8>, bool)> {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    let length = PAGE as usize;
    // SAFETY: a new mapping at an address of the kernel's choosing touches no memory of ours.
    let page = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), length, prot, MapFlags::PRIVATE) }
        .map_err(|errno| Error::os("map a page", errno))?;
    // SAFETY: the range is the mapping just made.
    let wiped = unsafe { mm::madvise(page, length, Advice::LinuxWipeOnFork) }.is_ok();
    let page = NonNull::new(page.cast()).expect("mmap never returns null");
    Ok((page, wiped))
}

/// Brings in all pages of a range for writing, so that running out is an error and not a SIGBUS.
pub(crate) fn populate(start: NonNull<u8>, length: usize) -> Result<()> {
    let first = start.as_ptr().addr() & !4095;
    let length = length + (start.as_ptr().addr() - first);
    let address = start.as_ptr().with_addr(first).cast();
    // SAFETY: populating changes no contents; the range lies within one mapped segment.
    match unsafe { mm::madvise(address, length, Advice::LinuxPopulateWrite) } {
        // Kernels before 5.14 do not know it, and a sandbox may refuse it: the pages then come one by one.
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

/// Gives the pages of a file range back to the system; they read as zeroes afterwards.
pub(crate) fn punch(fd: impl AsFd, offset: u64, length: u64) {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    // Failing keeps the memory, which is what would happen without the call.
    let _ = fs::fallocate(fd, mode, offset, length);
}
