//! The arena: one memory file without a name, mapped into every process of a tree.
//!
//! This layer knows where everything lies: the root with its tables, the segments, the blocks and their cells, and what
//! each word there means. It changes nothing but the length of the file. `process_table` changes the rows of the
//! process table, and `memory` takes and frees blocks.

pub(crate) mod cell;
pub(crate) mod entry_state;
mod file;
pub(crate) mod kind;
pub(crate) mod layout;
pub(crate) mod owner;
pub(crate) mod process_entry;
pub(crate) mod segment;
pub(crate) mod size_class;
pub(crate) mod upcalls;

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::arena::cell::BlockId;
use crate::arena::file::ArenaFile;
use crate::arena::kind::Kind;
use crate::arena::layout::{FIRST_PAGE, MAGIC, ROOT_BYTES, Root, SEGMENTS, VERSION};
use crate::arena::owner::Owner;
use crate::arena::segment::Mapped;
use crate::error::{Error, Result};
use crate::sys::memfd;

/// An arena as this process sees it.
pub(crate) struct Arena {
    file: ArenaFile,
    pub(crate) root: NonNull<Root>,
    /// Where each segment is mapped in this process; null before its first use.
    mapped: [AtomicPtr<Mapped>; SEGMENTS],
    pub(crate) mapping: Mutex<()>,
}

// SAFETY: the root is shared memory of atomics that is never unmapped; the rest has its own locks.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// The arena of this process; null before its first use. Never freed once it is set.
static HOME: AtomicPtr<Arena> = AtomicPtr::new(std::ptr::null_mut());

/// This process's arena, if it has one yet.
#[inline]
pub(crate) fn home_if_any() -> Option<&'static Arena> {
    // SAFETY: set to a leaked box and never changed afterwards.
    NonNull::new(HOME.load(Ordering::Acquire)).map(|arena| unsafe { arena.as_ref() })
}

/// Sets the arena of this process, once.
pub(crate) fn set_home(arena: &'static Arena) {
    HOME.store(std::ptr::from_ref(arena).cast_mut(), Ordering::Release);
}

impl Arena {
    /// A new arena, with a file of its own.
    pub(crate) fn create() -> Result<Box<Arena>> {
        let (fd, length) = memfd::create(ROOT_BYTES)?;
        let arena = Arena::over(fd, length)?;
        let id = unique_bytes();
        let (words, _) = id.as_chunks::<8>();
        for (place, word) in arena.root().id.iter().zip(words) {
            place.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        arena.root().version.store(VERSION, Ordering::Relaxed);
        arena.root().magic.store(MAGIC, Ordering::Release);
        Ok(arena)
    }

    /// The arena behind a descriptor.
    pub(crate) fn attach(fd: OwnedFd) -> Result<Box<Arena>> {
        let size = rustix::fs::fstat(&fd)
            .map_err(|errno| Error::os("look at the shared memory passed to this process", errno))?
            .st_size;
        if (size as u64) < FIRST_PAGE {
            return Err(Error::BadHandle);
        }
        let arena = Arena::over(fd, size as u64)?;
        if arena.root().magic.load(Ordering::Acquire) != MAGIC {
            return Err(Error::BadHandle);
        }
        match arena.root().version.load(Ordering::Relaxed) {
            VERSION if (size as u64) < ROOT_BYTES => Err(Error::BadHandle),
            VERSION => Ok(arena),
            found => Err(Error::Version {
                found,
                ours: VERSION,
            }),
        }
    }

    fn over(fd: OwnedFd, length: u64) -> Result<Box<Arena>> {
        let root = memfd::map(&fd, 0, ROOT_BYTES as usize)?.cast();
        Ok(Box::new(Arena {
            file: ArenaFile::new(fd, length)?,
            root,
            mapped: [const { AtomicPtr::new(std::ptr::null_mut()) }; SEGMENTS],
            mapping: Mutex::new(()),
        }))
    }

    pub(crate) fn root(&self) -> &Root {
        // SAFETY: mapped for good, large enough, and made of atomics.
        unsafe { self.root.as_ref() }
    }

    pub(crate) fn id(&self) -> [u64; 2] {
        let [high, low] = &self.root().id;
        [high.load(Ordering::Relaxed), low.load(Ordering::Relaxed)]
    }

    /// The blocks that hold an object of `kind`, whether this process has it open or not. A snapshot, possibly
    /// outdated.
    pub(crate) fn objects_of(&'static self, kind: Kind) -> impl Iterator<Item = BlockId> {
        self.blocks()
            .filter(move |(_, cell)| {
                cell.kind.load(Ordering::Acquire) == kind as u32 && cell.owner.is(Owner::Shared)
            })
            .map(|(block, _)| block)
    }
}

/// Bytes that no other arena has. They need not be secret.
fn unique_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if drawn != Ok(bytes.len()) && !read_random(&mut bytes) {
        // Neither the call nor the device works: use the time, the process number, and the address of the stack.
        let when = crate::deadline::monotonic_ns().to_ne_bytes();
        let here = (bytes.as_ptr().addr() as u64) << 24;
        let who = (here ^ u64::from(std::process::id())).to_ne_bytes();
        bytes[..8].copy_from_slice(&when);
        bytes[8..].copy_from_slice(&who);
    }
    bytes
}

fn read_random(bytes: &mut [u8]) -> bool {
    use std::io::Read;
    let device = std::fs::File::open("/dev/urandom");
    device.is_ok_and(|mut device| device.read_exact(bytes).is_ok())
}
