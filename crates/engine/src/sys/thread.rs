//! Threads that the engine runs for a while.

use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};

/// Starts a thread that hears no signal: those are for the program's own threads, whose calls they interrupt.
pub(crate) fn start_deaf(
    name: &str,
    main: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: the first call fills the one set and the second the other; the thread inherits what is blocked.
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

/// Whether the calling thread is the first one of its process, which gives the process its number.
pub(crate) fn is_first() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// Whether the process has no other thread; false in doubt.
pub(crate) fn is_only() -> bool {
    // A folder is named once by each that lies in it, by itself and by its parent.
    rustix::fs::stat("/proc/self/task").is_ok_and(|folder| folder.st_nlink == 3)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "signals")]
    fn a_deaf_thread_has_all_signals_blocked_and_its_starter_none_more() {
        let blocked = || {
            let mut set = MaybeUninit::uninit();
            // SAFETY: the call fills the set, of which one member is looked at.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr());
                libc::sigismember(set.as_ptr(), libc::SIGUSR1) == 1
            }
        };
        let (say, hear) = std::sync::mpsc::channel();
        let thread = start_deaf("deaf", move || say.send(blocked()).unwrap()).unwrap();
        assert!(hear.recv().unwrap());
        thread.join().unwrap();
        assert!(!blocked());
    }
}
