//! Identity, and what happens to it when a process forks.
//!
//! Before every `fork` of the C library a handler reserves a seat for the child and makes the child a
//! holder of all that the parent holds. So there is no moment at which the child lives and is not in
//! the books. The child sits down before `fork` returns.
//!
//! A child made by a raw `clone` passes no handler. It is recognised because the page with the id was
//! wiped by the kernel, and takes a seat of its own then. Where the kernel cannot wipe pages, the page has the
//! process's number beside the id, and whoever asks compares.
//!
//! A child that is about to become another program is none of the tree's before it [enters](super::enter):
//! its fork passes [unseen].

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::keeper::{self, Keepers};
use super::object::Local;
use super::owner::OwnerId;
use super::trim::Trimmer;
use super::{Arena, home_if_any, lent};
use crate::error::Result;
use crate::sys::memfd;

/// What says who this process is, in a page that forked children find zeroed where the kernel can do that.
#[repr(C)]
struct Identity {
    id: AtomicU32,
    /// The number of the process that the id is of; zero where the kernel wipes the page.
    pid: AtomicU32,
}

static IDENTITY: AtomicPtr<Identity> = AtomicPtr::new(std::ptr::null_mut());

impl Identity {
    #[inline]
    fn get(&self) -> Option<OwnerId> {
        let pid = self.pid.load(Ordering::Relaxed);
        if pid != 0 && pid != std::process::id() {
            return None;
        }
        OwnerId::from_u32(self.id.load(Ordering::Relaxed))
    }

    fn set(&self, id: u32) {
        if self.pid.load(Ordering::Relaxed) != 0 {
            // At no moment the number of this process stands beside the id of another.
            self.id.store(0, Ordering::SeqCst);
            self.pid.store(std::process::id(), Ordering::SeqCst);
        }
        self.id.store(id, Ordering::Release);
    }
}

thread_local! {
    /// Held from before a fork until after it, so that the child finds everything whole.
    static FORKING: RefCell<Option<Locks>> = const { RefCell::new(None) };
    /// The seat reserved for the child of this thread's last fork.
    static CHILD: Cell<Option<OwnerId>> = const { Cell::new(None) };
    /// Whether the handlers let the fork that this thread makes pass.
    static UNSEEN: Cell<bool> = const { Cell::new(false) };
}

/// Every lock of this process's own that a fork could catch in the hands of another thread.
type Locks = (
    MutexGuard<'static, Trimmer>,
    RwLockWriteGuard<'static, ()>,
    MutexGuard<'static, ()>,
    Option<(MutexGuard<'static, Local>, MutexGuard<'static, ()>)>,
    MutexGuard<'static, Keepers>,
);

/// No thread is inside a lock of the upper layers while another forks.
static INSIDE: RwLock<()> = RwLock::new(());

/// To be held around every other lock of this process's own, so that a forked child never finds one
/// taken by a thread that it does not have.
pub(crate) fn fork_guard() -> RwLockReadGuard<'static, ()> {
    INSIDE.read().unwrap_or_else(|e| e.into_inner())
}

fn identity() -> Option<&'static Identity> {
    // SAFETY: set once to a mapped page that is never unmapped, holding two aligned atomics.
    NonNull::new(IDENTITY.load(Ordering::Acquire)).map(|word| unsafe { word.as_ref() })
}

/// The id in the identity page, unless there is none yet or a fork wiped it.
#[inline]
pub(super) fn current() -> Option<OwnerId> {
    identity()?.get()
}

