//! How a process joins the process tree, leaves it, and learns what became of the others.

use std::os::fd::{OwnedFd, RawFd};

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::home_if_any;
use crate::arena::owner::Owner;
use crate::arena::upcalls::ops_of;
use crate::error::{Error, Result};
use crate::memory::{memory_limit, trimmer};
use crate::objects::handle::Handle;
use crate::objects::private_mapping;
use crate::process_table::home;

pub mod child;
pub(crate) mod fork;
mod inherit;
pub(crate) mod join;
pub mod parent_death;
mod recovery;

pub use crate::arena::owner::ProcId;
pub use crate::process_table::ExitState;

/// Makes sure that this process has shared memory and an entry in its process table.
///
/// # Errors
/// [`Error::MissingCall`] where the kernel lacks memory files, [`Error::OutOfMemory`].
pub fn ensure() -> Result<()> {
    home().map(drop)
}

/// Why this process can never have shared memory: the error that [`ensure`] would return, unless that error may pass.
///
/// Makes two system calls at most. Neither leaves anything behind.
pub fn refusal() -> Option<Error> {
    if home_if_any().is_some() {
        return None;
    }
    let refused = crate::sys::memfd::create(0).err();
    // A lack of descriptors or memory is not permanent.
    refused.filter(|error| matches!(error, Error::MissingCall { .. }))
}

/// The descriptor of the shared memory, to pass to a program that will [`enter`].
///
/// # Errors
/// As [`ensure`]; [`Error::MemoryClosed`] when the program closed it and no other process can hand it back.
pub fn arena_fd() -> Result<RawFd> {
    home()?.descriptor_to_pass()
}

/// This process.
///
/// # Panics
/// When the process has no shared memory and cannot get any; [`ensure`] returns the reason.
pub fn me() -> ProcId {
    match home() {
        Ok(arena) => arena.me(),
        Err(error) => panic!("this process has no shared memory: {error}"),
    }
}

/// Joins the process tree whose memory is behind `fd`, in the entry that the parent reserved.
///
/// # Errors
/// [`Error::SeatGone`] when the entry was released meanwhile, [`Error::Version`] when another version laid out the
/// memory, [`Error::Invalid`] when this process already uses memory of its own.
pub fn enter(fd: OwnedFd, proc_id: ProcId) -> Result<()> {
    join::enter(fd, proc_id)
}

/// Moves this forked process to an entry that another process reserved for it.
///
/// # Errors
/// [`Error::SeatGone`] when the entry was released meanwhile.
pub fn move_to_entry(proc_id: ProcId) -> Result<()> {
    home()?.move_to_entry(proc_id)
}

/// The id of the child of this thread's last `fork`. Returned once, in the parent.
pub fn forked_child() -> Option<ProcId> {
    fork::child()
}

