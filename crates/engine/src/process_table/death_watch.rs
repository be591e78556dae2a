//! Long sleeps: how a sleeper learns of a death without polling.
//!
//! A process that publishes something wakes the sleepers. If it is killed before the wake, it wakes nobody, and what
//! it held is available to others without anybody telling them. So a sleeper looks around after its first nap. If
//! nothing has happened by then, it sleeps for good, on these words besides its own:
//!
//! ```text
//! the liveness word of every other process   marked by the kernel, which wakes one sleeper
//! changes          a process came, or another word became current: the list of liveness words is incomplete
//! deaths           a death was announced
//! sleeper_death    always zero: the kernel wakes one sleeper when a sleeper is killed
//! ```
//!
//! The kernel compares the first three before it puts a sleeper to sleep, so nothing is missed in between. A woken
//! sleeper checks all processes and [announces](Arena::announce_death) each death that nobody announced yet. That
//! wakes all the others, and each checks what it waits for. A thread that naps on a liveness word may be the one that
//! is woken; it does the same (`wait_registry::nap`). A napping thread does not sleep on `deaths`, so the announcer
//! also wakes the sleepers on the dead process's liveness words. If the woken thread is killed before it announces
//! the death, the kernel wakes another one ([`robust_mutex::wake_on_death`]): of any number of processes that are
//! killed together, the last one wakes a living sleeper. A process that reaps another announces the death first. If
//! it is stopped, the others find what it did not announce after the [longest](futex::longest) sleep.
//!
//! Some processes are outside what the kernel reports: those tracked by their PID, those still starting, and those
//! beyond the number of words in one call. They are checked after every nap, as is everything where the kernel cannot
//! wait for several words. A word may be marked before its process is dead, while another thread of that process is
//! in the kernel. The first thread that is woken then makes the other sleepers on that word nap.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::Arena;
use crate::arena::entry_state::Stage;
use crate::arena::owner::ProcId;
use crate::arena::process_entry::ProcessEntry;
use crate::deadline::Deadline;
use crate::failpoint;
use crate::sys::futex::{self, NAP, SHORT_NAP, Slept};
use crate::sys::robust_mutex::{self, LivenessWord};

/// The words that a sleep needs besides the caller's and the liveness words.
const OWN_WORDS: usize = 4;

type Words<'a> = Vec<(&'a AtomicU32, u32)>;

impl Arena {
    /// Call this before the check of what is waited for, and [`Arena::sleep_long`] after it.
    pub(crate) fn note_deaths(&self) -> u32 {
        self.root().long_sleep.deaths.announce()
    }

    /// Sleeps while every word of `words` holds its expected value: until `deadline`, or until a death that had not
    /// been announced when [`Arena::note_deaths`] returned `noted`.
    pub(crate) fn sleep_long(
        &'static self,
        words: &[(&AtomicU32, u32)],
        noted: u32,
        deadline: Deadline,
    ) -> Slept {
        let common = &self.root().long_sleep;
        if !futex::can_wait_for_several() {
            return futex::wait_any(words, deadline);
        }
        // Before any check: from here on, another sleeper takes over if this thread is killed.
        let Some(_wakes_another) = robust_mutex::wake_on_death(&common.sleeper_death) else {
            return futex::wait_any(words, deadline);
        };
        let changes = common.changes.announce();
        let mut all: Words<'_> = words.to_vec();
        all.truncate(futex::WAITV_MAX - OWN_WORDS);
        all.push((common.deaths.word(), noted));
        all.push((common.changes.word(), changes));
        all.push((&common.sleeper_death, 0));
        let holds_own = all.len() >= words.len() + OWN_WORDS - 1;
        let knows_all = self.check_processes(Some(&mut all));
        let longest = match (holds_own, knows_all) {
            (true, true) => futex::longest(),
            (true, false) => NAP,
            (false, _) => SHORT_NAP,
        };
        failpoint::hit("death_watch.asleep");
        let slept = futex::wait_long(&all, deadline, longest);
        if slept.is_some() {
            self.check_processes(None);
        }
        slept.unwrap_or_else(|| futex::wait_any(words, deadline))
    }

