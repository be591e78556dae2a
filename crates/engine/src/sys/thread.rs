//! The engine's own threads, and questions about threads.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread::{Builder, JoinHandle};

/// Locks a mutex of this process's own. Ignores poisoning: every change is one step, so a panicking thread leaves valid
/// data.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Starts a thread that blocks all signals: signals are for the program's own threads, whose calls they interrupt.
pub(crate) fn spawn_without_signals(
    name: &str,
    main: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: the first call fills one set and the second the other; the thread inherits the blocked signals.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let started = Builder::new()
        .name(name.into())
        .stack_size(128 << 10)
        .spawn(main);
    // SAFETY: the set that was in force before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    started
}

/// Gives the calling thread a descriptor table of its own, which ends with the thread, and makes room in it for one
/// more. False if this is refused.
///
/// # Safety
/// The thread uses no descriptor that it did not open afterwards.
pub(crate) unsafe fn take_own_descriptors() -> bool {
    // SAFETY: only the calling thread gets another table, with the same content.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        return false;
    }
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = most.map_or(RawFd::MAX, |most| most.min(RawFd::MAX as u64) as RawFd);
    // SAFETY: this closes the thread's copy, which nobody uses (the caller's promise).
    (0..most).any(|number| unsafe { libc::close(number) } == 0)
}

/// Whether the calling thread is the first one of its process, whose number is that of the process.
pub(crate) fn is_first() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// How many threads the process has, including a first thread that ended before others; `None` when in doubt.
fn count() -> Option<u64> {
    // A folder has one link from itself, one from its parent, and one from each folder in it.
    let tasks = rustix::fs::stat("/proc/self/task").ok()?;
    (tasks.st_nlink as u64).checked_sub(2)
}

/// Whether the process has no other thread; false when in doubt.
pub(crate) fn is_only() -> bool {
    count() == Some(1)
}

/// Whether the calling thread, which is not the first, is all that is left of its process; false when in doubt.
pub(crate) fn is_left_alone() -> bool {
    let state = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let rest = stat.rsplit(')').next()?;
        rest.trim_start().chars().next()
    };
    count() == Some(2) && state() == Some('Z')
}

/// Calls `then` at the end of the calling thread, even if that is the first one and others go on. Does not call it when
/// the process ends.
pub(crate) fn at_end(then: fn()) -> bool {
    static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();
    unsafe extern "C" fn end(then: *mut libc::c_void) {
        // SAFETY: what was stored below.
        let then = unsafe { std::mem::transmute::<*mut libc::c_void, fn()>(then) };
        then();
    }
    let key = KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: the call fills the place; the function it is to call is never unloaded.
        (unsafe { libc::pthread_key_create(&mut key, Some(end)) } == 0).then_some(key)
    });
    // SAFETY: the key was made, and is never deleted.
    key.is_some_and(|key| unsafe { libc::pthread_setspecific(key, then as *const _) } == 0)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "signals")]
    fn a_thread_without_signals_has_all_blocked_and_its_starter_none_more() {
        let blocked = || {
            let mut set = MaybeUninit::uninit();
            // SAFETY: the call fills the set, of which one member is read.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr());
                libc::sigismember(set.as_ptr(), libc::SIGUSR1) == 1
            }
        };
        let (say, hear) = std::sync::mpsc::channel();
        let thread =
            spawn_without_signals("no-signals", move || say.send(blocked()).unwrap()).unwrap();
        assert!(hear.recv().unwrap());
        thread.join().unwrap();
        assert!(!blocked());
    }
}
