//! Who holds a process's liveness word: a thread that cannot end before the process.
//!
//! ```text
//! the process is entered by its first thread:   that one holds the word
//!                        by another thread:     one of the engine's own, which waits for nothing else (the holder)
//! the first thread ends, others go on:          a holder takes over
//! the first thread forks:                       it takes over from the holder, which ends
//! ```
//!
//! Two words, of which the slot says which counts, let one thread take over from another with no moment in between
//! in which a death would not be marked. Who sleeps on the former word is woken, and sleeps on the other one. Where no thread can be started, the process is known by its number.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::failpoint;
use crate::memory::owner::ProcId;
use crate::memory::{Arena, home_if_any, lock};
use crate::process::table::{ProcessEntry, Told};
use crate::sys::thread::{at_end, is_first, is_left_alone, is_only, spawn_without_signals};

/// How often a holder looks whether it is all that is left of the process, which then ends.
const LOOK: Duration = Duration::from_secs(1);

/// The threads that hold a liveness word, where they are the engine's.
static HOLDERS: Mutex<Holders> = Mutex::new(Holders(Vec::new()));

/// One for each slot that this process has: when it moves it has two for a moment.
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
    Cannot,
    /// It is to let go, and to end.
    Ends,
}

impl Command {
    fn set(&self, step: Step) {
        *lock(&self.step) = step;
        self.changed.notify_all();
    }

    /// Waits for a while; whether the thread is to go on.
    fn goes_on(&self) -> bool {
        let step = lock(&self.step);
        let is_held = |now: &mut Step| *now == Step::Holds;
        let waited = self.changed.wait_timeout_while(step, LOOK, is_held);
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
    /// The slots whose liveness words this thread holds: there until the very end of the thread.
    static HELD: ManuallyDrop<RefCell<Vec<ProcId>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// At the end of a thread.
fn pass_on() {
    // The last thread ends with its process, and the word tells at once.
    let arena = home_if_any().filter(|_| !is_only());
    // In the child of a raw `clone` the words are its parent's.
    if let Some(arena) = arena.filter(|_| crate::process::fork::current().is_some()) {
        for owner in HELD.with(|held| held.take()) {
            arena.holder_ends(owner);
        }
    }
}

/// To be held across a fork: a child must not find the list in the hands of a thread that it does not have.
pub(crate) fn settled() -> MutexGuard<'static, Holders> {
    lock(&HOLDERS)
}

impl Holders {
    /// Has a thread of the engine's hold one of the liveness words of this process; whether it does.
    fn start(&mut self, entry: &'static ProcessEntry, owner: ProcId, word: usize) -> bool {
        let command = Arc::new(Command::default());
        let its = command.clone();
        let keep = move || {
            if !entry.liveness[word].hold() {
                return its.set(Step::Cannot);
            }
            its.set(Step::Holds);
            while its.goes_on() {
                if is_left_alone() {
                    // As the C library does it when a process's last thread ends.
                    std::process::exit(0);
                }
            }
            entry.liveness[word].unlock();
        };
        let Ok(thread) = spawn_without_signals("procession-life", keep) else {
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

    /// Ends the thread that holds a word of this slot; whether there was one.
    fn end(&mut self, owner: ProcId) -> bool {
        let Some(at) = self.0.iter().position(|running| running.owner == owner) else {
            return false;
        };
        let running = self.0.swap_remove(at);
        running.command.set(Step::Ends);
        // It does not panic, and if it did it is gone as well.
        let _ = running.thread.join();
        true
    }

    /// Before a fork: the first thread holds the words from here on, and a process whose other threads have all
    /// ended has no more than this one.
    pub(crate) fn hand_to_first_thread(&mut self, arena: &Arena) {
        if self.0.is_empty() || !is_first() {
            return;
        }
        let owners: Vec<ProcId> = self.0.iter().map(|running| running.owner).collect();
        for owner in owners {
            if arena.take_over(owner, hold_here) {
                self.end(owner);
            }
        }
    }

    /// In a child: the threads are its parent's, and so are the words that this thread held.
    pub(crate) fn forget(&mut self) {
        // To wait for them would be for ever.
        self.0.drain(..).for_each(std::mem::forget);
        HELD.with(|held| held.borrow_mut().clear());
    }
}

/// Holds one of the words in this thread.
fn hold_here(entry: &'static ProcessEntry, owner: ProcId, word: usize) -> bool {
    let holds = (cfg!(miri) || at_end(pass_on)) && entry.liveness[word].hold();
    if holds {
        HELD.with(|held| held.borrow_mut().push(owner));
    }
    holds
}

impl Arena {
    /// Has a thread hold the liveness word of the slot that this process just took; whether one does.
    pub(crate) fn hold_liveness(&self, owner: ProcId) -> bool {
        let entry = self.own_seat(owner);
        // Miri knows no deaths, and wants all threads joined.
        let by_keeper = !cfg!(miri) && !is_first() && settled().start(entry, owner, 0);
        by_keeper || hold_here(entry, owner, 0)
    }

    /// The thread that holds the word ends before its process.
    ///
    /// Not when that is leaving: then all its threads most likely end, and the word tells at once.
    fn holder_ends(&self, owner: ProcId) {
        let mut holders = settled();
        let start = |entry, owner, word| holders.start(entry, owner, word);
        if self.is_live(owner) && !self.take_over(owner, start) {
            self.know_by_number(owner);
        }
    }

    /// Has `hold` hold the liveness word that does not count, which counts from then on.
    fn take_over(
        &self,
        owner: ProcId,
        hold: impl FnOnce(&'static ProcessEntry, ProcId, usize) -> bool,
    ) -> bool {
        let entry = self.own_seat(owner);
        let Told::ByLiveness(now) = entry.told(owner.epoch()) else {
            return false;
        };
        let next = 1 - now;
        if !hold(entry, owner, next) {
            return false;
        }
        failpoint::hit("process.taking_over");
        self.tell_by(owner, Told::ByLiveness(next));
        true
    }

    /// Lets go of the liveness word of a slot that this process leaves, of which it is known by its number then. False
    /// when another thread has the word: it tells of the end.
    pub(crate) fn let_go_of_liveness(&self, owner: ProcId) -> bool {
        let entry = self.own_seat(owner);
        let told = entry.told(owner.epoch());
        // Killed after letting go, the process is found dead by its number.
        self.know_by_number(owner);
        failpoint::hit("process.vacating");
        if settled().end(owner) {
            return true;
        }
        let Told::ByLiveness(now) = told else {
            return true;
        };
        let let_go = entry.liveness[now].unlock();
        match let_go {
            true => HELD.with(|held| held.borrow_mut().retain(|&other| other != owner)),
            false => self.tell_by(owner, told),
        }
        let_go
    }

    /// A slot of this process's.
    fn own_seat(&self, owner: ProcId) -> &'static ProcessEntry {
        let root = self.root.as_ptr();
        // SAFETY: the root is mapped for good, and made of atomics and of words that only this process makes.
        unsafe { &(*root).processes[owner.slot() as usize] }
    }
}
