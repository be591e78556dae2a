//! Sleeps that notice signals which arrive just before them.
//!
//! A signal that arrives during a system call ends it with EINTR. One that arrives just before, after the caller last
//! checked for signals, only runs its handler: the sleep that follows knows nothing of it. So this file puts its own
//! handler in front of those that a front end cares about ([`follow`]). It calls them, counts the signal, and takes the
//! time out of the sleep that is about to begin:
//!
//! ```text
//! sleeper:  seen = count;  look for signals;  until = T;  count != seen? leave;  sleep until `until`
//! handler:  the front's handler;  count += 1;  until = 0;  wake the sleeper's word
//! ```
//!
//! A handler on the sleeper's own thread runs before the sleeper checks the count, or before the kernel reads `until`,
//! which then has passed, or it interrupts the call. A handler on another thread wakes the sleeper by its word. If it
//! does so after the kernel read `until` and before the sleeper is in the kernel's queue, the sleep runs to its end,
//! which is one nap at most. (A long sleep also watches the count, which the kernel compares.)
//!
//! One thread of a process at a time sleeps like this: the one on which the front end acts on signals
//! ([`attentively`]).

use std::cell::Cell;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A time as the kernel reads it.
#[repr(C)]
pub(crate) struct Until {
    seconds: AtomicI64,
    nanos: AtomicI64,
}

/// When the sleep of the attentive thread ends; handlers set it to a time that has passed.
static UNTIL: Until = Until {
    seconds: AtomicI64::new(0),
    nanos: AtomicI64::new(0),
};
/// The word on which the attentive thread sleeps, if it does.
static WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
/// The attentive thread, by its process number and its own: after a fork, the parent's value does not match.
static SLEEPER: AtomicU64 = AtomicU64::new(0);
/// How many signals had their handlers run.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// The front's handler.
static FOLLOWED: AtomicUsize = AtomicUsize::new(0);

/// Not followed: they report a fault of the thread that gets them, or cannot be handled.
const NOT_FOLLOWED: [c_int; 8] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGKILL,
    libc::SIGSTOP,
];
const LAST_SIGNAL: c_int = 64;

thread_local! {
    static SEEN: Cell<Option<u32>> = const { Cell::new(None) };
}

/// How many signals arrived whose handler is followed.
pub fn count() -> u32 {
    COUNT.load(Ordering::SeqCst)
}

/// Runs `sleep` as the one thread that acts on signals: its sleeps are interrupted by each signal that arrived after
/// [`count`] was `seen`. If another thread already does so, `sleep` only notices signals by EINTR.
pub fn attentively<T>(seen: u32, sleep: impl FnOnce() -> T) -> T {
    let me = u64::from(std::process::id()) << 32 | u64::from(tid());
    let taken = SLEEPER.load(Ordering::SeqCst);
    let is_free = taken == me || taken == 0 || taken >> 32 != me >> 32;
    let swap = |from, to| SLEEPER.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
    if cfg!(not(target_pointer_width = "64")) || !is_free || swap(taken, me).is_err() {
        return sleep();
    }
    struct Reset(Option<u32>, u64);
    impl Drop for Reset {
        fn drop(&mut self) {
            SEEN.set(self.0);
            SLEEPER.store(self.1, Ordering::SeqCst);
        }
    }
    let before = if taken == me { me } else { 0 };
    let _reset = Reset(SEEN.replace(Some(seen)), before);
    sleep()
}

fn tid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

/// The handler of `signal`, as an address; `None` when the kernel handles it.
pub fn handler_of(signal: c_int) -> Option<usize> {
    let action = action_of(signal)?;
    let handler = action.sa_sigaction;
    match handler {
        libc::SIG_DFL | libc::SIG_IGN => None,
        _ if handler == own_handler() => Some(FOLLOWED.load(Ordering::SeqCst)),
        _ => Some(handler),
    }
}

