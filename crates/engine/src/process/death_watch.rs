//! Long sleeps: how a sleeper learns of a death without looking up.
//!
//! Whoever publishes something wakes those that sleep. Killed before it came to that, it wakes nobody, and what it had
//! in hand is free for others, which nobody tells them. So a sleeper looks around after its first nap, and if nothing
//! has happened by then it sleeps for good, on these words besides its own:
//!
//! ```text
//! the liveness word of every other process   marked by the kernel, which wakes one sleeper
//! changes                                a process came, or another word counts: the list of liveness words is not complete
//! deaths                                 somebody told of a death
//! successors                                  always zero: the kernel wakes one sleeper when a sleeper is killed
//! ```
//!
//! The kernel looks at the first three before it lets a sleeper fall asleep, so nothing is missed in between. Who is
//! woken looks at all processes and [tells](Arena::tell_of) of each death that nobody told of: that wakes all the others, and
//! each looks at what it waits for. One that naps on a liveness word may be the one that is woken, and does the same
//! (`wait_registry::nap`); and as one that naps does not sleep on `deaths`, who tells wakes those as well that sleep on the life
//! words of the dead. Should the one that was woken be killed before it did so, the kernel wakes another in
//! its place ([`robust_mutex::wake_on_death`]); of any number of processes that are killed together the last one wakes somebody
//! who lives. One that reaps a process tells of it first. Should it be stopped, the others find what it did not tell
//! after the [longest](futex::longest) sleep.
//!
//! What the kernel does not tell of (processes that are known by their numbers, that are still starting, or are too
//! many for one call) is looked at after every nap, as is everything where the kernel cannot wait for several words. A
//! word may be marked before its process is dead, while another thread of that is in the kernel: who is woken first has
//! the others that sleep there nap.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::deadline::Deadline;
use crate::failpoint;
use crate::memory::Arena;
use crate::memory::owner::ProcId;
use crate::process::entry_state::Stage;
use crate::process::table::ProcessEntry;
use crate::sync::eventcount::EventCount;
use crate::sys::futex::{self, NAP, SHORT_NAP, Slept};
use crate::sys::robust_mutex::{self, LivenessWord};

/// The words of long sleeps, in the root.
#[repr(C)]
pub(crate) struct LongSleep {
    deaths: EventCount,
    changes: EventCount,
    successors: AtomicU32,
    _pad: AtomicU32,
}

/// The words a sleep takes beside the caller's and the liveness words.
const OWN: usize = 4;

type Words<'a> = Vec<(&'a AtomicU32, u32)>;

impl Arena {
    /// To be asked before a look at what is waited for, after which [`Arena::sleep_long`] is called.
    pub(crate) fn note_deaths(&self) -> u32 {
        self.root().long_sleep.deaths.announce()
    }

