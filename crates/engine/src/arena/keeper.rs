//! Who holds a process's life word: a thread that cannot end before the process.
//!
//! ```text
//! the process is entered by its first thread:   that one holds the word
//!                        by another thread:     one of the engine's own, which waits for nothing else (the keeper)
//! the first thread ends, others go on:          a keeper takes over
//! the first thread forks:                       it takes over from the keeper, which ends
//! ```
//!
//! Two words, of which the seat says which counts, let one thread take over from another with no moment in between
//! in which a death would not be marked. Who sleeps on the former word is woken, and sleeps on the other one. Where no thread can be started, the process is known by its number.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::owner::OwnerId;
use super::seat::{SeatEntry, Told};
use super::{Arena, home_if_any, lock};
use crate::kill;
use crate::sys::thread::{at_end, is_first, is_left_alone, is_only, start_deaf};

/// How often a keeper looks whether it is all that is left of the process, which then ends.
const LOOK: Duration = Duration::from_secs(1);

/// The threads that hold a life word, where they are the engine's.
static KEEPERS: Mutex<Keepers> = Mutex::new(Keepers(Vec::new()));

/// One for each seat that this process has: when it moves it has two for a moment.
pub(super) struct Keepers(Vec<Running>);

struct Running {
    owner: OwnerId,
    order: Arc<Order>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Order {
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

impl Order {
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
    /// The seats whose life words this thread holds: there until the very end of the thread.
    static HELD: ManuallyDrop<RefCell<Vec<OwnerId>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// At the end of a thread.
fn pass_on() {
    // The last thread ends with its process, and the word tells at once.
    let arena = home_if_any().filter(|_| !is_only());
    // In the child of a raw `clone` the words are its parent's.
    if let Some(arena) = arena.filter(|_| super::fork::current().is_some()) {
        for owner in HELD.with(|held| held.take()) {
            arena.holder_ends(owner);
        }
    }
}

/// To be held across a fork: a child must not find the list in the hands of a thread that it does not have.
pub(super) fn settled() -> MutexGuard<'static, Keepers> {
    lock(&KEEPERS)
}

impl Keepers {
    /// Has a thread of the engine's hold one of the life words of this process; whether it does.
    fn start(&mut self, entry: &'static SeatEntry, owner: OwnerId, word: usize) -> bool {
        let order = Arc::new(Order::default());
        let its = order.clone();
        let keep = move || {
            if !entry.lives[word].hold() {
                return its.set(Step::Cannot);
            }
            its.set(Step::Holds);
            while its.goes_on() {
                if is_left_alone() {
                    // As the C library does it when a process's last thread ends.
                    std::process::exit(0);
                }
            }
            entry.lives[word].let_go();
        };
        let Ok(thread) = start_deaf("procession-life", keep) else {
            return false;
        };
        let holds = order.wait_while(Step::Starting) == Step::Holds;
        if holds {
            self.0.push(Running {
                owner,
                order,
                thread,
            });
        }
        holds
    }

    /// Ends the thread that holds a word of this seat; whether there was one.
    fn end(&mut self, owner: OwnerId) -> bool {
        let Some(at) = self.0.iter().position(|running| running.owner == owner) else {
            return false;
        };
        let running = self.0.swap_remove(at);
        running.order.set(Step::Ends);
        // It does not panic, and if it did it is gone as well.
        let _ = running.thread.join();
        true
    }

    /// Before a fork: the first thread holds the words from here on, and a process whose other threads have all
    /// ended has no more than this one.
    pub(super) fn hand_to_first_thread(&mut self, arena: &Arena) {
        if self.0.is_empty() || !is_first() {
            return;
        }
        let owners: Vec<OwnerId> = self.0.iter().map(|running| running.owner).collect();
        for owner in owners {
            if arena.take_over(owner, hold_here) {
                self.end(owner);
            }
        }
    }

    /// In a child: the threads are its parent's, and so are the words that this thread held.
    pub(super) fn forget(&mut self) {
        // To wait for them would be for ever.
        self.0.drain(..).for_each(std::mem::forget);
        HELD.with(|held| held.borrow_mut().clear());
    }
}

/// Holds one of the words in this thread.
fn hold_here(entry: &'static SeatEntry, owner: OwnerId, word: usize) -> bool {
    let holds = (cfg!(miri) || at_end(pass_on)) && entry.lives[word].hold();
    if holds {
        HELD.with(|held| held.borrow_mut().push(owner));
    }
    holds
}

impl Arena {
    /// Has a thread hold the life word of the seat that this process just took; whether one does.
    pub(super) fn hold_life(&self, owner: OwnerId) -> bool {
        let entry = self.own_seat(owner);
        // Miri knows no deaths, and wants all threads joined.
        let by_keeper = !cfg!(miri) && !is_first() && settled().start(entry, owner, 0);
        by_keeper || hold_here(entry, owner, 0)
    }

    /// The thread that holds the word ends before its process.
    ///
    /// Not when that is leaving: then all its threads most likely end, and the word tells at once.
    fn holder_ends(&self, owner: OwnerId) {
        let mut keepers = settled();
        let start = |entry, owner, word| keepers.start(entry, owner, word);
        if self.is_live(owner) && !self.take_over(owner, start) {
            self.know_by_number(owner);
        }
    }

    /// Has `hold` hold the life word that does not count, which counts from then on.
    fn take_over(
        &self,
        owner: OwnerId,
        hold: impl FnOnce(&'static SeatEntry, OwnerId, usize) -> bool,
    ) -> bool {
        let entry = self.own_seat(owner);
        let Told::ByLife(now) = entry.told(owner.epoch()) else {
            return false;
        };
        let next = 1 - now;
        if !hold(entry, owner, next) {
            return false;
        }
        kill::point("seat.taking_over");
        self.tell_by(owner, Told::ByLife(next));
        true
    }

    /// Lets go of the life word of a seat that this process leaves, of which it is known by its number then. False
    /// when another thread has the word: it tells of the end.
    pub(super) fn let_go_of_life(&self, owner: OwnerId) -> bool {
        let entry = self.own_seat(owner);
        let told = entry.told(owner.epoch());
        // Killed after letting go, the process is found dead by its number.
        self.know_by_number(owner);
        kill::point("seat.vacating");
        if settled().end(owner) {
            return true;
        }
        let Told::ByLife(now) = told else {
            return true;
        };
        let let_go = entry.lives[now].let_go();
        match let_go {
            true => HELD.with(|held| held.borrow_mut().retain(|&other| other != owner)),
            false => self.tell_by(owner, told),
        }
        let_go
    }

    /// A seat of this process's.
    fn own_seat(&self, owner: OwnerId) -> &'static SeatEntry {
        let root = self.root.as_ptr();
        // SAFETY: the root is mapped for good, and made of atomics and of words that only this process makes.
        unsafe { &(*root).seats[owner.seat() as usize] }
    }
}