/// Counts the signals whose handler is `handler`, as returned by [`handler_of`]. Call it once in a while, because a
/// program may set handlers at any time.
///
/// Only one handler of a process is followed, the first one. Others are left alone: they may call the handler that was
/// there before them, and if that was ours and called them, there would be an endless loop. False when `handler` is not
/// followed.
pub fn follow(handler: usize) -> bool {
    let known = FOLLOWED.compare_exchange(0, handler, Ordering::SeqCst, Ordering::SeqCst);
    if handler == 0 || known.is_err_and(|known| known != handler) {
        return false;
    }
    for signal in (1..=LAST_SIGNAL).filter(|signal| !NOT_FOLLOWED.contains(signal)) {
        let Some(mut action) = action_of(signal) else {
            continue;
        };
        if action.sa_sigaction != handler || action.sa_flags & libc::SA_SIGINFO != 0 {
            continue;
        }
        action.sa_sigaction = own_handler();
        // SAFETY: a handler of the same kind with the same mask and flags, which calls the previous one.
        unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
    }
    true
}

fn own_handler() -> usize {
    handle as extern "C" fn(c_int) as usize
}

fn action_of(signal: c_int) -> Option<libc::sigaction> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: it only reads, into memory that is large enough; a number that is not a signal is refused.
    let known = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } == 0;
    // SAFETY: filled in by the call, and a valid value when zeroed.
    known.then(|| unsafe { action.assume_init() })
}

extern "C" fn handle(signal: c_int) {
    let followed = FOLLOWED.load(Ordering::SeqCst);
    // SAFETY: the address of a handler that takes a signal number: `follow` installs this function only where that
    // handler was set without SA_SIGINFO.
    let followed: extern "C" fn(c_int) = unsafe { std::mem::transmute(followed) };
    followed(signal);
    COUNT.fetch_add(1, Ordering::SeqCst);
    UNTIL.seconds.store(0, Ordering::SeqCst);
    UNTIL.nanos.store(0, Ordering::SeqCst);
    let word = WORD.load(Ordering::SeqCst);
    if !word.is_null() && SLEEPER.load(Ordering::SeqCst) as u32 != tid() {
        wake(word);
    }
}

/// Wakes the sleepers on a word, and preserves `errno`.
fn wake(word: *mut AtomicU32) {
    // SAFETY: `errno` of this thread. The kernel only looks the address up; any other sleeper that is woken just checks
    // again.
    unsafe {
        let errno = *libc::__errno_location();
        libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, c_int::MAX);
        *libc::__errno_location() = errno;
    }
}

/// Whether signals that arrived before end this thread's sleeps.
pub(crate) fn is_attentive() -> bool {
    SEEN.get().is_some()
}

/// Whether signals end this thread's sleeps but may be delivered to others: it blocks some, or is not the first thread,
/// which the kernel prefers.
pub(crate) fn may_go_elsewhere() -> bool {
    if !is_attentive() {
        return false;
    }
    if !super::thread::is_first() {
        return true;
    }
    let mut blocked = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: without a new set, the call only writes the present one.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), blocked.as_mut_ptr()) };
    // SAFETY: a set that was zeroed, and filled in by the call; this only reads.
    (1..=LAST_SIGNAL).any(|signal| unsafe { libc::sigismember(blocked.as_ptr(), signal) == 1 })
}

/// The word that counts signals, and its value when this thread last acted on them, if signals end its sleeps.
pub(crate) fn counted() -> Option<(&'static AtomicU32, u32)> {
    SEEN.get().map(|seen| (&COUNT, seen))
}

/// Sleeps by `call`. It passes the kernel the address of the time `(seconds, nanos)`, so that a signal can take the
/// time away. `None` when a signal arrived before. Only for a thread that [`is_attentive`].
///
/// A signal on another thread wakes `word`; it does not end a sleep on anything else.
pub(crate) fn sleep<T>(
    word: Option<&AtomicU32>,
    (seconds, nanos): (i64, i64),
    call: impl FnOnce(*const Until) -> T,
) -> Option<T> {
    let seen = SEEN.get()?;
    UNTIL.nanos.store(nanos, Ordering::SeqCst);
    UNTIL.seconds.store(seconds, Ordering::SeqCst);
    let word = word.map_or(ptr::null_mut(), |word| ptr::from_ref(word).cast_mut());
    WORD.store(word, Ordering::SeqCst);
    // A signal that arrives from here on ends the call. If the thread was woken as well, it handles that first.
    let slept = (count() == seen).then(|| call(&UNTIL));
    WORD.store(ptr::null_mut(), Ordering::SeqCst);
    slept
}