/// Checks that the child of this thread's last `fork` holds everything its parent has open. Answers once on each
/// side.
///
/// The engine cannot refuse a fork of the C library, so the caller checks afterwards: the child before it does
/// anything else, and the parent. A child that goes on despite an error gets an error for every object that it lacks.
///
/// # Errors
/// [`Error::OutOfMemory`] when there was no room to register the child as a holder; [`Error::TableFull`] when the
/// tree already has 4095 processes.
pub fn check_fork() -> Result<()> {
    match fork::take_error() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Sets how the engine starts a thread that a fork needs: `start_later` is to call its argument once the fork has
/// returned. For runtimes that look for threads during a fork. Without it, the thread is started at once.
pub fn start_threads_by(start_later: fn(fn())) {
    trimmer::start_threads_by(start_later);
}

/// Marks the end of this process as an orderly exit.
///
/// Locks that it holds stay held, and nobody can release them. Without the mark the end counts as a death, and its
/// locks are broken.
pub fn leave() {
    if let Some(arena) = home_if_any() {
        trimmer::stop_for_good(arena);
        let me = arena.me();
        // Not only the open ones: this process may hold a lock whose last handle here was dropped.
        for (kind, block) in arena.held_objects() {
            (ops_of(kind).holder_leaves)(arena, block, me);
        }
        private_mapping::withdraw_all(arena);
        arena.leave(me);
    }
}

/// Ends this process now, as an orderly exit. For a copy made by a fork, which must not run the exit functions and
/// destructors of its parent.
pub fn leave_at_once(code: i32) -> ! {
    leave();
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// An entry in the process table for a child that is about to be started.
///
/// Dropping it releases the entry; [`Reservation::keep`] leaves it to the child.
#[derive(Debug)]
pub struct Reservation(Option<ProcId>);

impl Reservation {
    /// Reserves a free entry.
    ///
    /// # Errors
    /// [`Error::TableFull`] when the tree already has 4095 processes.
    pub fn reserve() -> Result<Reservation> {
        let arena = home()?;
        Ok(Reservation(Some(arena.reserve(Some(arena.me()))?)))
    }

    /// The reservation of an entry that was [kept](Reservation::keep) for a child that is yet to be started.
    pub fn from_id(id: ProcId) -> Reservation {
        Reservation(Some(id))
    }

    /// The id that the child will have.
    pub fn id(&self) -> ProcId {
        self.0.expect("an entry that was not kept")
    }

    /// Makes the child a holder of the object. This process must have it open.
    ///
    /// # Errors
    /// [`Error::StaleHandle`], [`Error::ForeignHandle`], [`Error::OutOfMemory`].
    pub fn hold(&self, handle: &Handle) -> Result<()> {
        hold_for(self.id(), handle)
    }

    /// Records the child's PID, so that others notice if it dies before it claims the entry.
    pub fn note_pid(&self, pid: u32) {
        note_pid(self.id(), pid);
    }

    /// Leaves the entry to the child.
    pub fn keep(mut self) -> ProcId {
        self.0.take().expect("an entry that was not kept")
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(owner) = self.0 {
            release_entry(owner);
        }
    }
}

/// As [`Reservation::hold`], for an entry known by its id.
///
/// # Errors
/// As [`Reservation::hold`].
pub fn hold_for(proc_id: ProcId, handle: &Handle) -> Result<()> {
    let arena = home()?;
    if handle.arena() != arena.id() {
        return Err(Error::ForeignHandle);
    }
    let block = BlockId::new(handle.block()).ok_or(Error::BadHandle)?;
    arena.add_checked_hold(block, handle.generation(), proc_id)?;
    // A sweep over a child that died meanwhile may have passed this object already.
    if arena.is_dead(proc_id) {
        arena.drop_hold(block, proc_id);
    }
    Ok(())
}

/// As [`Reservation::note_pid`], for an entry known by its id.
pub fn note_pid(proc_id: ProcId, pid: u32) {
    if let Some(arena) = home_if_any() {
        arena.note_pid(proc_id, pid);
    }
}

/// The PID and time namespace of this process, as one number; zero where they are unknown. Two processes agree on
/// what a PID means only if this number is the same for both.
pub fn number_space() -> u32 {
    crate::sys::pid::space()
}

/// Releases a reserved entry whose process was never started.
pub fn release_entry(proc_id: ProcId) {
    if let Some(arena) = home_if_any() {
        arena.release(proc_id);
    }
}

/// What became of a process.
pub fn exit_state(owner: ProcId) -> ExitState {
    home_if_any().map_or(ExitState::Left, |arena| arena.exit_state(owner))
}

/// Releases everything that a process owned, if it is gone. Returns how it ended.
///
/// Call it after collecting the status of a child. It takes nothing from a living process.
pub fn reap(owner: ProcId) -> ExitState {
    home_if_any().map_or(ExitState::Left, |arena| arena.reap(owner))
}

/// As [`reap`], for a child of this process whose status was collected. If the child was killed before it claimed its
/// entry, nobody ever will. If another program replaced it unnoticed, that program is gone too.
pub fn reap_collected(owner: ProcId) -> ExitState {
    home_if_any().map_or(ExitState::Left, |arena| match arena.is_expected(owner) {
        true => {
            arena.release(owner);
            ExitState::Died
        }
        false => arena.reap_collected(owner),
    })
}

/// Reaps every dead process of the tree. Returns their number.
pub fn sweep() -> usize {
    home_if_any().map_or(0, |arena| arena.sweep())
}

/// What is in use in the shared memory of this process tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryStats {
    /// Entries in use in the process table.
    pub processes: usize,
    /// Blocks that are not free, including those of objects.
    pub blocks_in_use: usize,
    /// Locks, queues, values and the like.
    pub objects: usize,
    /// Bytes of memory behind all of this, including free blocks that are kept resident.
    pub bytes_committed: u64,
    /// Segments that the memory has grown by.
    pub segments: usize,
}

/// How much memory a process tree uses, and its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in blocks that are in use.
    pub in_use: u64,
    /// Bytes that the kernel has provided: blocks in use, free memory kept for later use, and the tables.
    pub resident: u64,
    /// Upper limit for `resident`, if there is a limit besides the machine's.
    pub limit: Option<u64>,
}

/// How much memory the process tree has. Visits every block.
///
/// # Errors
/// As [`ensure`].
pub fn memory() -> Result<Memory> {
    home().map(memory_of)
}

/// As [`memory()`]. In a process that has no shared memory yet, it only reports the limit from the environment.
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

fn memory_of(arena: &'static Arena) -> Memory {
    Memory {
        in_use: arena.in_use(),
        resident: arena.resident(),
        limit: memory_limit::limit(arena),
    }
}

/// Returns all free memory to the system. Returns the number of bytes; zero in a process without shared memory.
///
/// It also collapses memory that was copy-on-write with children that are gone: the parent, now alone with the bytes,
/// gets them in private memory. Free memory goes back to the system by itself after a moment; this is for callers
/// that want it now. The thread that does this in the background ends, until more memory is freed.
pub fn trim() -> u64 {
    home_if_any().map_or(0, |arena| {
        drop(trimmer::stop());
        let before = arena.resident();
        arena.sweep();
        arena.collapse_unshared(|| false);
        arena.release_free_pages();
        before.saturating_sub(arena.resident())
    })
}

/// Returns free memory to the system if at most one queue or pipe is left, and it is no longer used.
pub(crate) fn trim_for_last_channel() {
    if let Some(arena) = home_if_any() {
        arena.trim_for_last_channel();
    }
}

/// Limits how many bytes the memory of the process tree may take, for all its processes; `None` removes the limit.
/// Memory in use already stays.
///
/// # Errors
/// As [`ensure`].
pub fn set_memory_limit(limit: Option<u64>) -> Result<()> {
    memory_limit::set_limit(home()?, limit);
    Ok(())
}

/// Counts what is in use, for tests and tools. Visits every block.
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
