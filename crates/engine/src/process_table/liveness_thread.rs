//! Which thread holds the liveness word of a process: one that cannot end before the process.
//!
//! ```text
//! the first thread claims the entry:      it holds the word
//! another thread claims the entry:        a thread of the engine, which does nothing else, holds it (the holder)
//! the first thread ends, others run on:   a holder takes over
//! the first thread forks:                 it takes over from the holder, which ends
//! ```
//!
//! There are two words, and the entry says which one is current. So one thread can take over from another without a
//! moment in which a death would not be marked. Sleepers on the former word are woken and sleep on the other one.
//! Where no thread can be started, the process is tracked by its PID.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::arena::owner::ProcId;
use crate::arena::process_entry::{LivenessSource, ProcessEntry};
use crate::arena::{Arena, home_if_any};
use crate::failpoint;
use crate::sys::thread::lock;
use crate::sys::thread::{at_end, is_first, is_left_alone, is_only, spawn_without_signals};

/// How often a holder checks whether it is the last thread of the process; the process then ends.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The engine's own threads that hold a liveness word.
static HOLDERS: Mutex<Holders> = Mutex::new(Holders(Vec::new()));

/// One for each entry of this process: a process that moves to another entry briefly has two.
pub(crate) struct Holders(Vec<Running>);

