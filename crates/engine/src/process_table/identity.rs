//! This process: its id in a page that a fork wipes, its arena, and the lock that keeps forks out.
//!
//! A child made by a raw `clone` runs no handler. It is recognised because the kernel wiped the page with the id; the
//! child then claims an entry of its own. Where the kernel cannot wipe pages, the page holds the PID beside the id,
//! and every reader compares the two.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::arena::owner::{Owner, ProcId};
use crate::arena::upcalls::upcalls;
use crate::arena::{Arena, home_if_any};
use crate::error::Result;
use crate::sys::memfd;

/// The identity of this process, in a page that forked children find zeroed where the kernel supports that.
#[repr(C)]
struct Identity {
    /// The id of this process, while it holds everything that it has handles to. Zero if the slow path has to decide.
    id: AtomicU32,
    /// The id where the kernel wipes no pages, or where some handles are invalid (`process/inherit.rs`).
    slow_id: AtomicU32,
    /// The PID of the process that `slow_id` belongs to.
    pid: AtomicU32,
}

/// Used until there is a page.
static NO_IDENTITY: Identity = Identity::empty();
static IDENTITY: AtomicPtr<Identity> = AtomicPtr::new((&raw const NO_IDENTITY).cast_mut());
/// Whether the kernel wipes the page on a fork.
static KERNEL_WIPES: AtomicBool = AtomicBool::new(false);

impl Identity {
    const fn empty() -> Identity {
        Identity {
            id: AtomicU32::new(0),
            slow_id: AtomicU32::new(0),
            pid: AtomicU32::new(0),
        }
    }

    #[inline]
    fn get(&self) -> Option<ProcId> {
        ProcId::from_u32(self.id.load(Ordering::Relaxed)).or_else(|| self.slow_get())
    }

    #[cold]
    fn slow_get(&self) -> Option<ProcId> {
        let id = ProcId::from_u32(self.slow_id.load(Ordering::Acquire))?;
        (self.pid.load(Ordering::Relaxed) == std::process::id()).then_some(id)
    }

    fn set(&self, owner: ProcId, holds_all: bool) {
        self.clear();
        if holds_all && KERNEL_WIPES.load(Ordering::Relaxed) {
            self.id.store(owner.as_u32(), Ordering::Release);
            return;
        }
        self.pid.store(std::process::id(), Ordering::SeqCst);
        self.slow_id.store(owner.as_u32(), Ordering::Release);
    }

    fn clear(&self) {
        // The PID of this process never stands beside the id of another.
        self.slow_id.store(0, Ordering::SeqCst);
        self.id.store(0, Ordering::SeqCst);
    }
}

/// Keeps all threads out of the locks of the upper layers while one thread forks.
static FORK_LOCK: RwLock<()> = RwLock::new(());

/// Hold this around every other process-local lock, so that a forked child never finds one locked by a thread that it
/// does not have.
pub(crate) fn fork_guard() -> RwLockReadGuard<'static, ()> {
    FORK_LOCK.read().unwrap_or_else(|e| e.into_inner())
}

/// Waits until no thread holds a [`fork_guard`], and lets none take one. For the thread that forks.
pub(crate) fn lock_for_fork() -> RwLockWriteGuard<'static, ()> {
    FORK_LOCK.write().unwrap_or_else(|e| e.into_inner())
}

#[inline]
fn identity() -> &'static Identity {
    let page = IDENTITY.load(Ordering::Acquire);
    // SAFETY: a static, or a mapped page that is never unmapped: aligned atomics.
    unsafe { &*page }
}

/// The id in the identity page; `None` if there is none yet, or a fork wiped it.
#[inline]
pub(crate) fn current() -> Option<ProcId> {
    identity().get()
}

/// Whether this process has an entry and holds every object that it has a handle to. Also false where only the slow
/// path can tell.
#[inline]
pub(crate) fn holds_all() -> bool {
    identity().id.load(Ordering::Relaxed) != 0
}

/// Gives the calling process this id. `holds_all` says whether it holds everything that it has handles to.
pub(crate) fn become_owner(owner: ProcId, holds_all: bool) {
    identity().set(owner, holds_all);
}

/// Makes the identity page, unless there is one. Returns whether this call made it.
pub(crate) fn prepare() -> Result<bool> {
    let no_identity = (&raw const NO_IDENTITY).cast_mut();
    if IDENTITY.load(Ordering::Acquire) != no_identity {
        return Ok(false);
    }
    let (page, wiped) = memfd::fork_wiped_page()?;
    let page = page.cast::<Identity>().as_ptr();
    let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
    let is_ours = IDENTITY
        .compare_exchange(no_identity, page, success, failure)
        .is_ok();
    if is_ours && !cfg!(miri) {
        KERNEL_WIPES.store(wiped, Ordering::Relaxed);
    }
    Ok(is_ours)
}

/// In a child: it has no id yet. Done already where the kernel wiped the page.
pub(crate) fn forget() {
    identity().clear();
}

/// This process's arena; creates it if needed.
#[inline]
pub(crate) fn home() -> Result<&'static Arena> {
    match home_if_any() {
        Some(arena) => Ok(arena),
        None => (upcalls().join)(),
    }
}

impl Arena {
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
        match current() {
            Some(owner) => Ok(owner),
            None => (upcalls().claim_new_entry)(self),
        }
    }

    /// This process, as the owner of a block.
    pub(crate) fn mine(&self) -> Owner {
        Owner::Process(self.me())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn where_a_fork_wipes_no_page_the_number_of_the_process_tells() {
        let id = ProcId::new(3, 1);
        let page = Identity::empty();
        page.set(id, false);
        assert_eq!(page.get(), Some(id));
        // As the child of a raw clone finds it.
        page.pid.store(std::process::id() + 1, Ordering::Relaxed);
        assert_eq!(page.get(), None);
        page.set(id, false);
        assert_eq!(page.get(), Some(id));
    }
}
