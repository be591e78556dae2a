//! Processes as members of the tree: entering, leaving, and knowing what became of the others.

use std::os::fd::{OwnedFd, RawFd};

use crate::error::{Error, Result};
use crate::memory;
use crate::memory::block::BlockId;
use crate::memory::owner::Owner;
use crate::memory::{home, home_if_any, memory_limit, trimmer};
use crate::objects::handle::Handle;
use crate::objects::object::Kind;
use crate::objects::private_mapping;
use crate::sync;

pub mod child;
pub(crate) mod death_watch;
mod entry_state;
pub(crate) mod fork;
mod inherit;
mod liveness_thread;
pub(crate) mod ownership_log;
pub mod parent_death;
pub(crate) mod reclaim;
mod recovery;
mod successors;
pub(crate) mod table;
pub(crate) mod wait_registry;

pub use crate::memory::owner::ProcId;
pub use crate::process::table::ExitState;

/// Makes sure that this process has shared memory and a place in its process table.
///
/// # Errors
/// [`Error::MissingCall`] where the kernel lacks memory files, [`Error::OutOfMemory`].
pub fn ensure() -> Result<()> {
    home().map(drop)
}

/// Why this process can have no shared memory, whatever becomes free: the error that [`ensure`] would return.
///
/// It takes two system calls, and neither makes nor changes anything.
pub fn refusal() -> Option<Error> {
    if home_if_any().is_some() {
        return None;
    }
    let refused = crate::sys::memfd::create(0).err();
    // That descriptors or memory are used up is no refusal: there may be some again.
    refused.filter(|error| matches!(error, Error::MissingCall { .. }))
}

/// The descriptor of the shared memory, to be passed to a program that will [`enter`].
///
/// # Errors
/// As [`ensure`]; [`Error::MemoryClosed`] when the program closed it and nobody has it to give it back.
pub fn arena_fd() -> Result<RawFd> {
    home()?.descriptor_to_pass()
}

/// This process.
///
/// # Panics
/// When the process has no shared memory and none can be had; [`ensure`] tells why.
pub fn me() -> ProcId {
    match home() {
        Ok(arena) => arena.me(),
        Err(error) => panic!("this process has no shared memory: {error}"),
    }
}

/// Joins the process tree whose memory is behind `fd`, on the slot its parent reserved.
///
/// # Errors
/// [`Error::SeatGone`] when the slot was given up meanwhile, [`Error::Version`] when the memory was
/// laid out by another version, [`Error::Invalid`] when this process uses memory of its own already.
pub fn enter(fd: OwnedFd, slot: ProcId) -> Result<()> {
    memory::enter(fd, slot)
}

/// Moves this forked process to a slot that somebody reserved for it.
///
/// # Errors
/// [`Error::SeatGone`] when the slot was given up meanwhile.
pub fn move_to_entry(slot: ProcId) -> Result<()> {
    home()?.move_to_entry(slot)
}

/// Where the child of this thread's last `fork` sits; once, in the parent.
pub fn forked_child() -> Option<ProcId> {
    fork::child()
}