struct Running {
    owner: ProcId,
    command: Arc<Command>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Command {
    step: Mutex<Step>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Step {
    #[default]
    Starting,
    Holds,
    /// The kernel would not mark its end.
    Failed,
    /// It is to release the word and end.
    Ending,
}

impl Command {
    fn set(&self, step: Step) {
        *lock(&self.step) = step;
        self.changed.notify_all();
    }

    /// Waits for a while. Returns whether the thread is to go on.
    fn keep_waiting(&self) -> bool {
        let step = lock(&self.step);
        let is_held = |now: &mut Step| *now == Step::Holds;
        let waited = self
            .changed
            .wait_timeout_while(step, CHECK_INTERVAL, is_held);
        waited.unwrap_or_else(|e| e.into_inner()).1.timed_out()
    }

    fn wait_while(&self, step: Step) -> Step {
        let waited = self
            .changed
            .wait_while(lock(&self.step), |now| *now == step);
        *waited.unwrap_or_else(|e| e.into_inner())
    }
}

thread_local! {
    /// The entries whose liveness words this thread holds. Never dropped, so that it exists until the very end of the
    /// thread.
    static HELD: ManuallyDrop<RefCell<Vec<ProcId>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// Runs at the end of a thread.
fn hand_over() {
    // The last thread ends with its process, and the kernel marks the word at once.
    let arena = home_if_any().filter(|_| !is_only());
    // In the child of a raw `clone`, the words belong to its parent.
    if let Some(arena) = arena.filter(|_| crate::process_table::identity::current().is_some()) {
        for owner in HELD.with(|held| held.take()) {
            arena.holder_ends(owner);
        }
    }
}

/// Held across a fork: the child must not find the list locked by a thread that it does not have.
pub(crate) fn lock_holders() -> MutexGuard<'static, Holders> {
    lock(&HOLDERS)
}

impl Holders {
    /// Starts a thread that holds one of the liveness words of this process. Returns whether it does.
    fn start(&mut self, entry: &'static ProcessEntry, owner: ProcId, word: usize) -> bool {
        let command = Arc::new(Command::default());
        let thread_command = command.clone();
        let hold_word = move || {
            if !entry.liveness[word].hold() {
                return thread_command.set(Step::Failed);
            }
            thread_command.set(Step::Holds);
            while thread_command.keep_waiting() {
                if is_left_alone() {
                    // As the C library does when the last thread of a process ends.
                    std::process::exit(0);
                }
            }
            entry.liveness[word].unlock();
        };
        let Ok(thread) = spawn_without_signals("procession-life", hold_word) else {
            return false;
        };
        let holds = command.wait_while(Step::Starting) == Step::Holds;
        if holds {
            self.0.push(Running {
                owner,
                command,
                thread,
            });
        }
        holds
    }

    /// Ends the thread that holds a word of this entry. Returns whether there was one.
    fn end(&mut self, owner: ProcId) -> bool {
        let Some(at) = self.0.iter().position(|running| running.owner == owner) else {
            return false;
        };
        let running = self.0.swap_remove(at);
        running.command.set(Step::Ending);
        // It does not panic, and if it did, it would be gone as well.
        let _ = running.thread.join();
        true
    }

    /// Before a fork: the first thread holds the words from here on. So a process whose other threads have all ended
    /// keeps only this one.
    pub(crate) fn hand_to_first_thread(&mut self, arena: &Arena) {
        if self.0.is_empty() || !is_first() {
            return;
        }
        let owners: Vec<ProcId> = self.0.iter().map(|running| running.owner).collect();
        for owner in owners {
            if arena.take_over(owner, hold_in_this_thread) {
                self.end(owner);
            }
        }
    }

    /// In a child: the threads belong to its parent, as do the words that this thread held.
    pub(crate) fn forget(&mut self) {
        // Joining them would never return.
        self.0.drain(..).for_each(std::mem::forget);
        HELD.with(|held| held.borrow_mut().clear());
    }
}

/// Makes this thread hold one of the words.
fn hold_in_this_thread(entry: &'static ProcessEntry, owner: ProcId, word: usize) -> bool {
    let holds = (cfg!(miri) || at_end(hand_over)) && entry.liveness[word].hold();
    if holds {
        HELD.with(|held| held.borrow_mut().push(owner));
    }
    holds
}

impl Arena {
    /// Makes a thread hold the liveness word of the entry that this process just claimed. Returns whether one does.
    pub(crate) fn hold_liveness(&self, owner: ProcId) -> bool {
        let entry = self.own_entry(owner);
        // Miri has no deaths, and requires all threads to be joined.
        let by_holder_thread = !cfg!(miri) && !is_first() && lock_holders().start(entry, owner, 0);
        by_holder_thread || hold_in_this_thread(entry, owner, 0)
    }

    /// Replaces a holder thread that ends before its process.
    ///
    /// Does nothing when the process is leaving: then most likely all of its threads end, and the kernel marks the
    /// word at once.
    fn holder_ends(&self, owner: ProcId) {
        let mut holders = lock_holders();
        let start = |entry, owner, word| holders.start(entry, owner, word);
        if self.is_live(owner) && !self.take_over(owner, start) {
            self.track_by_pid(owner);
        }
    }

    /// Makes `hold` take the liveness word that is not current, which then becomes current.
    fn take_over(
        &self,
        owner: ProcId,
        hold: impl FnOnce(&'static ProcessEntry, ProcId, usize) -> bool,
    ) -> bool {
        let entry = self.own_entry(owner);
        let LivenessSource::Word(now) = entry.liveness_source(owner.epoch()) else {
            return false;
        };
        let next = 1 - now;
        if !hold(entry, owner, next) {
            return false;
        }
        failpoint::hit("process.taking_over");
        self.set_liveness_source(owner, LivenessSource::Word(next));
        true
    }

    /// Releases the liveness word of an entry that this process gives up; the entry is then tracked by the PID. False
    /// when another thread holds the word: then the word still reports the end.
    pub(crate) fn release_liveness(&self, owner: ProcId) -> bool {
        let entry = self.own_entry(owner);
        let source = entry.liveness_source(owner.epoch());
        // If the process is killed after the release, others find it dead by its PID.
        self.track_by_pid(owner);
        failpoint::hit("process.releasing");
        if lock_holders().end(owner) {
            return true;
        }
        let LivenessSource::Word(now) = source else {
            return true;
        };
        let let_go = entry.liveness[now].unlock();
        match let_go {
            true => HELD.with(|held| held.borrow_mut().retain(|&other| other != owner)),
            false => self.set_liveness_source(owner, source),
        }
        let_go
    }

    /// An entry of this process.
    fn own_entry(&self, owner: ProcId) -> &'static ProcessEntry {
        let root = self.root.as_ptr();
        // SAFETY: the root is mapped for good, and made of atomics and of words that only this process makes.
        unsafe { &(*root).processes[owner.slot() as usize] }
    }
}
