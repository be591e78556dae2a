//! What happens on a fork.
//!
//! Before every `fork` of the C library, a handler reserves an entry for the child and makes the child a holder of
//! everything that the parent holds. So the child is never alive without being registered. The child claims its entry
//! before `fork` returns.
//!
//! A child made by a raw `clone` runs no handler: see `process_table/identity.rs`.
//!
//! A child that is about to become another program does not belong to the tree before it
//! [enters](crate::process::enter): its fork [skips the handlers](without_handlers).

use std::cell::{Cell, RefCell};
use std::sync::{MutexGuard, RwLockWriteGuard};

use crate::arena::cell::BlockId;
use crate::arena::owner::ProcId;
use crate::arena::{Arena, home_if_any};
use crate::error::{Error, Result};
use crate::memory::trimmer::Trimmer;
use crate::objects::local;
use crate::objects::local::Local;
use crate::objects::private_mapping;
use crate::process::join;
use crate::process_table::identity;
use crate::process_table::identity::current;
use crate::process_table::liveness_thread;
use crate::process_table::liveness_thread::Holders;
use crate::sys::thread::lock;

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
    MutexGuard<'static, Local>,
    Option<MutexGuard<'static, ()>>,
    MutexGuard<'static, Holders>,
);

/// Prepares the identity page and the fork handlers; once per process image.
pub(crate) fn prepare() -> Result<()> {
    // Miri does not fork.
    if identity::prepare()? && !cfg!(miri) {
        // SAFETY: the three functions are `extern "C"`, never unloaded, and do not unwind.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    }
    Ok(())
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
    let fork_lock = identity::lock_for_fork();
    if let Some(arena) = home_if_any()
        && current().is_some()
        && let Err(error) = private_mapping::share_all(arena)
    {
        EXPOSED.set(true);
        FORK_ERROR.set(Some(error));
    }
    let settling = join::lock();
    let local = local::lock();
    if let (Some(arena), Some(me)) = (home_if_any(), current()) {
        reserve_for_child(arena, me, &local);
    }
    let mapping = home_if_any().map(|arena| lock(&arena.mapping));
    let mut holders = liveness_thread::lock_holders();
    if let Some(arena) = home_if_any()
        && current().is_some()
    {
        holders.hand_to_first_thread(arena);
    }
    let locks = (trimmer, fork_lock, settling, local, mapping, holders);
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
    identity::forget();
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
    #[cfg_attr(miri, ignore = "forks")]
    fn a_child_that_was_let_pass_may_fork_while_its_parents_locks_are_held() {
        crate::process::ensure().unwrap();
        let _held_by_parent = identity::fork_guard();
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