/// Whether the child of this thread's last `fork` has all that its parent has open; once on each side.
///
/// A fork of the C library cannot be refused by the engine, so whoever forks asks afterwards: the child, before it
/// does anything, and the parent. A child that goes on nevertheless gets an error for every object that it lacks.
///
/// # Errors
/// [`Error::OutOfMemory`] when there was no room for its name; [`Error::TableFull`] when 4095 processes are in the tree.
pub fn check_fork() -> Result<()> {
    match fork::lack() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Says how the engine is to start a thread that a fork needs: by having `in_a_moment` call what it is given, once the
/// fork has returned. For runtimes that look for threads then. Without it, it is started at once.
pub fn start_threads_by(in_a_moment: fn(fn())) {
    trimmer::start_threads_by(in_a_moment);
}

/// Marks this process's end as orderly.
///
/// Locks it holds stay held, as a gate that nobody opened. Without the mark its end is a death, and
/// they are broken.
pub fn leave() {
    if let Some(arena) = home_if_any() {
        trimmer::stop_for_good(arena);
        let me = arena.me();
        for kind in [Kind::Lock, Kind::RLock] {
            // Not only those that are open: a lock may be held whose last handle here was dropped.
            for block in arena.held_objects_of(kind) {
                sync::keep_held(arena, block, me);
            }
        }
        private_mapping::withdraw_all(arena);
        arena.leave(me);
    }
}

/// Ends this process now, in order: a copy that a fork made, whose exit functions and destructors are another's.
pub fn leave_at_once(code: i32) -> ! {
    leave();
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// A place in the process table for a child that is about to be started.
///
/// Dropped, it is given back; [`Reservation::keep`] leaves it to the child.
#[derive(Debug)]
pub struct Reservation(Option<ProcId>);

impl Reservation {
    /// Takes a free place.
    ///
    /// # Errors
    /// [`Error::TableFull`] when 4095 processes are in the tree.
    pub fn reserve() -> Result<Reservation> {
        let arena = home()?;
        Ok(Reservation(Some(arena.reserve(Some(arena.me()))?)))
    }

    /// The place that somebody [kept](Reservation::keep) for a child that is yet to be started.
    pub fn from_id(id: ProcId) -> Reservation {
        Reservation(Some(id))
    }

    /// The id of the child to be.
    pub fn id(&self) -> ProcId {
        self.0.expect("a slot that was not kept")
    }

    /// Makes the child a holder of the object, which must be open in this process.
    ///
    /// # Errors
    /// [`Error::StaleHandle`], [`Error::ForeignHandle`], [`Error::OutOfMemory`].
    pub fn hold(&self, handle: &Handle) -> Result<()> {
        hold_for(self.id(), handle)
    }

    /// Writes down the child's process number, so that its death before it sits is seen.
    pub fn note_pid(&self, pid: u32) {
        note_pid(self.id(), pid);
    }

    /// Leaves the slot to the child.
    pub fn keep(mut self) -> ProcId {
        self.0.take().expect("a slot that was not kept")
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(owner) = self.0 {
            release_entry(owner);
        }
    }
}

/// As [`Reservation::hold`], for a slot known by its id.
///
/// # Errors
/// As [`Reservation::hold`].
pub fn hold_for(slot: ProcId, handle: &Handle) -> Result<()> {
    let arena = home()?;
    if handle.arena() != arena.id() {
        return Err(Error::ForeignHandle);
    }
    let block = BlockId::new(handle.block()).ok_or(Error::BadHandle)?;
    arena.add_checked_hold(block, handle.generation(), slot)?;
    // A sweep over a child that died meanwhile may have passed here already.
    if arena.is_dead(slot) {
        arena.drop_hold(block, slot);
    }
    Ok(())
}

/// As [`Reservation::note_pid`], for a slot known by its id.
pub fn note_pid(slot: ProcId, pid: u32) {
    if let Some(arena) = home_if_any() {
        arena.note_pid(slot, pid);
    }
}

/// The PID and time namespace that this process is in, as one number; zero where they are unknown. A process number
/// means the same to two processes only where this is the same.
pub fn number_space() -> u32 {
    crate::sys::pid::space()
}

/// Gives back a reserved slot whose process was never started.
pub fn release_entry(slot: ProcId) {
    if let Some(arena) = home_if_any() {
        arena.release(slot);
    }
}

/// What became of a process.
pub fn exit_state(owner: ProcId) -> ExitState {
    home_if_any().map_or(ExitState::Left, |arena| arena.exit_state(owner))
}

/// Gives back all that a process owned, once it is gone; says how it went.
///
/// To be called by whoever reaps a child. Of a living process nothing is taken.
pub fn reap(owner: ProcId) -> ExitState {
    home_if_any().map_or(ExitState::Left, |arena| arena.reap(owner))
}

/// As [`reap`], for a child of this process that it has reaped: if it was killed before it could sit, nobody
/// ever will; and if another program took its place unseen, that one is gone too.
pub fn reap_collected(owner: ProcId) -> ExitState {
    home_if_any().map_or(ExitState::Left, |arena| match arena.is_expected(owner) {
        true => {
            arena.release(owner);
            ExitState::Died
        }
        false => arena.reap_collected(owner),
    })
}

/// Reaps every process of the tree that is gone; the number of them.
pub fn sweep() -> usize {
    home_if_any().map_or(0, |arena| arena.sweep())
}

/// What is in use in the shared memory of this process tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryStats {
    /// Places taken in the process table.
    pub processes: usize,
    /// Blocks that are not free, those of objects included.
    pub blocks_in_use: usize,
    /// Locks, queues, values and the like.
    pub objects: usize,
    /// Bytes of memory behind all of it, free blocks kept warm included.
    pub bytes_committed: u64,
    /// Pieces that the memory was grown by.
    pub segments: usize,
}

/// How much memory a process tree has, and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in blocks that somebody uses.
    pub in_use: u64,
    /// Bytes that the kernel has given: what is in use, what lies free for the next, and the tables.
    pub resident: u64,
    /// How many those may be, if there is a limit besides the machine's.
    pub limit: Option<u64>,
}

