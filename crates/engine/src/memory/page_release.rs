//! Threads that return pages to the system.
//!
//! While such a thread runs, its process does not count as dead. What the kernel does for the thread may continue for a
//! moment after the thread that holds the liveness word has ended. Other processes must not take over the blocks in
//! that time.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::Arena;
use crate::arena::owner::ProcId;
use crate::sys::robust_mutex::LivenessWord;

/// See [`Arena::begin_page_release`].
pub(crate) struct PageRelease<'a>(&'a LivenessWord);

/// The process of which a thread is returning pages. A forked child sees its parent's id here, which is not its own.
static RELEASING: AtomicU32 = AtomicU32::new(0);

/// Waits until no other thread of this process is returning pages. That is soon: such a thread makes the kernel's call
/// and does nothing else.
fn lock_page_release(me: ProcId) {
    loop {
        let other = RELEASING.load(Ordering::Relaxed);
        if other != me.as_u32()
            && RELEASING
                .compare_exchange(other, me.as_u32(), Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        {
            return;
        }
        std::thread::sleep(std::time::Duration::from_micros(50));
    }
}

impl Drop for PageRelease<'_> {
    fn drop(&mut self) {
        self.0.unlock();
        RELEASING.store(0, Ordering::Release);
    }
}

impl Arena {
    /// Until the guard is dropped, this process does not count as dead before all its threads have ended: what the
    /// kernel does for one thread is not cut short by the end of the others. `None` if the process already counts as
    /// dead.
    ///
    /// SYNC: lock, then check for death. A process that asks whether this one is dead checks for death, then the lock.
    pub(crate) fn begin_page_release(&self) -> Option<PageRelease<'_>> {
        let me = self.me();
        let entry = self.entry(me);
        lock_page_release(me);
        // Initialised each time: no other thread has it, and other processes may have written to it.
        let _marked = entry.giving_back.init() && entry.giving_back.lock();
        let guard = PageRelease(&entry.giving_back);
        std::sync::atomic::fence(Ordering::SeqCst);
        (!entry.liveness_ended(me.epoch())).then_some(guard)
    }
}

#[cfg(all(test, not(loom), not(miri)))]
pub(crate) mod tests {
    use super::*;
    use rustix::io::{read, write};
    use rustix::process::{Pid, WaitOptions, waitpid};
    use std::os::fd::OwnedFd;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    const TIMEOUT: Duration = Duration::from_secs(20);

    #[test]
    fn threads_release_pages_one_after_the_other_whatever_was_written_to_the_lock() {
        let arena = crate::process_table::home().expect("an arena");
        // As if a thread that does not exist held it.
        let word = arena.entry(arena.me()).giving_back.word();
        word.store(0x3fff_ffff, Ordering::Release);
        let (tell, told) = channel();
        let (say, said) = channel();
        let first = {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let guard = arena.begin_page_release();
                tell.send("first").expect("a receiver");
                let _: Result<(), _> = said.recv_timeout(TIMEOUT);
                drop(guard);
            })
        };
        assert_eq!(told.recv_timeout(TIMEOUT), Ok("first"));
        let second = std::thread::spawn(move || {
            assert!(arena.begin_page_release().is_some());
            tell.send("second").expect("a receiver");
        });
        assert!(told.try_recv().is_err(), "the first one is at it");
        say.send(()).expect("a receiver");
        assert_eq!(told.recv_timeout(TIMEOUT), Ok("second"));
        first.join().expect("its end");
        second.join().expect("its end");
    }

    /// A child whose first thread ends while another thread is in the kernel, returning pages.
    pub(crate) struct ReleasesLater {
        pid: libc::pid_t,
        pub(crate) id: ProcId,
        ends: OwnedFd,
        go_on: OwnedFd,
    }

    impl ReleasesLater {
        pub(crate) fn start(arena: &'static Arena) -> ReleasesLater {
            let (told, tell) = rustix::pipe::pipe().expect("a pipe");
            let (heard, go_on) = rustix::pipe::pipe().expect("a pipe");
            let (end, ends) = rustix::pipe::pipe().expect("a pipe");
            // SAFETY: the child starts a thread, makes system calls, and ends by `_exit`.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let await_word = move || read(&heard, &mut [0; 1]);
                std::thread::spawn(move || {
                    let release = arena.begin_page_release();
                    let me = arena.me().as_u32().to_ne_bytes();
                    let _ = write(&tell, &me).and_then(|_| await_word());
                    drop(release);
                    let _ = await_word();
                    // SAFETY: a call without preconditions.
                    unsafe { libc::_exit(7) }
                });
                // SAFETY: only this thread ends, the one that holds the liveness word; the alarm ends a child that
                // would wait for ever.
                unsafe {
                    libc::alarm(60);
                    let _ = read(&end, &mut [0; 1]);
                    libc::syscall(libc::SYS_exit, 0);
                }
            }
            let mut id = [0; 4];
            assert_eq!(read(&told, &mut id), Ok(4));
            let id = ProcId::from_u32(u32::from_ne_bytes(id)).expect("an id");
            ReleasesLater {
                pid,
                id,
                ends,
                go_on,
            }
        }

        pub(crate) fn lose_first_thread(&self, arena: &Arena) {
            assert_eq!(write(&self.ends, b"x"), Ok(1));
            while !arena.has_lost_its_thread(self.id) {
                std::thread::yield_now();
            }
            assert!(!arena.is_dead(self.id), "its thread is in the kernel still");
        }

        pub(crate) fn release_pages(self, arena: &Arena) {
            assert_eq!(write(&self.go_on, b"x"), Ok(1));
            while !arena.is_dead(self.id) {
                std::thread::yield_now();
            }
            assert_eq!(write(&self.go_on, b"x"), Ok(1));
            let ended = waitpid(Pid::from_raw(self.pid), WaitOptions::empty());
            let (_, status) = ended.expect("a child").expect("its end");
            assert_eq!(status.exit_status(), Some(7));
        }
    }

    #[test]
    fn a_process_is_not_dead_while_a_thread_of_it_releases_pages() {
        let arena = crate::process_table::home().expect("an arena");
        let child = ReleasesLater::start(arena);
        child.lose_first_thread(arena);
        child.release_pages(arena);
    }
}