    /// Sleeps while every word of `words` holds what stands beside it, until `deadline`, or a death that was not
    /// told of when [`Arena::note_deaths`] said `noted`.
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
        // Before anything is looked at: from here on another takes over when this thread is killed.
        let Some(_heir) = robust_mutex::wake_on_death(&common.successors) else {
            return futex::wait_any(words, deadline);
        };
        let changes = common.changes.announce();
        let mut all: Words<'_> = words.to_vec();
        all.truncate(futex::WAITV_MAX - OWN);
        all.push((common.deaths.word(), noted));
        all.push((common.changes.word(), changes));
        all.push((&common.successors, 0));
        let holds_own = all.len() >= words.len() + OWN - 1;
        let knows_all = self.look_at_lives(Some(&mut all));
        let longest = match (holds_own, knows_all) {
            (true, true) => futex::longest(),
            (true, false) => NAP,
            (false, _) => SHORT_NAP,
        };
        failpoint::hit("deaths.asleep");
        let slept = futex::wait_long(&all, deadline, longest);
        if slept.is_some() {
            self.look_at_lives(None);
        }
        slept.unwrap_or_else(|| futex::wait_any(words, deadline))
    }

    /// Tells of the deaths that nobody told of, and adds the liveness words of the others to `words`. False when it
    /// does not hold all of them, or the end of one shows elsewhere.
    fn look_at_lives<'a>(&'a self, mut words: Option<&mut Words<'a>>) -> bool {
        let me = self.me();
        let mut knows_all = true;
        for owner in self.occupied() {
            let entry = self.entry(owner);
            if owner == me || entry.announced.load(Ordering::SeqCst) == owner.epoch() {
                continue;
            }
            if self.is_dead(owner) {
                self.tell_of(owner);
                continue;
            }
            match self.closely_watched(owner, entry) {
                None => {
                    knows_all = false;
                    self.wake_if_marked(entry);
                }
                Some(life) => match &mut words {
                    Some(words) if words.iter().any(|(word, _)| ptr::eq(*word, life.0)) => {}
                    Some(words) if words.len() + 1 < futex::WAITV_MAX => words.push(life),
                    _ => knows_all = false,
                },
            }
        }
        knows_all
    }

    /// Tells of the deaths that nobody told of.
    pub(crate) fn tell_of_the_dead(&self) {
        self.look_at_lives(None);
    }

    /// The liveness word of an occupied slot, if its occupant's end shows there.
    fn closely_watched(&self, owner: ProcId, entry: &ProcessEntry) -> Option<(&AtomicU32, u32)> {
        let sits = matches!(entry.state().stage, Stage::Live | Stage::Leaving);
        let is_marked = sits && !entry.is_known_by_number(owner.epoch());
        is_marked.then(|| self.watch_closely(owner)).flatten()
    }

    /// Wakes those that sleep, unless somebody did for this death. To be called with the process found dead, and
    /// before others can find that nobody is there.
    pub(crate) fn tell_of(&self, owner: ProcId) {
        let entry = self.entry(owner);
        let seen = entry.announced.load(Ordering::SeqCst);
        if seen != owner.epoch() {
            failpoint::hit("deaths.found");
            self.root().long_sleep.deaths.notify(u32::MAX);
            failpoint::hit("deaths.told");
            self.wake_watchers(entry);
            // Not of one that came after it had been given up.
            let (before, after) = (Ordering::SeqCst, Ordering::SeqCst);
            let _ = entry
                .announced
                .compare_exchange(seen, owner.epoch(), before, after);
        }
    }

    /// Has all that sleep on a liveness word nap instead, when its holder is gone and the process not dead yet, or not known
    /// to be: the kernel woke one of them, which may go away before that is so.
    fn wake_if_marked(&self, entry: &ProcessEntry) {
        if entry.liveness.iter().any(LivenessWord::holder_died) {
            self.wake_watchers(entry);
        }
    }

    /// Has those that sleep long look at the processes again: one more is there, or something else tells of the end
    /// of one.
    pub(crate) fn tell_of_change(&self) {
        self.root().long_sleep.changes.notify(u32::MAX);
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;
    use crate::memory::home;
    use crate::memory::page_release::tests::ReleasesLater;
    use std::thread::Scope;

    /// Sleeps long in a thread, and says for how long at most.
    fn asleep<'scope>(
        scope: &'scope Scope<'scope, '_>,
        word: &'scope AtomicU32,
    ) -> std::thread::ScopedJoinHandle<'scope, Deadline> {
        let (say, hear) = std::sync::mpsc::channel();
        let thread = scope.spawn(move || {
            let arena = home().expect("an arena");
            say.send(rustix::thread::gettid()).expect("it hears");
            let deadline = Deadline::after(std::time::Duration::from_secs(20));
            arena.sleep_long(&[(word, 0)], arena.note_deaths(), deadline);
            deadline
        });
        let path = format!(
            "/proc/self/task/{}/syscall",
            hear.recv().expect("a thread").as_raw_nonzero()
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
    fn run_apart(test: &str) {
        let name = format!("process::death_watch::tests::{test}");
        let ran = std::process::Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", &name, "--ignored"])
            .output()
            .expect("it starts");
        let printed = String::from_utf8_lossy(&ran.stdout);
        assert!(printed.contains("1 passed"), "{printed}");
    }

    #[test]
    fn when_a_word_is_marked_before_its_process_is_dead_all_that_sleep_on_it_wake_up() {
        run_apart("all_that_sleep_on_a_marked_word_wake_up");
    }

    #[test]
    fn one_that_died_on_the_way_to_its_seat_keeps_nobody_from_sleeping_long() {
        run_apart("the_end_of_one_that_died_on_the_way_is_told");
    }

    #[test]
    #[ignore = "the one above runs it in a process of its own: others would sit down, and give up slots"]
    fn the_end_of_one_that_died_on_the_way_is_told() {
        let arena = home().expect("an arena");
        let slot = arena.reserve(Some(arena.me())).expect("a slot");
        let mut child = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("it starts");
        arena.note_pid(slot, child.id());
        assert!(!arena.look_at_lives(None), "it may come yet");
        drop(child.stdin.take());
        child.wait().expect("it ends");
        assert!(arena.look_at_lives(None));
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
        // One of many is in time on any machine.
        assert!((0..20).any(|_| nap() < NAP));
    }

    #[test]
    #[ignore = "the one above runs it in a process of its own: its child would hold what other tests let go of"]
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
