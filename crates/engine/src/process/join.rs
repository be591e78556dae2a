//! How a process gets its arena: a new one, or the one of its process tree.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard};

use crate::arena::owner::ProcId;
use crate::arena::{self, Arena, home_if_any};
use crate::error::{Error, Result};
use crate::memory::{memory_limit, trimmer};
use crate::objects::local;
use crate::process::fork;
use crate::process_table::identity;
use crate::sys::thread;

static HOME_INIT: Mutex<()> = Mutex::new(());

/// Held while this process gets its arena, and across a fork.
pub(crate) fn lock() -> MutexGuard<'static, ()> {
    thread::lock(&HOME_INIT)
}

/// Gives this process an arena of its own, unless it has one.
pub(crate) fn join() -> Result<&'static Arena> {
    join_or_create(None)
}

/// Gives this process an arena: a new one, or the one behind a descriptor, with an entry reserved in it.
#[cold]
fn join_or_create(reserved: Option<(OwnedFd, ProcId)>) -> Result<&'static Arena> {
    let _one_at_a_time = lock();
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
    // Before it is set: a thread that finds the arena asks at once which process it is.
    identity::become_owner(proc_id, true);
    arena::set_home(arena);
    memory_limit::init();
    crate::sys::cpu::available();
    Ok(arena)
}

/// Takes the entry `owner` in the arena behind `fd`. For a process whose program was just started.
pub(crate) fn enter(fd: OwnedFd, owner: ProcId) -> Result<()> {
    join_or_create(Some((fd, owner))).map(drop)
}

impl Arena {
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
        let local = local::lock();
        self.log_for(proc_id, local.open.keys().copied());
        for block in local.open.keys() {
            self.add_hold(*block, proc_id)?;
        }
        self.claim_entry(proc_id)?;
        identity::become_owner(proc_id, local.invalid.is_empty());
        drop(local);
        self.release_former(former);
        Ok(())
    }
}