    /// Announces the deaths that nobody announced, and adds the liveness words of the living to `words`. False when
    /// `words` does not hold all of them, or when the end of a process shows elsewhere.
    fn check_processes<'a>(&'a self, mut words: Option<&mut Words<'a>>) -> bool {
        let me = self.me();
        let mut knows_all = true;
        for owner in self.occupied() {
            let entry = self.entry(owner);
            if owner == me || entry.announced.load(Ordering::SeqCst) == owner.epoch() {
                continue;
            }
            if self.is_dead(owner) {
                self.announce_death(owner);
                continue;
            }
            match self.closely_watched(owner, entry) {
                None => {
                    knows_all = false;
                    self.wake_if_marked(entry);
                }
                Some(liveness) => match &mut words {
                    Some(words) if words.iter().any(|(word, _)| ptr::eq(*word, liveness.0)) => {}
                    Some(words) if words.len() + 1 < futex::WAITV_MAX => words.push(liveness),
                    _ => knows_all = false,
                },
            }
        }
        knows_all
    }

    /// Announces the deaths that nobody announced.
    pub(crate) fn announce_deaths(&self) {
        self.check_processes(None);
    }

    /// The liveness word of an entry in use, if the end of its occupant shows there.
    fn closely_watched(&self, owner: ProcId, entry: &ProcessEntry) -> Option<(&AtomicU32, u32)> {
        let is_occupied = matches!(entry.state().stage, Stage::Live | Stage::Leaving);
        let is_marked = is_occupied && !entry.is_tracked_by_pid(owner.epoch());
        is_marked.then(|| self.watch_closely(owner)).flatten()
    }

    /// Wakes the sleepers, unless this death was announced already. Call it when the process was found dead, and
    /// before others can find its entry free.
    pub(crate) fn announce_death(&self, owner: ProcId) {
        let entry = self.entry(owner);
        let seen = entry.announced.load(Ordering::SeqCst);
        if seen != owner.epoch() {
            failpoint::hit("death_watch.found");
            self.root().long_sleep.deaths.notify(u32::MAX);
            failpoint::hit("death_watch.announced");
            self.wake_watchers(entry);
            // Not if a later occupant has claimed the entry by now.
            let (before, after) = (Ordering::SeqCst, Ordering::SeqCst);
            let _ = entry
                .announced
                .compare_exchange(seen, owner.epoch(), before, after);
        }
    }

    /// Makes all sleepers on a liveness word nap instead, when its holder is gone but the process is not dead, or not
    /// known to be: the kernel woke one of them, and that one may go away before the process is dead.
    fn wake_if_marked(&self, entry: &ProcessEntry) {
        if entry.liveness.iter().any(LivenessWord::holder_died) {
            self.wake_watchers(entry);
        }
    }

    /// Makes the long sleepers check the processes again: there is one more, or something else reports the end of
    /// one.
    pub(crate) fn announce_change(&self) {
        self.root().long_sleep.changes.notify(u32::MAX);
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;
    use crate::memory::page_release::tests::ReleasesLater;
    use crate::process_table::home;
    use std::thread::Scope;

    /// Starts a long sleep in a thread, which returns the deadline of the sleep.
    fn asleep<'scope>(
        scope: &'scope Scope<'scope, '_>,
        word: &'scope AtomicU32,
    ) -> std::thread::ScopedJoinHandle<'scope, Deadline> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = scope.spawn(move || {
            let arena = home().expect("an arena");
            sender
                .send(rustix::thread::gettid())
                .expect("the test receives it");
            let deadline = Deadline::after(std::time::Duration::from_secs(20));
            arena.sleep_long(&[(word, 0)], arena.note_deaths(), deadline);
            deadline
        });
        let path = format!(
            "/proc/self/task/{}/syscall",
            receiver.recv().expect("a thread").as_raw_nonzero()
        );
        let sleeps = || {
            let call = std::fs::read_to_string(&path).unwrap_or_default();
            call.starts_with(&format!("{} ", libc::SYS_futex_waitv))
        };
        while !thread.is_finished() && !sleeps() {
            std::thread::yield_now();
        }
        thread
    }

    /// Runs one of the tests here in a process of its own.
    fn run_in_own_process(test: &str) {
        let name = format!("process_table::death_watch::tests::{test}");
        let ran = std::process::Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", &name, "--ignored"])
            .output()
            .expect("it starts");
        let printed = String::from_utf8_lossy(&ran.stdout);
        assert!(printed.contains("1 passed"), "{printed}");
    }

    #[test]
    fn when_a_word_is_marked_before_its_process_is_dead_all_that_sleep_on_it_wake_up() {
        run_in_own_process("all_that_sleep_on_a_marked_word_wake_up");
    }

    #[test]
    fn one_that_died_on_the_way_to_its_entry_keeps_nobody_from_sleeping_long() {
        run_in_own_process("the_end_of_one_that_died_on_the_way_is_told");
    }

    #[test]
    #[ignore = "the one above runs it in a process of its own: other tests would claim and release entries"]
    fn the_end_of_one_that_died_on_the_way_is_told() {
        let arena = home().expect("an arena");
        let slot = arena.reserve(Some(arena.me())).expect("a slot");
        let mut child = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("it starts");
        arena.note_pid(slot, child.id());
        assert!(!arena.check_processes(None), "it may come yet");
        drop(child.stdin.take());
        child.wait().expect("it ends");
        assert!(arena.check_processes(None));
    }

    #[test]
    fn words_beyond_what_the_kernel_takes_are_looked_at_after_a_short_nap() {
        let arena = home().expect("an arena");
        let words = [(); futex::WAITV_MAX].map(|()| AtomicU32::new(0));
        let words: Vec<_> = words.iter().map(|word| (word, 0)).collect();
        let nap = || {
            let begun = std::time::Instant::now();
            let deadline = Deadline::after(10 * NAP);
            arena.sleep_long(&words, arena.note_deaths(), deadline);
            begun.elapsed()
        };
        // One of many attempts is in time on any machine.
        assert!((0..20).any(|_| nap() < NAP));
    }

    #[test]
    #[ignore = "the one above runs it in a process of its own: its child would hold what other tests release"]
    fn all_that_sleep_on_a_marked_word_wake_up() {
        let arena = home().expect("an arena");
        let child = ReleasesLater::start(arena);
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            // The kernel wakes one of them, which does not come back.
            let sleepers = [(); 3].map(|()| asleep(scope, &word));
            child.lose_first_thread(arena);
            for sleeper in sleepers {
                let deadline = sleeper.join().expect("it does not panic");
                assert!(!deadline.is_past());
            }
        });
        child.release_pages(arena);
    }
}
