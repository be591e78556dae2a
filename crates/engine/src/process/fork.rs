//! The identity of this process, and what happens to it on a fork.
//!
//! Before every `fork` of the C library, a handler reserves an entry for the child and makes the child a holder of
//! everything that the parent holds. So the child is never alive without being registered. The child claims its entry
//! before `fork` returns.
//!
//! A child made by a raw `clone` runs no handler. It is recognised because the kernel wiped the page with the id; the
//! child then claims an entry of its own. Where the kernel cannot wipe pages, the page holds the PID beside the id,
//! and every reader compares the two.
//!
//! A child that is about to become another program does not belong to the tree before it
//! [enters](crate::memory::enter): its fork [skips the handlers](without_handlers).

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::{Error, Result};
use crate::memory::block::BlockId;
use crate::memory::owner::ProcId;
use crate::memory::trimmer::Trimmer;
use crate::memory::{Arena, home_if_any};
use crate::objects::object::Local;
use crate::objects::private_mapping;
use crate::process::liveness_thread;
use crate::process::liveness_thread::Holders;
use crate::sys::memfd;

/// The identity of this process, in a page that forked children find zeroed where the kernel supports that.
#[repr(C)]
struct Identity {
    /// The id of this process, while it holds everything that it has handles to. Zero if the slow path has to decide.
    id: AtomicU32,
    /// The id where the kernel wipes no pages, or where some handles are invalid (`inherit.rs`).
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

thread_local! {
    /// Held from before a fork until after it, so that the child finds everything in a consistent state.
    static FORKING: RefCell<Option<Locks>> = const { RefCell::new(None) };
    /// The entry reserved for the child of this thread's last fork.
    static CHILD: Cell<Option<ProcId>> = const { Cell::new(None) };
    /// Why that child lacks something, if it does. Both sides know it.
    static FORK_ERROR: RefCell<Option<Error>> = const { RefCell::new(None) };
    /// Whether that child would see what its parent writes to private memory.
    static EXPOSED: Cell<bool> = const { Cell::new(false) };
    /// The objects that the child could not become a holder of.
    static LOST_HOLDS: RefCell<Vec<BlockId>> = const { RefCell::new(Vec::new()) };
    /// Whether the handlers ignore the fork that this thread makes.
    static SKIP_HANDLERS: Cell<bool> = const { Cell::new(false) };
}

/// Every lock of this process that another thread could hold during a fork.
type Locks = (
    MutexGuard<'static, Trimmer>,
    RwLockWriteGuard<'static, ()>,
    MutexGuard<'static, ()>,
    Option<(MutexGuard<'static, Local>, MutexGuard<'static, ()>)>,
    MutexGuard<'static, Holders>,
);

/// Keeps all threads out of the locks of the upper layers while one thread forks.
static FORK_LOCK: RwLock<()> = RwLock::new(());

/// Hold this around every other process-local lock, so that a forked child never finds one locked by a thread that it
/// does not have.
pub(crate) fn fork_guard() -> RwLockReadGuard<'static, ()> {
    FORK_LOCK.read().unwrap_or_else(|e| e.into_inner())
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

/// Prepares the identity page and the fork handlers; once per process image.
pub(crate) fn prepare() -> Result<()> {
    let no_identity = (&raw const NO_IDENTITY).cast_mut();
    if IDENTITY.load(Ordering::Acquire) != no_identity {
        return Ok(());
    }
    let (page, wiped) = memfd::fork_wiped_page()?;
    let page = page.cast::<Identity>().as_ptr();
    if IDENTITY
        .compare_exchange(no_identity, page, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
        // Miri does not fork.
        && !cfg!(miri)
    {
        KERNEL_WIPES.store(wiped, Ordering::Relaxed);
        // SAFETY: the three functions are `extern "C"`, never unloaded, and do not unwind.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    }
    Ok(())
}

/// Gives the calling process this id. `holds_all` says whether it holds everything that it has handles to.
pub(crate) fn become_owner(owner: ProcId, holds_all: bool) {
    identity().set(owner, holds_all);
}

/// Why the child of this thread's last fork lacks something. The child and its parent can each ask once.
pub(crate) fn take_error() -> Option<Error> {
    FORK_ERROR.take()
}

/// The id of the child of this thread's last fork.
pub(crate) fn child() -> Option<ProcId> {
    CHILD.with(Cell::take)
}

/// Runs `fork`, whose child does nothing but become another program, or end. The child gets no entry, and the fork
/// waits for no lock. Neither does a fork by that child, which would find locks held by threads that it does not
/// have.
pub(crate) fn without_handlers(fork: impl FnOnce() -> libc::pid_t) -> libc::pid_t {
    SKIP_HANDLERS.set(true);
    let pid = fork();
    if pid != 0 {
        SKIP_HANDLERS.set(false);
    }
    pid
}

extern "C" fn before() {
    if SKIP_HANDLERS.get() {
        return;
    }
    CHILD.set(None);
    FORK_ERROR.set(None);
    EXPOSED.set(false);
    LOST_HOLDS.set(Vec::new());
    let trimmer = crate::memory::trimmer::stop();
    let fork_lock = FORK_LOCK.write().unwrap_or_else(|e| e.into_inner());
    if let Some(arena) = home_if_any()
        && current().is_some()
        && let Err(error) = private_mapping::share_all(arena)
    {
        EXPOSED.set(true);
        FORK_ERROR.set(Some(error));
    }
    let settling = crate::memory::lock(&crate::memory::HOME_INIT);
    let inner = home_if_any().map(|arena| {
        let local = arena.lock_local();
        if let Some(me) = current() {
            reserve_for_child(arena, me, &local);
        }
        (local, crate::memory::lock(&arena.mapping))
    });
    let mut holders = liveness_thread::lock_holders();
    if let Some(arena) = home_if_any()
        && current().is_some()
    {
        holders.hand_to_first_thread(arena);
    }
    let locks = (trimmer, fork_lock, settling, inner, holders);
    FORKING.with(|forking| *forking.borrow_mut() = Some(locks));
}

/// A fork cannot be refused here. The child learns what it lacks when it asks ([`take_error`]), and by errors from
/// the objects it cannot use.
fn reserve_for_child(arena: &Arena, me: ProcId, local: &Local) {
    match arena.reserve(Some(me)) {
        Ok(slot) => {
            arena.make_successor(slot);
            arena.log_for(slot, local.open.keys().copied());
            let (lost, errors): (_, Vec<Error>) =
                arena.add_all_holds(slot, local).into_iter().unzip();
            FORK_ERROR.set(FORK_ERROR.take().or(errors.into_iter().next()));
            LOST_HOLDS.set(lost);
            CHILD.set(Some(slot));
        }
        // The child looks for an entry itself, at its first use of the engine.
        Err(error) => FORK_ERROR.set(FORK_ERROR.take().or(Some(error))),
    }
}

extern "C" fn in_parent() {
    FORKING.with(|forking| forking.borrow_mut().take());
    if !SKIP_HANDLERS.get() {
        crate::memory::trimmer::start_after_fork();
    }
}

/// Ends a child that would share received arrays with its parent, so that each would see the other's writes. A fork
/// cannot be refused, and otherwise both could read anything there.
fn exit_exposed() -> ! {
    const WHY: &[u8] = b"procession: this process was forked while its parent held received arrays that could not \
        be made private, because memory or mappings (vm.max_map_count) ran out; it ends now: drop some arrays, or \
        raise the limit, before forking\n";
    // The parent may report it better. Nothing else is left to do if nobody reads this.
    let _written = rustix::io::write(rustix::stdio::stderr(), WHY);
    // SAFETY: a call without preconditions.
    unsafe { libc::_exit(EXPOSED_EXIT) }
}

/// `EX_OSERR` of sysexits.h: a resource of the system is missing.
const EXPOSED_EXIT: libc::c_int = 71;

extern "C" fn in_child() {
    if SKIP_HANDLERS.get() {
        return;
    }
    if EXPOSED.get() {
        exit_exposed();
    }
    let mut locks = FORKING.with(|forking| forking.borrow_mut().take());
    if let Some((.., holders)) = &mut locks {
        holders.forget();
    }
    let slot = CHILD.take();
    // Done already where the kernel wiped the page.
    identity().clear();
    drop(locks);
    if let (Some(arena), Some(slot)) = (home_if_any(), slot) {
        match arena.claim_entry(slot) {
            Ok(()) => arena.begin_as_child(slot, &LOST_HOLDS.take()),
            Err(error) => FORK_ERROR.set(Some(error)),
        }
    }
    crate::process::parent_death::after_fork();
    crate::process::child::after_fork();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use rustix::process::{Pid, WaitOptions, waitpid};

    /// Forks with `fork`, runs `work` in the child, and returns the child's exit status.
    fn exit_code_of(fork: fn() -> libc::pid_t, work: fn() -> libc::c_int) -> Option<i32> {
        let pid = fork();
        if pid == 0 {
            let code = work();
            // SAFETY: a call without preconditions.
            unsafe { libc::_exit(code) }
        }
        let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).ok()??;
        status.exit_status()
    }

    fn fork() -> libc::pid_t {
        // SAFETY: the children of these tests make system calls and end.
        unsafe { libc::fork() }
    }

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

    #[test]
    #[cfg_attr(miri, ignore = "forks")]
    fn a_child_that_was_let_pass_may_fork_while_its_parents_locks_are_held() {
        crate::process::ensure().unwrap();
        let _held_by_parent = fork_guard();
        let ended = exit_code_of(
            || without_handlers(fork),
            || {
                // SAFETY: a call without preconditions. The alarm ends a child that would wait for ever.
                unsafe { libc::alarm(10) };
                exit_code_of(fork, || 7).unwrap_or(1)
            },
        );
        assert_eq!(ended, Some(7));
        assert!(!SKIP_HANDLERS.get());
    }
}
