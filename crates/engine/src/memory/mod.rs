//! The shared memory of a process tree. See README.md in this folder for the protocols.
//!
//! One memory file without a name, cut into segments, which are cut into blocks. This layer allocates blocks, knows the
//! processes, and reclaims what dead processes owned. The layers above decide what the blocks are for.

pub(crate) mod block;
mod cell_release;
mod file;
pub(crate) mod layout;
pub(crate) mod memory_limit;
pub(crate) mod owner;
pub(crate) mod page_release;
pub(crate) mod segment;
pub(crate) mod size_class;
pub(crate) mod trim;
pub(crate) mod trimmer;
pub(crate) mod views;

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::memory::block::BlockId;
use crate::memory::file::ArenaFile;
use crate::memory::layout::{FIRST_PAGE, MAGIC, ROOT_BYTES, Root, SEGMENTS, VERSION};
use crate::memory::owner::{Owner, ProcId};
use crate::memory::segment::Mapped;
use crate::objects::object::{Kind, Local};
use crate::process::fork;
use crate::sys::memfd;

/// An arena as this process sees it.
pub(crate) struct Arena {
    file: ArenaFile,
    pub(crate) root: NonNull<Root>,
    /// Where each segment is mapped in this process; null before its first use.
    mapped: [AtomicPtr<Mapped>; SEGMENTS],
    pub(crate) mapping: Mutex<()>,
    local: Mutex<Local>,
}

// SAFETY: the root is shared memory of atomics that is never unmapped; the rest has its own locks.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// The arena of this process; null before its first use. Never freed once it is set.
static HOME: AtomicPtr<Arena> = AtomicPtr::new(std::ptr::null_mut());
pub(crate) static HOME_INIT: Mutex<()> = Mutex::new(());

/// This process's arena, if it has one yet.
#[inline]
pub(crate) fn home_if_any() -> Option<&'static Arena> {
    // SAFETY: set to a leaked box and never changed afterwards.
    NonNull::new(HOME.load(Ordering::Acquire)).map(|arena| unsafe { arena.as_ref() })
}

/// This process's arena; creates it if needed.
#[inline]
pub(crate) fn home() -> Result<&'static Arena> {
    match home_if_any() {
        Some(arena) => Ok(arena),
        None => join_or_create(None),
    }
}

/// Gives this process an arena: a new one, or the one behind a descriptor, with an entry reserved in it.
#[cold]
fn join_or_create(reserved: Option<(OwnedFd, ProcId)>) -> Result<&'static Arena> {
    let _one_at_a_time = lock(&HOME_INIT);
    if let Some(arena) = home_if_any() {
        return match reserved {
            None => Ok(arena),
            Some((fd, proc_id)) => arena.move_to(fd, proc_id),
        };
    }
    fork::prepare()?;
    let (arena, proc_id) = match reserved {
        None => {
            let arena = Arena::create()?;
            let proc_id = arena.reserve(None)?;
            (arena, proc_id)
        }
        Some((fd, proc_id)) => (Arena::attach(fd)?, proc_id),
    };
    arena.claim_entry(proc_id)?;
    let arena = Box::leak(arena);
    // Before `HOME` is set: a thread that finds the arena asks at once which process it is.
    fork::become_owner(proc_id, true);
    HOME.store(arena, Ordering::Release);
    memory_limit::init();
    crate::sys::cpu::available();
    Ok(arena)
}

/// Takes the entry `owner` in the arena behind `fd`. For a process whose program was just started.
pub(crate) fn enter(fd: OwnedFd, owner: ProcId) -> Result<()> {
    join_or_create(Some((fd, owner))).map(drop)
}

impl Arena {
    fn create() -> Result<Box<Arena>> {
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

    fn attach(fd: OwnedFd) -> Result<Box<Arena>> {
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
            local: Mutex::default(),
        }))
    }

    /// For a process that already has an arena and is told to take another entry of the same one.
    fn move_to(&'static self, fd: OwnedFd, proc_id: ProcId) -> Result<&'static Arena> {
        let other = Arena::attach(fd)?;
        if other.id() != self.id() {
            return Err(Error::Invalid(
                "this process uses shared memory of its own already; let it enter its parent's before it makes a queue, lock or value".into(),
            ));
        }
        self.move_to_entry(proc_id)?;
        Ok(self)
    }

    /// Moves this process from the entry that a fork gave it to the one that was reserved for it.
    pub(crate) fn move_to_entry(&self, proc_id: ProcId) -> Result<()> {
        let former = self.me();
        if former == proc_id {
            return Ok(());
        }
        // The trimmer thread is known by the former entry.
        drop(trimmer::stop());
        let local = self.lock_local();
        self.log_for(proc_id, local.open.keys().copied());
        for block in local.open.keys() {
            self.add_hold(*block, proc_id)?;
        }
        self.claim_entry(proc_id)?;
        fork::become_owner(proc_id, local.invalid.is_empty());
        drop(local);
        self.release_former(former);
        Ok(())
    }

    pub(crate) fn root(&self) -> &Root {
        // SAFETY: mapped for good, large enough, and made of atomics.
        unsafe { self.root.as_ref() }
    }

    pub(crate) fn id(&self) -> [u64; 2] {
        let [high, low] = &self.root().id;
        [high.load(Ordering::Relaxed), low.load(Ordering::Relaxed)]
    }

    /// This process.
    #[inline]
    pub(crate) fn me(&self) -> ProcId {
        // Without an entry, nothing of ours could be told from what belongs to others: we cannot continue.
        self.joined().unwrap_or_else(|error| {
            panic!("a forked process could not join its parent's shared memory: {error}")
        })
    }

    /// This process; it takes an entry if it has none yet.
    #[inline]
    pub(crate) fn joined(&self) -> Result<ProcId> {
        match fork::current() {
            Some(owner) => Ok(owner),
            None => self.claim_new_entry(),
        }
    }

    /// This process, as the owner of a block.
    pub(crate) fn mine(&self) -> Owner {
        Owner::Process(self.me())
    }

    pub(crate) fn lock_local(&self) -> MutexGuard<'_, Local> {
        lock(&self.local)
    }

    /// The objects of `kind` that this process held at some time and that still exist.
    pub(crate) fn held_objects_of(&self, kind: Kind) -> Vec<BlockId> {
        let mut found = Vec::new();
        self.visit_owned(self.me(), |block, cell| {
            if cell.kind.load(Ordering::Acquire) == kind as u32 && cell.owner.is(Owner::Shared) {
                found.push(block);
            }
            true
        });
        found
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

/// Locks a mutex of this process's own. Ignores poisoning: every change is one step, so a panicking thread leaves valid
/// data.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
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