/// Prepares the identity page and the handlers; once a process image.
pub(super) fn prepare() -> Result<()> {
    if identity().is_some() {
        return Ok(());
    }
    let (page, wiped) = memfd::fork_wiped_page()?;
    let page = page.cast::<Identity>();
    if !wiped {
        // SAFETY: the page just mapped, as large as that and zeroed, which nobody else knows yet.
        let identity = unsafe { page.as_ref() };
        identity.pid.store(std::process::id(), Ordering::Relaxed);
    }
    if IDENTITY
        .compare_exchange(
            std::ptr::null_mut(),
            page.as_ptr(),
            Ordering::AcqRel,
            Ordering::Acquire,
        )
        .is_ok()
        // Under it nobody forks.
        && !cfg!(miri)
    {
        // SAFETY: the three functions are `extern "C"`, never unloaded, and do not unwind.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    }
    Ok(())
}

/// Makes the calling process the one with this id.
pub(super) fn become_owner(owner: OwnerId) {
    if let Some(identity) = identity() {
        identity.set(owner.as_u32());
    }
}

/// Where the child of this thread's last fork sits.
pub(crate) fn child() -> Option<OwnerId> {
    CHILD.with(Cell::take)
}

/// Whether this process sits somewhere.
pub(crate) fn is_seated() -> bool {
    current().is_some()
}

/// Runs `fork`, a fork whose child does nothing but become another program, or end: it gets no seat, and no
/// lock is waited for. Nor is one when the child forks in its turn, which finds locks in the hands of threads that it
/// does not have.
pub(crate) fn unseen(fork: impl FnOnce() -> libc::pid_t) -> libc::pid_t {
    UNSEEN.set(true);
    let pid = fork();
    if pid != 0 {
        UNSEEN.set(false);
    }
    pid
}

extern "C" fn before() {
    if UNSEEN.get() {
        return;
    }
    CHILD.with(|child| child.set(None));
    let trimmer = super::trim::stop();
    let inside = INSIDE.write().unwrap_or_else(|e| e.into_inner());
    if let Some(arena) = home_if_any()
        && current().is_some()
    {
        lent::lease_all(arena);
    }
    let settling = super::lock(&super::SETTLING);
    let inner = home_if_any().map(|arena| {
        let local = arena.lock_local();
        if let Some(me) = current() {
            reserve_for_child(arena, me, &local);
        }
        (local, super::lock(&arena.mapping))
    });
    let mut keepers = keeper::settled();
    if let Some(arena) = home_if_any()
        && current().is_some()
    {
        keepers.hand_to_first_thread(arena);
    }
    let locks = (trimmer, inside, settling, inner, keepers);
    FORKING.with(|forking| *forking.borrow_mut() = Some(locks));
}

/// Without a seat the child still runs; it looks for one at its first use of the engine.
fn reserve_for_child(arena: &Arena, me: OwnerId, local: &Local) {
    if let Ok(seat) = arena.reserve(Some(me)) {
        arena.note_for(seat, local.keys().copied());
        for block in local.keys() {
            if arena.add_hold(*block, seat).is_err() {
                // No memory for the child's names: it runs without a seat.
                arena.release(seat);
                return;
            }
        }
        CHILD.with(|child| child.set(Some(seat)));
    }
}

extern "C" fn in_parent() {
    FORKING.with(|forking| forking.borrow_mut().take());
}

extern "C" fn in_child() {
    if UNSEEN.get() {
        return;
    }
    let mut locks = FORKING.with(|forking| forking.borrow_mut().take());
    if let Some((.., keepers)) = &mut locks {
        keepers.forget();
    }
    let seat = CHILD.with(Cell::take);
    // Where the kernel wiped the page this is done already.
    if let Some(identity) = identity() {
        identity.set(0);
    }
    if let (Some(arena), Some(seat)) = (home_if_any(), seat)
        && arena.sit(seat).is_ok()
    {
        become_owner(seat);
    }
    drop(locks);
    crate::process::lifeline::after_fork();
    crate::process::child::after_fork();
}

impl Arena {
    /// A seat for a child that no handler gave one, with a hold on all that its memory says is open.
    #[cold]
    pub(super) fn sit_anew(&self) -> Result<OwnerId> {
        keeper::settled().forget();
        let seat = self.reserve(None)?;
        self.sit(seat)?;
        become_owner(seat);
        for (block, (generation, _)) in self.lock_local().iter() {
            // What its parent let go meanwhile is gone; the handle finds that out.
            let _ = self.add_checked_hold(*block, *generation, seat);
        }
        Ok(seat)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use rustix::process::{Pid, WaitOptions, waitpid};

    /// Forks with `fork`, and says how the child ended that does `work`.
    fn end_of(fork: fn() -> libc::pid_t, work: fn() -> libc::c_int) -> Option<i32> {
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
        let id = OwnerId::new(3, 1);
        let page = Identity {
            id: AtomicU32::new(0),
            pid: AtomicU32::new(std::process::id()),
        };
        page.set(id.as_u32());
        assert_eq!(page.get(), Some(id));
        // As a child of a raw clone finds it.
        page.pid.store(std::process::id() + 1, Ordering::Relaxed);
        assert_eq!(page.get(), None);
        page.set(id.as_u32());
        assert_eq!(page.get(), Some(id));
    }

    #[test]
    #[cfg_attr(miri, ignore = "forks")]
    fn a_child_that_was_let_pass_may_fork_while_its_parents_locks_are_held() {
        crate::process::ensure().unwrap();
        let _held_by_who_is_not_there = fork_guard();
        let ended = end_of(
            || unseen(fork),
            || {
                // SAFETY: a call without preconditions: who waits for ever is ended.
                unsafe { libc::alarm(10) };
                end_of(fork, || 7).unwrap_or(1)
            },
        );
        assert_eq!(ended, Some(7));
        assert!(!UNSEEN.get());
    }
}