/// How much memory the process tree has. Walks over everything.
///
/// # Errors
/// As [`ensure`].
pub fn memory() -> Result<Memory> {
    home().map(memory_of)
}

/// As [`memory`]; nothing but the limit of the environment, in a process that has no shared memory yet.
pub fn memory_so_far() -> Memory {
    home_if_any().map_or_else(
        || Memory {
            in_use: 0,
            resident: 0,
            limit: memory_limit::own_limit(),
        },
        memory_of,
    )
}

fn memory_of(arena: &'static memory::Arena) -> Memory {
    Memory {
        in_use: arena.in_use(),
        resident: arena.resident(),
        limit: memory_limit::limit(arena),
    }
}

/// Gives all memory that lies free back to the system, and says how many bytes that were; zero in a process
/// without shared memory.
///
/// So is what was copy-on-write to children that are gone: their parent has the bytes to itself again, in private memory.
/// Memory that was free for a moment goes back by itself: this is for who wants it now. The thread that would
/// give it back is gone afterwards, until more is freed.
pub fn trim() -> u64 {
    home_if_any().map_or(0, |arena| {
        drop(trimmer::stop());
        let before = arena.resident();
        arena.sweep();
        arena.take_out_what_is_alone(|| false);
        arena.release_free_pages();
        before.saturating_sub(arena.resident())
    })
}

/// Gives back what lies free if there is one queue or pipe at most, which is used no more.
pub(crate) fn trim_for_last_channel() {
    if let Some(arena) = home_if_any() {
        arena.trim_for_last_channel();
    }
}

/// Sets how many bytes the memory of the process tree may take, for all its processes; `None` for no limit.
/// What is there already stays.
///
/// # Errors
/// As [`ensure`].
pub fn set_memory_limit(limit: Option<u64>) -> Result<()> {
    memory_limit::set_limit(home()?, limit);
    Ok(())
}

/// Counts what is in use, for tests and tools. Walks over everything.
pub fn memory_stats() -> MemoryStats {
    let Some(arena) = home_if_any() else {
        return MemoryStats::default();
    };
    let mut memory_stats = MemoryStats {
        processes: arena.occupied().count(),
        segments: arena.segments().count(),
        bytes_committed: arena.resident(),
        ..MemoryStats::default()
    };
    for cell in arena.used() {
        memory_stats.blocks_in_use += 1;
        memory_stats.objects += usize::from(cell.owner.is(Owner::Shared));
    }
    memory_stats
}
