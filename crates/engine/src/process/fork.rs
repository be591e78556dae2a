//! Identity, and what happens to it when a process forks.
//!
//! Before every `fork` of the C library a handler reserves a slot for the child and makes the child a
//! holder of all that the parent holds. So there is no moment at which the child lives and is not in
//! the books. The child sits down before `fork` returns.
//!
//! A child made by a raw `clone` passes no handler. It is recognised because the page with the id was
//! wiped by the kernel, and takes a slot of its own then. Where the kernel cannot wipe pages, the page has the
//! process's number beside the id, and whoever asks compares.
//!
//! A child that is about to become another program is none of the tree's before it [enters](crate::memory::enter):
//! its fork passes [unseen].

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

/// What says who this process is, in a page that forked children find zeroed where the kernel can do that.
#[repr(C)]
struct Identity {
    /// Who this process is, while it holds all that it has handles to. Zero where more has to be asked.
    id: AtomicU32,
    /// Who it is where the kernel wipes no page, or some handle is void (`inherit.rs`).
    asked: AtomicU32,
    /// The number of the process that `asked` is of.
    pid: AtomicU32,
}

/// As long as there is no page.
static NOBODY: Identity = Identity::of_nobody();
static IDENTITY: AtomicPtr<Identity> = AtomicPtr::new((&raw const NOBODY).cast_mut());
/// Whether the kernel wipes the page.
static WIPED: AtomicBool = AtomicBool::new(false);

impl Identity {
    const fn of_nobody() -> Identity {
        Identity {
            id: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            pid: AtomicU32::new(0),
        }
    }

    #[inline]
    fn get(&self) -> Option<ProcId> {
        ProcId::from_u32(self.id.load(Ordering::Relaxed)).or_else(|| self.ask())
    }

    #[cold]
    fn ask(&self) -> Option<ProcId> {
        let id = ProcId::from_u32(self.asked.load(Ordering::Acquire))?;
        (self.pid.load(Ordering::Relaxed) == std::process::id()).then_some(id)
    }

    fn set(&self, owner: ProcId, holds_all: bool) {
        self.clear();
        if holds_all && WIPED.load(Ordering::Relaxed) {
            self.id.store(owner.as_u32(), Ordering::Release);
            return;
        }
        self.pid.store(std::process::id(), Ordering::SeqCst);
        self.asked.store(owner.as_u32(), Ordering::Release);
    }

    fn clear(&self) {
        // At no moment the number of this process stands beside the id of another.
        self.asked.store(0, Ordering::SeqCst);
        self.id.store(0, Ordering::SeqCst);
    }
}

thread_local! {
    /// ObjectRef from before a fork until after it, so that the child finds everything whole.
    static FORKING: RefCell<Option<Locks>> = const { RefCell::new(None) };
    /// The slot reserved for the child of this thread's last fork.
    static CHILD: Cell<Option<ProcId>> = const { Cell::new(None) };
    /// What that child lacks: known to both sides.
    static LACKS: RefCell<Option<Error>> = const { RefCell::new(None) };
    /// Whether that child would see what its parent writes to memory of its own.
    static EXPOSED: Cell<bool> = const { Cell::new(false) };
    /// Where that child could not be entered.
    static LOST: RefCell<Vec<BlockId>> = const { RefCell::new(Vec::new()) };
    /// Whether the handlers let the fork that this thread makes pass.
    static UNSEEN: Cell<bool> = const { Cell::new(false) };
}

/// Every lock of this process's own that a fork could catch in the hands of another thread.
type Locks = (
    MutexGuard<'static, Trimmer>,
    RwLockWriteGuard<'static, ()>,
    MutexGuard<'static, ()>,
    Option<(MutexGuard<'static, Local>, MutexGuard<'static, ()>)>,
    MutexGuard<'static, Holders>,
);

/// No thread is inside a lock of the upper layers while another forks.
static INSIDE: RwLock<()> = RwLock::new(());

/// To be held around every other lock of this process's own, so that a forked child never finds one
/// taken by a thread that it does not have.
pub(crate) fn fork_guard() -> RwLockReadGuard<'static, ()> {
    INSIDE.read().unwrap_or_else(|e| e.into_inner())
}

#[inline]
fn identity() -> &'static Identity {
    let page = IDENTITY.load(Ordering::Acquire);
    // SAFETY: a static, or a mapped page that is never unmapped: aligned atomics.
    unsafe { &*page }
}

/// The id in the identity page, unless there is none yet or a fork wiped it.
#[inline]
pub(crate) fn current() -> Option<ProcId> {
    identity().get()
}

/// Whether this process has a slot, and holds every object that it has a handle to. False as well where only a
/// longer look would tell.
#[inline]
pub(crate) fn holds_all() -> bool {
    identity().id.load(Ordering::Relaxed) != 0
}

