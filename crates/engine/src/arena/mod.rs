//! The shared memory of a process tree. See README.md in this folder for the protocols.
//!
//! One memory file without a name, cut into segments, cut into blocks. This layer gives out blocks,
//! knows the processes, and gives back what the dead owned. What the blocks are for is the business of
//! the layers above.

mod alone;
pub(crate) mod block;
pub(crate) mod budget;
mod carriers;
pub(crate) mod class;
mod deaths;
pub(crate) mod envelope;
mod file;
pub(crate) mod fork;
mod giving_back;
pub(crate) mod handle;
pub(crate) mod heirs;
mod holders;
mod inherit;
mod keeper;
pub(crate) mod labels;
pub(crate) mod layout;
pub(crate) mod lease;
pub(crate) mod lent;
pub(crate) mod notes;
pub(crate) mod object;
pub(crate) mod open;
pub(crate) mod owner;
pub(crate) mod seat;
mod seat_state;
pub(crate) mod segment;
mod sweep;
mod tables;
pub(crate) mod trim;
pub(crate) mod trimmer;
mod views;
pub(crate) mod waits;

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::sys::memfd;
use block::BlockId;
use file::ArenaFile;
use layout::{FIRST_PAGE, MAGIC, ROOT_BYTES, Root, SEGMENTS, VERSION};
use object::{Kind, Local};
use owner::{Owner, OwnerId};
use segment::Mapped;

/// An arena as this process sees it.
pub(crate) struct Arena {
    file: ArenaFile,
    root: NonNull<Root>,
    /// Each segment as it lies in this process; null before its first use.
    mapped: [AtomicPtr<Mapped>; SEGMENTS],
    mapping: Mutex<()>,
    local: Mutex<Local>,
}

// SAFETY: the root is shared memory of atomics that is never unmapped; the rest has its own locks.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// The arena of this process; null before its first use. Never freed once set.
static HOME: AtomicPtr<Arena> = AtomicPtr::new(std::ptr::null_mut());
static SETTLING: Mutex<()> = Mutex::new(());

/// This process's arena, if it has one yet.
#[inline]
pub(crate) fn home_if_any() -> Option<&'static Arena> {
    // SAFETY: set to a leaked box and never changed afterwards.
    NonNull::new(HOME.load(Ordering::Acquire)).map(|arena| unsafe { arena.as_ref() })
}

/// This process's arena, made if need be.
#[inline]
pub(crate) fn home() -> Result<&'static Arena> {
    match home_if_any() {
        Some(arena) => Ok(arena),
        None => settle(None),
    }
}

/// Gives this process an arena: a new one, or the one behind a descriptor with a seat in it.
#[cold]
fn settle(place: Option<(OwnedFd, OwnerId)>) -> Result<&'static Arena> {
    let _one_at_a_time = lock(&SETTLING);
    if let Some(arena) = home_if_any() {
        return match place {
            None => Ok(arena),
            Some((fd, seat)) => arena.move_to(fd, seat),
        };
    }
    fork::prepare()?;
    let (arena, seat) = match place {
        None => {
            let arena = Arena::create()?;
            let seat = arena.reserve(None)?;
            (arena, seat)
        }
        Some((fd, seat)) => (Arena::attach(fd)?, seat),
    };
    arena.sit(seat)?;
    let arena = Box::leak(arena);
    // First: whoever finds the arena finds out who it is.
    fork::become_owner(seat, true);
    HOME.store(arena, Ordering::Release);
    budget::warm();
    crate::sys::cpu::available();
    Ok(arena)
}

/// Takes the seat `owner` in the arena behind `fd`; for a process whose program was just started.
pub(crate) fn enter(fd: OwnedFd, owner: OwnerId) -> Result<()> {
    settle(Some((fd, owner))).map(drop)
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

    /// A process that has an arena is told to sit in another place of the same one.
    fn move_to(&'static self, fd: OwnedFd, seat: OwnerId) -> Result<&'static Arena> {
        let other = Arena::attach(fd)?;
        if other.id() != self.id() {
            return Err(Error::Invalid(
                "this process uses shared memory of its own already; let it enter its parent's before it makes a queue, lock or value".into(),
            ));
        }
        self.take_seat(seat)?;
        Ok(self)
    }

    /// Moves this process from the seat a fork gave it to one that was reserved for it.
    pub(crate) fn take_seat(&self, seat: OwnerId) -> Result<()> {
        let former = self.me();
        if former == seat {
            return Ok(());
        }
        // Which is known by the former seat.
        drop(trimmer::stop());
        let local = self.lock_local();
        self.note_for(seat, local.open.keys().copied());
        for block in local.open.keys() {
            self.add_hold(*block, seat)?;
        }
        self.sit(seat)?;
        fork::become_owner(seat, local.void.is_empty());
        drop(local);
        self.vacate(former);
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
    pub(crate) fn me(&self) -> OwnerId {
        // Without a seat nothing of ours could be told from anybody's: there is no going on.
        self.seated().unwrap_or_else(|error| {
            panic!("a forked process could not join its parent's shared memory: {error}")
        })
    }

    /// This process, which takes a seat if it has none yet.
    #[inline]
    pub(super) fn seated(&self) -> Result<OwnerId> {
        match fork::current() {
            Some(owner) => Ok(owner),
            None => self.sit_anew(),
        }
    }

    /// This process, as the owner of a block.
    pub(crate) fn mine(&self) -> Owner {
        Owner::Process(self.me())
    }

    fn lock_local(&self) -> MutexGuard<'_, Local> {
        lock(&self.local)
    }

    /// The objects of `kind` that this process held at some time, if they are there still.
    pub(crate) fn held_objects_of(&self, kind: Kind) -> Vec<BlockId> {
        let mut found = Vec::new();
        self.look_at_noted(self.me(), |block, cell| {
            if cell.kind.load(Ordering::Acquire) == kind as u32 && cell.owner.is(Owner::Shared) {
                found.push(block);
            }
            true
        });
        found
    }

    /// The blocks that hold an object of `kind`, open in this process or not, as they were a moment ago.
    pub(crate) fn objects_of(&'static self, kind: Kind) -> impl Iterator<Item = BlockId> {
        self.blocks()
            .filter(move |(_, cell)| {
                cell.kind.load(Ordering::Acquire) == kind as u32 && cell.owner.is(Owner::Shared)
            })
            .map(|(block, _)| block)
    }
}

/// Locks a mutex of this process's own; what a panicking thread left is whole, every change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Bytes that no other arena has; no secret hangs on them.
fn unique_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if drawn != Ok(bytes.len()) && !read_random(&mut bytes) {
        // Neither call nor device: when and by whom it was made, and where that has its stack.
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