/// Prepares the identity page and the handlers; once a process image.
pub(crate) fn prepare() -> Result<()> {
    let nobody = (&raw const NOBODY).cast_mut();
    if IDENTITY.load(Ordering::Acquire) != nobody {
        return Ok(());
    }
    let (page, wiped) = memfd::fork_wiped_page()?;
    let page = page.cast::<Identity>().as_ptr();
    if IDENTITY
        .compare_exchange(nobody, page, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
        // Under it nobody forks.
        && !cfg!(miri)
    {
        WIPED.store(wiped, Ordering::Relaxed);
        // SAFETY: the three functions are `extern "C"`, never unloaded, and do not unwind.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    }
    Ok(())
}

/// Makes the calling process the one with this id, which holds all that it has handles to, or not.
pub(crate) fn become_owner(owner: ProcId, holds_all: bool) {
    identity().set(owner, holds_all);
}

/// What the child of this thread's last fork lacks; asked by the child or its parent, each once.
pub(crate) fn lack() -> Option<Error> {
    LACKS.take()
}

/// Where the child of this thread's last fork sits.
pub(crate) fn child() -> Option<ProcId> {
    CHILD.with(Cell::take)
}

/// Runs `fork`, a fork whose child does nothing but become another program, or end: it gets no slot, and no
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
    CHILD.set(None);
    LACKS.set(None);
    EXPOSED.set(false);
    LOST.set(Vec::new());
    let trimmer = crate::memory::trimmer::stop();
    let inside = INSIDE.write().unwrap_or_else(|e| e.into_inner());
    if let Some(arena) = home_if_any()
        && current().is_some()
        && let Err(error) = private_mapping::share_all(arena)
    {
        EXPOSED.set(true);
        LACKS.set(Some(error));
    }
    let settling = crate::memory::lock(&crate::memory::HOME_INIT);
    let inner = home_if_any().map(|arena| {
        let local = arena.lock_local();
        if let Some(me) = current() {
            reserve_for_child(arena, me, &local);
        }
        (local, crate::memory::lock(&arena.mapping))
    });
    let mut holders = liveness_thread::settled();
    if let Some(arena) = home_if_any()
        && current().is_some()
    {
        holders.hand_to_first_thread(arena);
    }
    let locks = (trimmer, inside, settling, inner, holders);
    FORKING.with(|forking| *forking.borrow_mut() = Some(locks));
}

/// Nothing can be refused here. What the child lacks is said to who asks ([`lack`]), and by what it cannot use.
fn reserve_for_child(arena: &Arena, me: ProcId, local: &Local) {
    match arena.reserve(Some(me)) {
        Ok(slot) => {
            arena.make_successor(slot);
            arena.log_for(slot, local.open.keys().copied());
            let (lost, errors): (_, Vec<Error>) =
                arena.add_all_holds(slot, local).into_iter().unzip();
            LACKS.set(LACKS.take().or(errors.into_iter().next()));
            LOST.set(lost);
            CHILD.set(Some(slot));
        }
        // It looks for one itself, at its first use of the engine.
        Err(error) => LACKS.set(LACKS.take().or(Some(error))),
    }
}

extern "C" fn in_parent() {
    FORKING.with(|forking| forking.borrow_mut().take());
    if !UNSEEN.get() {
        crate::memory::trimmer::start_after_fork();
    }
}

/// Ends a child that would see what its parent writes to received arrays, and the parent what it writes: a fork can
/// not be refused, and what either would read could be anything.
fn end_exposed() -> ! {
    const WHY: &[u8] = b"procession: this process was forked while its parent held received arrays that could not \
        be made its own, for want of memory or of mappings (vm.max_map_count), and ends: drop some, or raise the \
        limit, before forking\n";
    // Who started it may say it better, and nothing else is left to do where nobody reads it.
    let _written = rustix::io::write(rustix::stdio::stderr(), WHY);
    // SAFETY: a call without preconditions.
    unsafe { libc::_exit(EXPOSED_EXIT) }
}

/// As sysexits.h has it for want of a resource of the system.
const EXPOSED_EXIT: libc::c_int = 71;

extern "C" fn in_child() {
    if UNSEEN.get() {
        return;
    }
    if EXPOSED.get() {
        end_exposed();
    }
    let mut locks = FORKING.with(|forking| forking.borrow_mut().take());
    if let Some((.., holders)) = &mut locks {
        holders.forget();
    }
    let slot = CHILD.take();
    // Where the kernel wiped the page this is done already.
    identity().clear();
    drop(locks);
    if let (Some(arena), Some(slot)) = (home_if_any(), slot) {
        match arena.claim_entry(slot) {
            Ok(()) => arena.begin_as_child(slot, &LOST.take()),
            Err(error) => LACKS.set(Some(error)),
        }
    }
    crate::process::parent_death::after_fork();
    crate::process::child::after_fork();
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
        let id = ProcId::new(3, 1);
        let page = Identity::of_nobody();
        page.set(id, false);
        assert_eq!(page.get(), Some(id));
        // As a child of a raw clone finds it.
        page.pid.store(std::process::id() + 1, Ordering::Relaxed);
        assert_eq!(page.get(), None);
        page.set(id, false);
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
